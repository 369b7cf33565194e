//! Golden tests of translation: whole manifests in, config, findings and outcomes out.
//!
//! `translate/NAME.in.yaml` holds manifests, read as strictly as `hale serve` reads them, and may begin
//! with a document of kind `Case` (settings, causes of empty Services). `NAME.out.yaml` holds what is wanted;
//! `HALE_UPDATE_GOLDENS=1` rewrites it. Each case is translated from shuffled objects as well, and must
//! give the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use hale::{
    cluster::{Cluster, EmptyCause, Objects},
    finding::FindingReason,
    manifests,
    settings::{ObjectKey, Settings},
    translate::{Translation, translate},
};
use hale_dataplane::config::{Action, Auth, AuthMethod, ExternalService};
use serde::Deserialize;

/// What a case says beside its manifests.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    settings: Settings,
    /// By `namespace/name`.
    #[serde(default)]
    empty_services: BTreeMap<String, EmptyCause>,
    /// By `namespace/name`.
    #[serde(default)]
    unread_pods: BTreeMap<String, String>,
    /// UIDs.
    #[serde(default)]
    leaving_pods: BTreeSet<String>,
    /// Ready replicas of Hale.
    #[serde(default)]
    replicas: u32,
}

struct Input {
    settings: Settings,
    objects: Objects,
}

fn input(path: &Path) -> Input {
    let text = fs::read_to_string(path).unwrap();
    let manifests = manifests::parse(path, &text).unwrap_or_else(|error| panic!("{error}"));
    for finding in manifests.findings {
        assert_eq!(finding.reason, FindingReason::KindIgnored);
        assert!(finding.message.contains("kind Case of test"), "{finding:?}");
    }
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let case = documents
        .into_iter()
        .find(|document| document["kind"] == "Case")
        .map(|document| serde_json::from_value(document).unwrap())
        .unwrap_or_else(Case::default);
    let mut objects = manifests.objects;
    for (key, cause) in case.empty_services {
        objects
            .empty_services
            .insert(key.parse::<ObjectKey>().unwrap(), cause);
    }
    for (key, why) in case.unread_pods {
        objects
            .unread_pods
            .insert(key.parse::<ObjectKey>().unwrap(), why);
    }
    objects.leaving_pods = case.leaving_pods;
    objects.replicas = case.replicas;
    Input {
        settings: case.settings,
        objects,
    }
}

/// Fisher-Yates with a small generator: the same every time.
fn shuffle<T>(items: &mut [T], seed: &mut u64) {
    for last in (1..items.len()).rev() {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let chosen = (*seed >> 33) as usize % (last + 1);
        items.swap(last, chosen);
    }
}

fn shuffled(objects: &Objects, mut seed: u64) -> Objects {
    let mut objects = objects.clone();
    shuffle(&mut objects.ingresses, &mut seed);
    shuffle(&mut objects.ingress_classes, &mut seed);
    shuffle(&mut objects.services, &mut seed);
    shuffle(&mut objects.endpoint_slices, &mut seed);
    shuffle(&mut objects.secrets, &mut seed);
    shuffle(&mut objects.config_maps, &mut seed);
    shuffle(&mut objects.policies, &mut seed);
    shuffle(&mut objects.pods, &mut seed);
    objects
}

/// What holds in every config.
fn assert_sound(name: &str, translation: &Translation) {
    let config = &translation.config;
    let ids: Vec<_> = config
        .upstreams
        .iter()
        .map(|upstream| &upstream.id)
        .collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{name}: upstreams");
    assert!(
        config.hosts.is_sorted_by(|a, b| a.host < b.host),
        "{name}: hosts"
    );
    let certificates = &config.certificates;
    assert!(
        certificates.is_sorted_by(|a, b| a.host < b.host),
        "{name}: certificates"
    );
    let mut reached = BTreeSet::new();
    for host in &config.hosts {
        assert!(
            host.routes.is_sorted_by(|a, b| a.path < b.path),
            "{name}: routes"
        );
        assert!(!host.routes.is_empty(), "{name}: a host without routes");
    }
    let routes = config.hosts.iter().flat_map(|host| &host.routes);
    for route in routes.chain(&config.default_route) {
        if let Action::Forward(id) = &route.action {
            reached.insert(id);
        }
        let Auth::AnyOf(rules) = &route.policy.auth else {
            continue;
        };
        for method in &rules.methods {
            if let AuthMethod::External(external) = method
                && let ExternalService::Upstream(id) = &external.service
            {
                reached.insert(id);
            }
        }
    }
    assert_eq!(
        reached,
        ids.into_iter().collect(),
        "{name}: upstreams are those of routes, and those that they ask"
    );
    for upstream in &config.upstreams {
        let peers = &upstream.peers;
        assert!(
            peers.is_sorted_by(|a, b| a.address < b.address),
            "{name}: peers"
        );
        assert_eq!(
            peers.is_empty(),
            upstream.problem.is_some(),
            "{name}: problem"
        );
    }
    assert!(translation.findings.is_sorted(), "{name}: findings");
    for policy in &translation.policies {
        for target in &policy.targets {
            assert!(!target.accepted.message.is_empty(), "{name}: accepted");
            assert!(!target.programmed.message.is_empty(), "{name}: programmed");
        }
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/translate");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".in.yaml"))
        .collect();
    cases.sort();
    cases
}

#[test]
fn goldens() {
    let update = std::env::var_os("HALE_UPDATE_GOLDENS").is_some_and(|value| value == "1");
    let cases = cases();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for path in &cases {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Input { settings, objects } = input(path);
        let translation = translate(&Cluster::new(objects.clone()), &settings);
        assert_sound(&name, &translation);
        let got = serde_saphyr::to_string(&translation).unwrap();
        for seed in 1..=3 {
            let again = translate(&Cluster::new(shuffled(&objects, seed)), &settings);
            let again = serde_saphyr::to_string(&again).unwrap();
            assert_eq!(got, again, "{name}: shuffled with {seed}");
        }
        let wanted = PathBuf::from(path.to_string_lossy().replace(".in.yaml", ".out.yaml"));
        if update {
            fs::write(&wanted, &got).unwrap();
        } else if fs::read_to_string(&wanted).unwrap_or_default() != got {
            failures.push(format!("{name} gives:\n{got}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases differ from their .out.yaml (HALE_UPDATE_GOLDENS=1 rewrites them):\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn every_output_has_its_input() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/translate");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if let Some(base) = path.to_string_lossy().strip_suffix(".out.yaml") {
            assert!(Path::new(&format!("{base}.in.yaml")).exists(), "{base}");
        }
    }
}
