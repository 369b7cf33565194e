//! What the controller adds to `hale why`: Ingresses for the host that are not served, and what is wrong with the
//! objects that the answer depends on. The dataplane knows only what was served in the end.

use std::collections::BTreeSet;

use hale_dataplane::{
    config::{HostPattern, ObjectRef},
    reason::Reason,
    report::{WhyReport, WhyRequest},
};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;

use super::FindingLine;
use crate::{
    cluster::key,
    publish::Published,
    settings::ObjectKey,
    translate::{TargetOutcome, why_not_ours},
};

/// Lines of each kind that people still read.
const MOST: usize = 12;

/// What the dataplane cannot know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Ingresses for the host that are not served, why, and what to do; the nearest host first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_served: Vec<FindingLine>,
    /// What is wrong with the objects that the answer depends on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingLine>,
}

/// Looks for what belongs to an answer.
pub(super) fn of(
    published: &Published,
    request: &WhyRequest,
    why: &WhyReport,
    now: Timestamp,
) -> Context {
    let host = request.host.trim_end_matches('.').to_ascii_lowercase();
    let unrouted = why.reason == Some(Reason::NoRoute);
    let mut not_served = Vec::new();
    let mut involved: BTreeSet<ObjectRef> = why.source.iter().cloned().collect();
    for ingress in published.cluster.ingresses() {
        // A rule for every host is near only where nothing else is.
        let Some(distance) = distance(ingress, &host).filter(|at| unrouted || *at < 2) else {
            continue;
        };
        let object = reference("Ingress", &key(&ingress.metadata));
        match why_not_ours(ingress, &published.cluster, &published.settings) {
            Some(message) => not_served.push((
                distance,
                FindingLine {
                    object: object.to_string(),
                    reason: "IngressNotOurs".to_owned(),
                    message,
                },
            )),
            None => {
                involved.insert(object);
            }
        }
    }
    not_served.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.object.cmp(&b.1.object)));
    let policies = why.policies.iter();
    involved.extend(policies.flat_map(|policies| policies.sources().cloned()));
    if let Some(upstream) = &why.upstream {
        let service = ObjectKey::new(&*upstream.id.namespace, &*upstream.id.service);
        involved.insert(reference("Service", &service));
    }
    for outcome in &published.translation.policies {
        let about = |target: &TargetOutcome| {
            let key = ObjectKey::new(&*outcome.namespace, &*target.target.name);
            let target_object = reference(target.target.kind.as_str(), &key);
            let reached = why
                .upstream
                .as_ref()
                .is_some_and(|upstream| target.upstreams.contains(&upstream.id));
            reached || involved.contains(&target_object)
        };
        if outcome.targets.iter().any(about) {
            let key = ObjectKey::new(&*outcome.namespace, &*outcome.name);
            involved.insert(reference("UpstreamPolicy", &key));
        }
    }
    let findings = published
        .findings(now)
        .filter(|finding| involved.contains(&finding.object))
        .map(|finding| FindingLine::from(&*finding))
        .take(MOST)
        .collect();
    Context {
        not_served: not_served
            .into_iter()
            .map(|(_, line)| line)
            .take(MOST)
            .collect(),
        findings,
    }
}

/// How well an Ingress fits a host: 0 by name, 1 by a wildcard, 2 because it takes every host; `None` not at all.
fn distance(ingress: &Ingress, host: &str) -> Option<u8> {
    let spec = ingress.spec.as_ref()?;
    let rules = spec
        .rules
        .iter()
        .flatten()
        .filter_map(|rule| {
            let text = rule.host.as_deref().unwrap_or_default();
            let pattern = HostPattern::parse(text).ok()?;
            match pattern {
                HostPattern::Exact(name) => (name.as_str() == host).then_some(0),
                HostPattern::Wildcard(suffix) => host
                    .split_once('.')
                    .is_some_and(|(_, rest)| rest == suffix.as_str())
                    .then_some(1),
                HostPattern::Any => Some(2),
            }
        })
        .min();
    rules.or(spec.default_backend.as_ref().map(|_| 2))
}

fn reference(kind: &'static str, key: &ObjectKey) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

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
    fn told(
        objects: Objects,
        host: &str,
        path: &str,
    ) -> (Option<Reason>, Vec<String>, Vec<String>) {
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
            let line =
                |line: FindingLine| format!("{} {}: {}", line.object, line.reason, line.message);
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
}
