//! `hale demo`: an example with sample backends in this process. Nothing else is needed on the machine.
//!
//! What is served is `examples/demo`, the same files that people can read and apply; they are part of the binary. The
//! files name ports for the backends; where one of them is taken, another is used, and the endpoints are changed in
//! memory.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use hale_dataplane::AccessLog;

use crate::{
    args::{Defaults, DemoArgs, ProxyArgs, every_network},
    cluster::Objects,
    manifests::{self, LoadError},
    process::{Process, ProcessError},
    settings::Settings,
};

mod backends;
mod watcher;

/// The files of `examples/demo`.
const FILES: [(&str, &str); 4] = [
    (
        "broken.yaml",
        include_str!("../../examples/demo/broken.yaml"),
    ),
    (
        "ingress.yaml",
        include_str!("../../examples/demo/ingress.yaml"),
    ),
    ("shop.yaml", include_str!("../../examples/demo/shop.yaml")),
    ("slow.yaml", include_str!("../../examples/demo/slow.yaml")),
];

/// Why the demo could not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The example is broken: a test should have found it.
    #[error("the example in this binary cannot be read")]
    Example(#[from] LoadError),
    /// No backend could be started.
    #[error("cannot start the sample backends")]
    Backends(#[source] io::Error),
    /// The process could not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// What `hale demo` does where the command line says nothing.
pub fn defaults() -> Defaults {
    Defaults {
        listen: Ipv4Addr::LOCALHOST.into(),
        redirect_to_443: false,
        allow_loopback_outbound: true,
        allow_outbound: every_network(),
        access_log: AccessLog::Off,
        shutdown_delay: Duration::ZERO,
    }
}

/// Serves the example until a signal.
pub async fn demo(args: &DemoArgs) -> Result<(), DemoError> {
    let mut objects = example()?;
    let ports = backends::start().map_err(DemoError::Backends)?;
    move_endpoints(&mut objects, &ports);
    let settings = Settings {
        allow_loopback_endpoints: true,
        ..Settings::default()
    };
    let proxy = free_ports(&args.proxy);
    let process = Process::start(&proxy, &defaults(), settings, "the example", None).await?;
    process.publisher.publish(objects, Vec::new());
    println!("{}", welcome(&process));
    let dataplane = process.dataplane.clone();
    process.run(watcher::tell(dataplane)).await;
    Ok(())
}

/// The objects of the example.
fn example() -> Result<Objects, LoadError> {
    let mut all = Objects::default();
    for (name, text) in FILES {
        let path = Path::new("examples/demo").join(name);
        let one = manifests::parse(&path, text)?.objects;
        all.ingresses.extend(one.ingresses);
        all.ingress_classes.extend(one.ingress_classes);
        all.services.extend(one.services);
        all.endpoint_slices.extend(one.endpoint_slices);
        all.policies.extend(one.policies);
    }
    Ok(all)
}

/// Endpoints go where the backends really are.
fn move_endpoints(objects: &mut Objects, ports: &BTreeMap<u16, u16>) {
    for slice in &mut objects.endpoint_slices {
        let slice = Arc::make_mut(slice);
        for port in slice.ports.iter_mut().flatten() {
            let wanted = port.port.and_then(|number| u16::try_from(number).ok());
            if let Some(real) = wanted.and_then(|wanted| ports.get(&wanted)) {
                port.port = Some(i32::from(*real));
            }
        }
    }
}

/// The flags, with a port of the system's choice where the usual one is taken: the first thing that people see should
/// not be a port conflict. Ports that were asked for by name are left alone.
fn free_ports(args: &ProxyArgs) -> ProxyArgs {
    let mut args = args.clone();
    let listen = args.addresses(&defaults());
    let usual = [
        (&mut args.http_port, 8080, &listen[..]),
        (&mut args.https_port, 8443, &listen[..]),
        (&mut args.healthz_port, 10254, &listen[..]),
        (
            &mut args.admin_port,
            10255,
            &[IpAddr::V4(Ipv4Addr::LOCALHOST)][..],
        ),
    ];
    for (port, number, addresses) in usual {
        let taken = |ip: &IpAddr| TcpListener::bind(SocketAddr::new(*ip, number)).is_err();
        if *port == number && addresses.iter().any(taken) {
            *port = 0;
        }
    }
    args
}

/// What to paste.
fn welcome(process: &Process) -> String {
    let hale = std::env::args().next().unwrap_or_else(|| "hale".to_owned());
    let address = process.dataplane.http_addresses().first();
    let url = address.map_or_else(String::new, |address| format!("http://{address}"));
    let https = process.dataplane.https_addresses().first();
    let https = https.map_or_else(String::new, |address| format!("https://{address}"));
    let admin = match process.admin.port() {
        10255 => String::new(),
        _ => format!(" --admin {}", process.admin),
    };
    let lines = [
        (
            format!("curl -i {url}/"),
            "works: one of the shop's pods answers",
        ),
        (
            format!("curl -i {url}/broken"),
            "503: the pod is Ready and fails its check, and the answer says so",
        ),
        (format!("curl -i {url}/slow"), "works, after two seconds"),
        (
            format!("curl -ik {https}/"),
            "the same over TLS and HTTP/2, with a self-made certificate",
        ),
        (
            format!("{hale} status{admin}"),
            "every upstream and peer, at a glance",
        ),
        (
            format!("{hale} why {url}/broken{admin}"),
            "which rule, which upstream, and why not",
        ),
    ];
    let width = lines
        .iter()
        .map(|(command, _)| command.len())
        .max()
        .unwrap_or(0);
    let mut text = format!("Hale serves a small shop at {url}. Paste into another terminal:\n\n");
    for (command, what) in lines {
        text.push_str(&format!("  {command:<width$}  # {what}\n"));
    }
    text.push_str("\nshop-b fails its check now and then; below is what Hale makes of that. Ctrl-C ends it.\n");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{cluster::Cluster, translate::translate};

    #[test]
    fn the_example_is_served_without_a_finding() {
        let objects = example().unwrap();
        let settings = Settings {
            allow_loopback_endpoints: true,
            ..Settings::default()
        };
        let translation = translate(&Cluster::new(objects), &settings);
        assert_eq!(translation.findings, []);
        let upstreams = &translation.config.upstreams;
        let names: Vec<_> = upstreams
            .iter()
            .map(|upstream| upstream.id.to_string())
            .collect();
        assert_eq!(
            names,
            ["demo/broken:http", "demo/shop:http", "demo/slow:http"]
        );
        let peers: usize = upstreams.iter().map(|upstream| upstream.peers.len()).sum();
        assert_eq!(peers, backends::PORTS.len(), "each backend is a peer");
    }

    #[test]
    fn endpoints_go_where_the_backends_are() {
        let mut objects = example().unwrap();
        move_endpoints(&mut objects, &BTreeMap::from([(9105, 40_001)]));
        let ports: Vec<_> = objects
            .endpoint_slices
            .iter()
            .flat_map(|slice| slice.ports.iter().flatten())
            .filter_map(|port| port.port)
            .collect();
        assert!(
            ports.contains(&40_001) && !ports.contains(&9105),
            "{ports:?}"
        );
        assert!(ports.contains(&9101));
    }
}
