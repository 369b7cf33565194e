//! What scenarios stand on: the installation they share, and a namespace each.

use crate::origin::Origin;
use anyhow::{Context as _, ensure};
use futures::future::BoxFuture;
use hale_crds::UpstreamPolicy;
use hale_e2e::client::{Answer, Ask};
use hale_e2e::cluster::{Cluster, phase};
use hale_e2e::images;
use hale_e2e::load::{Load, Plan};
use hale_e2e::wait::until;
use http::Method;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::RwLock;

/// Where Hale is installed.
pub(crate) const HALE_NAMESPACE: &str = "hale-system";
/// Changes are in effect within this time, or the scenario fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A scenario that has not run yet.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) company: Company,
    pub(crate) play: fn(Arc<Stage>) -> BoxFuture<'static, anyhow::Result<()>>,
}

/// What a scenario can bear around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// Others may run beside it.
    Beside,
    /// It disturbs others.
    Alone,
    /// The same, and it stops parts of the cluster.
    OwnCluster,
}

/// A list of scenarios: company, colon, functions, and the next company.
macro_rules! scenarios {
    ($($company:ident: $($module:ident::$play:ident),+;)+) => {
        vec![$($(
            $crate::stage::Scenario {
                name: concat!(stringify!($module), "::", stringify!($play)),
                company: $crate::stage::Company::$company,
                play: |stage| Box::pin(async move { $module::$play(&stage).await }),
            },
        )+)+]
    };
}
pub(crate) use scenarios;

/// The cluster with Hale in it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    logs: PathBuf,
    quiet: RwLock<()>,
}

/// A namespace, and what a scenario does in it.
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    pub(crate) namespace: String,
}

impl World {
    /// Installs Hale as its users do.
    pub(crate) async fn install(cluster: Cluster, logs: PathBuf) -> anyhow::Result<Self> {
        let began = Instant::now();
        let world = Self {
            cluster,
            logs,
            quiet: RwLock::default(),
        };
        let namespace = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {HALE_NAMESPACE}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: restricted\n"
        );
        world.cluster.apply("default", &namespace).await?;
        world.helm_install().await?;
        phase("helm has installed Hale", began);
        Ok(world)
    }

    /// Installs Hale and waits until its Service accepts connections. Scenarios ask the pods whether a route is served,
    /// which they are ready to answer before the node has the Service's first endpoint.
    pub(crate) async fn helm_install(&self) -> anyhow::Result<()> {
        self.helm(&["upgrade", "--install"], images::HALE_TAG, &[])
            .await?;
        let service = self.hale(80).await?;
        until("Hale's Service to accept connections", SOON, || async {
            TcpStream::connect(service).await.map(drop)?;
            Ok(())
        })
        .await
    }

    /// `helm VERB hale charts/hale` with the values of these tests and more.
    pub(crate) async fn helm(
        &self,
        verb: &[&str],
        tag: &str,
        more: &[&str],
    ) -> anyhow::Result<String> {
        let chart = hale_e2e::cache::repository()
            .join("charts/hale")
            .display()
            .to_string();
        let image = format!("controller.image.repository={}", images::HALE);
        let tag = format!("controller.image.tag={tag}");
        let mut args = verb.to_vec();
        args.extend(["hale", &chart, "--namespace", HALE_NAMESPACE]);
        for value in [
            &image,
            &tag,
            "controller.image.pullPolicy=Never",
            "controller.replicaCount=2",
            // The load balancers of this cluster are quick to forget a pod, and so may Hale be.
            "controller.shutdownDelaySeconds=3",
            "controller.terminationGracePeriodSeconds=30",
            "controller.extraArgs.explain-cidr=10.0.0.0/8",
            "controller.extraArgs.election-ttl=6s",
            // There is no DNS in this cluster.
            "controller.test.url=http://$(HALE_SERVICE_HOST)/",
        ] {
            args.extend(["--set", value]);
        }
        args.extend(more);
        self.cluster.helm(&args).await
    }

    /// Runs a scenario in a namespace of its own; of one that fails the circumstances are kept.
    pub(crate) async fn run(self: Arc<Self>, scenario: Scenario) -> anyhow::Result<()> {
        let (_alone, _beside) = if scenario.company != Company::Beside {
            (Some(self.quiet.write().await), None)
        } else {
            (None, Some(self.quiet.read().await))
        };
        let began = Instant::now();
        let name = scenario
            .name
            .rsplit("::")
            .next()
            .unwrap_or(scenario.name)
            .replace('_', "-");
        let namespace = name
            .chars()
            .take(60)
            .collect::<String>()
            .trim_end_matches('-')
            .to_owned();
        self.cluster
            .kubectl(&["create", "namespace", &namespace])
            .await?;
        let stage = Arc::new(Stage {
            world: self.clone(),
            namespace: namespace.clone(),
        });
        let limit = Duration::from_secs(match scenario.company {
            Company::Beside => 90,
            Company::Alone | Company::OwnCluster => 150,
        });
        // A task of its own: a panic must not take the lock's guard or the namespace with it.
        let play = tokio::spawn(tokio::time::timeout(limit, (scenario.play)(stage)));
        let outcome = match play.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(anyhow::anyhow!("not finished within {limit:?}")),
            Err(panic) => Err(panic.into()),
        };
        if outcome.is_err() {
            self.keep_circumstances(&namespace).await;
        }
        self.cluster
            .kubectl(&["delete", "namespace", &namespace, "--wait=false"])
            .await?;
        phase(scenario.name, began);
        outcome
    }

    async fn keep_circumstances(&self, namespace: &str) {
        let mut text = String::new();
        let everything = "pods,services,endpointslices,ingresses,upstreampolicies,events";
        let hale = [
            "logs",
            "-n",
            HALE_NAMESPACE,
            "-l",
            HALE_LABELS,
            "--tail=2000",
            "--prefix",
        ];
        for args in [
            &["get", everything, "-n", namespace, "-o", "wide"][..],
            &["describe", "upstreampolicies,ingresses", "-n", namespace],
            &["get", "pods,leases", "-n", HALE_NAMESPACE, "-o", "wide"],
            &["describe", "pods", "-n", HALE_NAMESPACE],
            &hale,
        ] {
            let printed = self
                .cluster
                .kubectl(args)
                .await
                .unwrap_or_else(|error| format!("{error:#}"));
            text.push_str(&format!("# kubectl {}\n{printed}\n", args.join(" ")));
        }
        let _ = std::fs::write(self.logs.join(namespace).with_extension("txt"), text);
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client(), namespace)
    }

    /// Waits until all replicas of Hale are ready.
    pub(crate) async fn hale_is_ready(&self) -> anyhow::Result<()> {
        until("Hale to be ready", Duration::from_secs(60), || async {
            let hale = self.api::<Deployment>(HALE_NAMESPACE).get("hale").await?;
            let status = hale.status.unwrap_or_default();
            let ready = status.updated_replicas == Some(2) && status.ready_replicas == Some(2);
            ensure!(
                ready && status.replicas == Some(2),
                "{:?} of 2 replicas are ready",
                status.ready_replicas
            );
            Ok(())
        })
        .await
    }

    /// Hale's Service: the address that clients have.
    pub(crate) async fn hale(&self, port: u16) -> anyhow::Result<SocketAddr> {
        let service = self.api::<Service>(HALE_NAMESPACE).get("hale").await?;
        let address = service
            .spec
            .and_then(|spec| spec.cluster_ip)
            .context("Hale's Service has no address")?;
        Ok(SocketAddr::new(address.parse()?, port))
    }

    /// The pods of Hale that are ready.
    pub(crate) async fn hale_pods(&self) -> anyhow::Result<Vec<(String, IpAddr)>> {
        let pods = self
            .api::<Pod>(HALE_NAMESPACE)
            .list(&ListParams::default().labels(HALE_LABELS))
            .await?;
        let pods = pods
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.map(|pod| {
            let ip = pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ip.as_ref())
                .context("a pod without address")?;
            Ok((pod.name_any(), ip.parse()?))
        })
        .collect()
    }
}

const HALE_LABELS: &str = "app.kubernetes.io/name=hale,app.kubernetes.io/component=controller";

impl Stage {
    /// A host that no other scenario uses.
    pub(crate) fn host(&self, label: &str) -> String {
        // A label of a DNS name has at most 63 characters, and so has the namespace.
        format!("{label}.{}.test", self.namespace)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        self.world.api(&self.namespace)
    }

    pub(crate) async fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        self.world.cluster.apply(&self.namespace, manifests).await
    }

    /// kubectl in this namespace.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let args = [&["-n", &self.namespace], args].concat();
        self.world.cluster.kubectl(&args).await
    }

    /// Starts backends and waits for them and for Hale.
    pub(crate) async fn start(&self, origins: &[&Origin]) -> anyhow::Result<()> {
        for origin in origins {
            self.apply(&origin.manifests()).await?;
        }
        self.world.hale_is_ready().await?;
        for origin in origins {
            origin.is_ready(self).await?;
        }
        Ok(())
    }

    /// Sends a request to Hale's Service.
    pub(crate) async fn send(&self, ask: &Ask) -> anyhow::Result<Answer> {
        ask.send(self.world.hale(if ask.is_tls() { 443 } else { 80 }).await?)
            .await
    }

    pub(crate) async fn get(&self, host: &str, path: &str) -> anyhow::Result<Answer> {
        self.send(&Ask::get(host, path)).await
    }

    /// Waits until every replica of Hale answers a request in a certain way.
    pub(crate) async fn every_hale<F>(&self, what: &str, ask: &Ask, fits: F) -> anyhow::Result<()>
    where
        F: Fn(Answer) -> anyhow::Result<()>,
    {
        until(what, SOON, || async {
            for (pod, ip) in self.world.hale_pods().await? {
                let port = if ask.is_tls() { 8443 } else { 8080 };
                let answer = ask.send(SocketAddr::new(ip, port)).await?;
                fits(answer).with_context(|| format!("as {pod} answers"))?;
            }
            Ok(())
        })
        .await
    }

    /// Waits until every replica of Hale sends a host to a backend.
    pub(crate) async fn serves(
        &self,
        host: &str,
        path: &str,
        origin: &Origin,
    ) -> anyhow::Result<()> {
        self.every_hale(
            &format!("{host}{path} to be served"),
            &Ask::get(host, path),
            |answer| {
                let answer = answer.want(200)?;
                let name = answer.json()?["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                ensure!(
                    name == origin.name,
                    "{name} answered, and not {}",
                    origin.name
                );
                Ok(())
            },
        )
        .await
    }

    /// Begins constant load on a host, through Hale's Service.
    pub(crate) async fn load(&self, host: &str, rate: u32) -> anyhow::Result<Load> {
        self.load_of(Method::GET, host, rate).await
    }

    /// The same with another method; a POST carries 1 KiB.
    pub(crate) async fn load_of(
        &self,
        method: Method,
        host: &str,
        rate: u32,
    ) -> anyhow::Result<Load> {
        let (server, host, path) = (self.world.hale(80).await?, host.to_owned(), "/".to_owned());
        let length = if method == Method::POST { 1024 } else { 0 };
        Ok(Load::start(Plan {
            server,
            host,
            method,
            body: vec![b'x'; length].into(),
            path,
            rate,
        }))
    }

    pub(crate) async fn policy(&self, name: &str) -> anyhow::Result<UpstreamPolicy> {
        Ok(self.api::<UpstreamPolicy>().get(name).await?)
    }

    /// Waits until a condition of a policy's first target has a status, and gives (reason, message).
    pub(crate) async fn condition(
        &self,
        policy: &str,
        kind: &str,
        status: &str,
        limit: Duration,
    ) -> anyhow::Result<(String, String)> {
        until(
            &format!("{policy} to have {kind}={status}"),
            limit,
            || async {
                let seen = self.policy(policy).await?.status.unwrap_or_default();
                let conditions = seen
                    .ancestors
                    .first()
                    .map(|ancestor| ancestor.conditions.as_slice())
                    .unwrap_or_default();
                let found = conditions.iter().find(|condition| condition.type_ == kind);
                let found =
                    found.with_context(|| format!("it has no such condition: {conditions:?}"))?;
                ensure!(
                    found.status == status,
                    "{}: {}",
                    found.reason,
                    found.message
                );
                Ok((found.reason.clone(), found.message.clone()))
            },
        )
        .await
    }

    /// Waits until an Event with a reason has been written about an object of this namespace.
    pub(crate) async fn event(
        &self,
        kind: &str,
        name: &str,
        reason: &str,
    ) -> anyhow::Result<String> {
        use k8s_openapi::api::events::v1::Event;
        until(
            &format!("the Event {reason} on {kind} {name}"),
            SOON,
            || async {
                let events = self
                    .api::<Event>()
                    .list(&ListParams::default())
                    .await?
                    .items;
                let about = |event: &&Event| {
                    let regarding = event.regarding.clone().unwrap_or_default();
                    regarding.kind.as_deref() == Some(kind)
                        && regarding.name.as_deref() == Some(name)
                };
                let reasons: Vec<_> = events
                    .iter()
                    .filter(about)
                    .filter_map(|event| event.reason.clone())
                    .collect();
                let found = events
                    .iter()
                    .filter(about)
                    .find(|event| event.reason.as_deref() == Some(reason));
                let found = found.with_context(|| format!("there are {reasons:?}"))?;
                Ok(found.note.clone().unwrap_or_default())
            },
        )
        .await
    }
}
