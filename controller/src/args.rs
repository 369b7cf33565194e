//! The command line. Every flag can be given by an environment variable as well: `--http-port` is
//! `HALE_HTTP_PORT`.
//!
//! Names are those that people already type for ingress-nginx, wherever the meaning is the same.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use hale_dataplane::{
    AccessLog, Options,
    config::{EscapedSlashes, RepeatedSlashes},
};
use ipnet::IpNet;

use crate::settings::{ObjectKey, Settings};

mod values;

pub use values::Hidden;

/// A Kubernetes ingress controller that knows which upstreams are healthy, and says why.
#[derive(Debug, Parser)]
#[command(name = "hale", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the Ingresses of a cluster.
    Run(Box<RunArgs>),
    /// Serve the objects in a folder of YAML files, without a cluster; the files are read again when they change.
    Serve(Box<ServeArgs>),
    /// Serve an example with sample backends: nothing else is needed.
    Demo(Box<DemoArgs>),
    /// Print the CustomResourceDefinition of UpstreamPolicy.
    Crds,
    /// Say which rule and which upstream a request would get from a running Hale, and why.
    Why(WhyArgs),
    /// Show the upstreams and peers of a running Hale.
    Status(StatusArgs),
    /// Make one request and compare the status.
    #[command(hide = true)]
    Probe(ProbeArgs),
}

/// How to log. Logs go to stderr; stdout is for the access log.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Which messages: error, warn, info, debug, trace, or a filter such as `info,hale_dataplane=debug` [default: info;
    /// of the demo: warn].
    #[arg(long, env = "HALE_LOG_LEVEL", value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
    /// Form of the messages.
    #[arg(
        long,
        env = "HALE_LOG_FORMAT",
        global = true,
        value_enum,
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// Form of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// An object a line.
    Json,
}

/// `hale run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Which objects are served.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Listeners and requests.
    #[command(flatten)]
    pub proxy: ProxyArgs,
    /// The cluster to talk to; without it the pod's own, else $KUBECONFIG or ~/.kube/config.
    #[arg(long, env = "HALE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The Service whose address is written to the status of Ingresses.
    #[arg(long, env = "HALE_PUBLISH_SERVICE", value_name = "NAMESPACE/NAME")]
    pub publish_service: Option<ObjectKey>,
    /// The Service whose ready pods are the replicas of this Hale: limits for all of them together are divided by
    /// their number [default: that of --publish-service; without one there is one replica].
    #[arg(long, env = "HALE_REPLICAS_SERVICE", value_name = "NAMESPACE/NAME")]
    pub replicas_service: Option<ObjectKey>,
    /// Addresses or host names, by commas, that are written to the status of Ingresses instead.
    #[arg(
        long,
        env = "HALE_PUBLISH_STATUS_ADDRESS",
        value_name = "ADDRESS",
        value_delimiter = ',',
        conflicts_with = "publish_service"
    )]
    pub publish_status_address: Vec<String>,
    /// Name of the Lease that elects the one replica that writes statuses and Events.
    #[arg(long, env = "HALE_ELECTION_ID", default_value = "hale-leader")]
    pub election_id: String,
    /// Namespace of the Lease; without it the pod's own.
    #[arg(long, env = "HALE_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    pub election_namespace: Option<String>,
    /// How long a leader that is not heard of stays leader.
    #[arg(long, env = "HALE_ELECTION_TTL", value_name = "DURATION", default_value = "15s", value_parser = values::duration)]
    pub election_ttl: Duration,
    /// Write statuses without asking whether another replica does.
    #[arg(long, env = "HALE_DISABLE_LEADER_ELECTION", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub disable_leader_election: bool,
}

/// `hale serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A folder of YAML files (sub-folders included), or one file.
    #[arg(
        long,
        short,
        env = "HALE_MANIFESTS",
        value_name = "DIR",
        value_hint = clap::ValueHint::AnyPath
    )]
    pub manifests: PathBuf,
    /// Which objects are served.
    #[command(flatten)]
    pub objects: ObjectArgs,
    /// Listeners and requests.
    #[command(flatten)]
    pub proxy: ProxyArgs,
}

/// `hale demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Listeners and requests.
    #[command(flatten)]
    pub proxy: ProxyArgs,
}

/// Which objects are served.
#[derive(Clone, Debug, Args)]
pub struct ObjectArgs {
    /// Name of the IngressClass whose Ingresses are served even if the class does not exist, and by the legacy
    /// annotation.
    #[arg(long, env = "HALE_INGRESS_CLASS", default_value = "hale")]
    pub ingress_class: String,
    /// `spec.controller` of the IngressClasses that are served.
    #[arg(
        long,
        env = "HALE_CONTROLLER_CLASS",
        default_value = "hale-ingress.io/controller"
    )]
    pub controller_class: String,
    /// The only namespace that is served; without it all.
    #[arg(long, env = "HALE_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Serve Ingresses that name no class, though no class is the default.
    #[arg(long, env = "HALE_WATCH_INGRESS_WITHOUT_CLASS", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub watch_ingress_without_class: bool,
    /// The Service whose first port answers where no Ingress does.
    #[arg(
        long,
        env = "HALE_DEFAULT_BACKEND_SERVICE",
        value_name = "NAMESPACE/NAME"
    )]
    pub default_backend_service: Option<ObjectKey>,
    /// The Secret with the certificate for hosts that have none; without it a self-made one.
    #[arg(
        long,
        env = "HALE_DEFAULT_SSL_CERTIFICATE",
        value_name = "NAMESPACE/NAME"
    )]
    pub default_ssl_certificate: Option<ObjectKey>,
    /// Answer plain HTTP with 308 to https on hosts that have TLS.
    #[arg(long, env = "HALE_SSL_REDIRECT", default_value = "true", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub ssl_redirect: bool,
    /// How %2F in paths is handled where no policy sets it: Keep forwards it as sent, Reject answers 400, Decode
    /// forwards it as `/`.
    #[arg(long, env = "HALE_ESCAPED_SLASHES", value_name = "Keep|Reject|Decode", default_value = "Keep", value_parser = values::escaped_slashes)]
    pub escaped_slashes: EscapedSlashes,
    /// How repeated slashes in paths are handled where no policy sets it: Keep forwards them as sent, Merge as one.
    #[arg(long, env = "HALE_REPEATED_SLASHES", value_name = "Keep|Merge", default_value = "Keep", value_parser = values::repeated_slashes)]
    pub repeated_slashes: RepeatedSlashes,
}

impl ObjectArgs {
    /// What translation is told. `from_files` is for objects that no cluster has checked.
    pub fn settings(&self, from_files: bool) -> Settings {
        Settings {
            ingress_class: self.ingress_class.clone(),
            controller_class: self.controller_class.clone(),
            watch_ingress_without_class: self.watch_ingress_without_class,
            watch_namespace: self.watch_namespace.clone(),
            default_backend: self.default_backend_service.clone(),
            default_certificate: self.default_ssl_certificate.clone(),
            ssl_redirect: self.ssl_redirect,
            escaped_slashes: self.escaped_slashes,
            repeated_slashes: self.repeated_slashes,
            allow_loopback_endpoints: from_files,
        }
    }
}

/// Listeners, requests and the end of the process.
#[derive(Clone, Debug, Args)]
pub struct ProxyArgs {
    /// Addresses to listen on, by commas [default: all, IPv4 and IPv6; of the demo: 127.0.0.1].
    #[arg(
        long,
        env = "HALE_LISTEN_ADDRESS",
        value_name = "IP",
        value_delimiter = ','
    )]
    pub listen_address: Vec<IpAddr>,
    /// Port for HTTP; 0 lets the system choose.
    #[arg(
        long,
        env = "HALE_HTTP_PORT",
        value_name = "PORT",
        default_value_t = 8080
    )]
    pub http_port: u16,
    /// Port for HTTPS; 0 lets the system choose.
    #[arg(
        long,
        env = "HALE_HTTPS_PORT",
        value_name = "PORT",
        default_value_t = 8443
    )]
    pub https_port: u16,
    /// Port for /livez, /readyz and /metrics, on the addresses of --listen-address; 0 lets the system choose.
    #[arg(
        long,
        env = "HALE_HEALTHZ_PORT",
        value_name = "PORT",
        default_value_t = 10254
    )]
    pub healthz_port: u16,
    /// Port for `hale status` and `hale why`, on loopback only; 0 lets the system choose.
    #[arg(
        long,
        env = "HALE_ADMIN_PORT",
        value_name = "PORT",
        default_value_t = 10255
    )]
    pub admin_port: u16,
    /// The port that redirects to https name: the one that clients see [default: 443; of serve and demo: --https-port].
    #[arg(long, env = "HALE_HTTPS_REDIRECT_PORT", value_name = "PORT")]
    pub https_redirect_port: Option<u16>,
    /// Threads for requests; 0 is one for each core.
    #[arg(long, env = "HALE_WORKERS", value_name = "N", default_value_t = 0)]
    pub workers: usize,
    /// Connections that are open at a time; more wait in the listener's queue.
    #[arg(
        long,
        env = "HALE_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 65_536
    )]
    pub max_connections: usize,
    /// Clients, by commas, that see the names and addresses of peers in a 503; loopback by default.
    #[arg(
        long,
        env = "HALE_EXPLAIN_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128",
        value_parser = values::cidr
    )]
    pub explain_cidr: Vec<IpNet>,
    /// Private networks, such as those of the cluster's pods and Services, whose addresses the URLs of policies (jwks,
    /// external) may have, by commas [default: none; of serve and demo: all]. They reach the Services of every
    /// namespace there. Link-local addresses and cloud metadata services are never asked.
    #[arg(
        long,
        env = "HALE_ALLOW_OUTBOUND_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = values::cidr
    )]
    pub allow_outbound_cidr: Option<Vec<IpNet>>,
    /// Clients, by commas, whose X-Forwarded-* headers are believed: the load balancers before Hale.
    #[arg(
        long,
        env = "HALE_TRUSTED_PROXY_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = values::cidr
    )]
    pub trusted_proxy_cidr: Vec<IpNet>,
    /// Connections from --trusted-proxy-cidr begin with a header of the PROXY protocol, version 1 or 2.
    #[arg(long, env = "HALE_USE_PROXY_PROTOCOL", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, requires_if("true", "trusted_proxy_cidr"))]
    pub use_proxy_protocol: bool,
    /// Add Via to requests to pods. Some servers, nginx among them, do not compress answers to such requests.
    #[arg(long, env = "HALE_VIA", default_value = "false", num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub via: bool,
    /// max-age of Strict-Transport-Security on responses over TLS; 0s sends no such header.
    #[arg(long, env = "HALE_HSTS_MAX_AGE", value_name = "DURATION", default_value = "0s", value_parser = values::duration)]
    pub hsts_max_age: Duration,
    /// Where the access log goes, an object a line: stdout, off, or a file that is appended to [default: stdout; of
    /// the demo: off].
    #[arg(long, env = "HALE_ACCESS_LOG", value_name = "stdout|off|FILE", value_parser = values::access_log)]
    pub access_log: Option<AccessLog>,
    /// How long to go on serving after SIGTERM, while /readyz fails and load balancers look elsewhere [default: 5s; of
    /// serve and demo: 0s].
    #[arg(long, env = "HALE_SHUTDOWN_DELAY", value_name = "DURATION", value_parser = values::duration)]
    pub shutdown_delay: Option<Duration>,
    /// How long requests under way may take after that.
    #[arg(long, env = "HALE_SHUTDOWN_GRACE_PERIOD", value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    pub shutdown_grace_period: Duration,
}

/// What `run`, `serve` and `demo` do where the command line says nothing.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The address to listen on.
    pub listen: IpAddr,
    /// Whether redirects name 443, which a load balancer before Hale answers on, or `--https-port`.
    pub redirect_to_443: bool,
    /// Whether the URLs of policies may have loopback addresses.
    pub allow_loopback_outbound: bool,
    /// The private networks whose addresses they may have.
    pub allow_outbound: Vec<IpNet>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// How long to go on serving after SIGTERM.
    pub shutdown_delay: Duration,
}

/// Every network: what one user's own manifests may name.
pub fn every_network() -> Vec<IpNet> {
    [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ]
    .into_iter()
    .flat_map(|ip| IpNet::new(ip, 0))
    .collect()
}

/// Every address of the machine: `::`, which takes IPv4 as well, or `0.0.0.0` where there is no IPv6.
pub fn every_address() -> IpAddr {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match TcpListener::bind((any, 0)) {
        Ok(_) => any,
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

impl ProxyArgs {
    /// Addresses to listen on.
    pub fn addresses(&self, defaults: &Defaults) -> Vec<IpAddr> {
        if self.listen_address.is_empty() {
            vec![defaults.listen]
        } else {
            self.listen_address.clone()
        }
    }

    /// What the dataplane is started with.
    pub fn options(&self, defaults: &Defaults) -> Options {
        let listen = self.addresses(defaults);
        let on = |port: u16| listen.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let redirect_port = if defaults.redirect_to_443 {
            443
        } else {
            self.https_port
        };
        Options {
            http: on(self.http_port),
            https: on(self.https_port),
            workers: self.workers,
            trusted_proxies: self.trusted_proxy_cidr.clone(),
            proxy_protocol: self.use_proxy_protocol,
            explain: self.explain_cidr.clone(),
            hsts: (!self.hsts_max_age.is_zero()).then_some(self.hsts_max_age),
            https_redirect_port: self.https_redirect_port.unwrap_or(redirect_port),
            access_log: self
                .access_log
                .clone()
                .unwrap_or_else(|| defaults.access_log.clone()),
            via: self.via,
            max_connections: self.max_connections,
            allow_loopback_outbound: defaults.allow_loopback_outbound,
            allow_outbound: self
                .allow_outbound_cidr
                .clone()
                .unwrap_or_else(|| defaults.allow_outbound.clone()),
        }
    }
}

/// Where a running Hale is asked.
#[derive(Clone, Debug, Args)]
pub struct AdminArgs {
    /// The admin port of a running Hale. In a cluster: `kubectl exec`, or `kubectl port-forward`.
    #[arg(
        long,
        env = "HALE_ADMIN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:10255"
    )]
    pub admin: String,
    /// Form of the answer.
    #[arg(
        long,
        short,
        env = "HALE_OUTPUT",
        value_enum,
        default_value = "table",
        value_name = "FORM"
    )]
    pub output: Output,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people.
    Table,
    /// What the admin port answers.
    Json,
}

/// `hale why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The URL, as a client would ask for it: `http://shop.example/cart`
    pub url: String,
    /// Try a request with this method, and say what policies make of it.
    #[arg(long, short = 'X', env = "HALE_METHOD", value_name = "METHOD")]
    pub method: Option<String>,
    /// Try a request with this header; again for more. It is never printed, and in HALE_HEADER (a header a line) not seen in
    /// the list of processes either.
    #[arg(
        long,
        short = 'H',
        env = "HALE_HEADER",
        hide_env_values = true,
        value_name = "NAME: VALUE",
        value_delimiter = '\n',
        value_parser = values::hidden
    )]
    pub header: Vec<Hidden>,
    /// Try a request of this user, as in `Authorization: Basic`. It is never printed, and in HALE_USER not seen in the list of
    /// processes either.
    #[arg(
        long,
        short = 'u',
        env = "HALE_USER",
        hide_env_values = true,
        value_name = "USER:PASSWORD",
        value_parser = values::hidden
    )]
    pub user: Option<Hidden>,
    /// Try a request from this address.
    #[arg(long, env = "HALE_CLIENT", value_name = "ADDRESS")]
    pub client: Option<IpAddr>,
    /// Where to ask.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `hale status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show only upstreams whose name (namespace/service:port) holds this text.
    pub filter: Option<String>,
    /// Where to ask.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `hale probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// What to ask for: `http://HOST[:PORT]/PATH`
    pub url: String,
    /// The status that is wanted; without it any 2xx.
    #[arg(long, env = "HALE_EXPECT", value_name = "STATUS")]
    pub expect: Option<u16>,
    /// Ask again for so long until the answer is the one that is wanted.
    #[arg(long, env = "HALE_WAIT", value_name = "DURATION", default_value = "0s", value_parser = values::duration)]
    pub wait: Duration,
    /// For the whole answer.
    #[arg(long, env = "HALE_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = values::duration)]
    pub timeout: Duration,
    /// The Host header, where it is not the URL's.
    #[arg(long, env = "HALE_HOST", value_name = "HOST")]
    pub host: Option<String>,
}

#[cfg(test)]
mod tests;
