//! Which Ingresses and findings belong to a question.

use std::sync::Arc;

use hale_crds::UpstreamPolicy;
use hale_dataplane::{AccessLog, Dataplane, Options};
use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::{Cluster, Objects},
    settings::Settings,
    translate::translate,
};

fn ingress(name: &str, class: Option<&str>, host: &str, path: &str, age: u32) -> Arc<Ingress> {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let value = json!({
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": format!("2026-01-{age:02}T00:00:00Z")},
        "spec": {"ingressClassName": class, "rules": [{"host": host, "http": {"paths": [
            {"path": path, "pathType": "Prefix", "backend": backend}]}}]},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn class(name: &str, controller: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"controller": controller}})
}

/// What is told of a URL's host and path.
fn told(objects: Objects, host: &str, path: &str) -> (Option<Reason>, Vec<String>, Vec<String>) {
    let settings = Settings::default();
    let cluster = Cluster::new(objects);
    let translation = translate(&cluster, &settings);
    let dataplane = Dataplane::start(Options {
        http: vec![([127, 0, 0, 1], 0).into()],
        https: Vec::new(),
        workers: 1,
        access_log: AccessLog::Off,
        ..Options::default()
    })
    .unwrap();
    dataplane.publish(translation.config.clone());
    let published = Published {
        sequence: 1,
        cluster,
        translation,
        settings,
        read_findings: Vec::new(),
    };
    let request = WhyRequest {
        https: false,
        host: host.to_owned(),
        path: path.to_owned(),
    };
    let why = dataplane.why(&request).unwrap();
    let context = of(&published, &request, &why, Timestamp::UNIX_EPOCH);
    let lines = |lines: Vec<FindingLine>| {
        let line = |line: FindingLine| format!("{} {}: {}", line.object, line.reason, line.message);
        lines.into_iter().map(line).collect::<Vec<_>>()
    };
    (
        why.reason,
        lines(context.not_served),
        lines(context.findings),
    )
}

#[test]
fn a_404_names_the_ingresses_that_were_not_taken_and_why() {
    let objects = || Objects {
        ingresses: vec![
            ingress("classless", None, "shop.example", "/", 1),
            ingress("unknown", Some("hail"), "shop.example", "/", 1),
            ingress("theirs", Some("nginx"), "*.example", "/", 1),
            ingress("elsewhere", None, "other.example", "/", 1),
            ingress("invalid", Some("hale"), "shop.example", "no-slash", 1),
        ],
        ingress_classes: [
            class("hale", "hale-ingress.io/controller"),
            class("nginx", "k8s.io/ingress-nginx"),
        ]
        .map(|class| Arc::new(serde_json::from_value(class).unwrap()))
        .to_vec(),
        ..Objects::default()
    };
    let (reason, not_served, findings) = told(objects(), "shop.example", "/cart");
    assert_eq!(reason, Some(Reason::NoRoute));
    assert_eq!(
        not_served,
        [
            "Ingress shop/classless IngressNotOurs: it names no class, and no default class is Hale's: set spec.ingressClassName to hale",
            "Ingress shop/unknown IngressNotOurs: there is no IngressClass hail, which it names: set spec.ingressClassName to hale",
            "Ingress shop/theirs IngressNotOurs: its class nginx belongs to the controller k8s.io/ingress-nginx, not to hale-ingress.io/controller: set spec.ingressClassName to hale",
        ]
    );
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].starts_with("Ingress shop/invalid PathInvalid: "),
        "{findings:?}"
    );
    let (_, not_served, _) = told(objects(), "nobody.test", "/");
    assert_eq!(not_served, Vec::<String>::new());
}

#[test]
fn who_lost_a_host_is_told_beside_the_winner() {
    let objects = Objects {
        ingresses: vec![
            ingress("older", Some("hale"), "shop.example", "/", 1),
            ingress("younger", Some("hale"), "shop.example", "/", 2),
        ],
        ..Objects::default()
    };
    let (reason, not_served, findings) = told(objects, "SHOP.example.", "/cart");
    assert_eq!(
        (reason, not_served.len()),
        (Some(Reason::ServiceNotFound), 0)
    );
    assert_eq!(
        findings,
        [
            "Ingress shop/older ServiceNotFound: Service shop/web does not exist",
            "Ingress shop/younger HostConflict: host shop.example, path / is not served for this Ingress: Ingress shop/older came first",
        ]
    );
}

fn policy(name: &str, kind: &str, target: &str, age: u32) -> Arc<UpstreamPolicy> {
    let group = match kind {
        "Ingress" => "networking.k8s.io",
        _ => "",
    };
    let value = json!({
        "apiVersion": "hale-ingress.io/v1alpha1", "kind": "UpstreamPolicy",
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": format!("2026-01-{age:02}T00:00:00Z")},
        "spec": {
            "targetRefs": [{"group": group, "kind": kind, "name": target}],
            "auth": {"anyOf": [{"basic": {"secretRef": {"name": "gone"}}}]},
        },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn policies_of_this_rule_and_its_losers_are_told_and_those_of_siblings_are_not() {
    let service = json!({
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    let mut ingresses = vec![ingress("zoo", Some("hale"), "shop.example", "/", 1)];
    let mut policies = vec![
        policy("z-winner", "Ingress", "zoo", 1),
        policy("z-loser", "Ingress", "zoo", 2),
        policy("y-service", "Service", "web", 1),
    ];
    for number in 0..20 {
        let name = format!("a{number:02}");
        let host = format!("{name}.example");
        ingresses.push(ingress(&name, Some("hale"), &host, "/", 1));
        policies.push(policy(&name, "Ingress", &name, 1));
    }
    let objects = Objects {
        ingresses,
        policies,
        services: vec![Arc::new(serde_json::from_value(service).unwrap())],
        ..Objects::default()
    };
    let (_, _, findings) = told(objects, "shop.example", "/");
    let objects: Vec<&str> = findings
        .iter()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(
        objects,
        [
            "shop/z-winner",
            "shop/z-loser",
            "shop/y-service",
            "shop/web"
        ],
        "{findings:#?}"
    );
}

#[test]
fn what_is_cut_is_counted() {
    let lines = |count| {
        let line = FindingLine {
            object: "Ingress shop/web".into(),
            reason: "HostConflict".into(),
            message: String::new(),
        };
        nearest(vec![(0, line); count])
    };
    assert_eq!((lines(12).0.len(), lines(12).1), (12, 0));
    assert_eq!((lines(15).0.len(), lines(15).1), (12, 3));
}
