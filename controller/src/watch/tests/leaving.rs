//! Pods that are being deleted.

use tokio::task::JoinHandle;

use super::{
    api_server::{Answer, ApiServer},
    *,
};
use crate::{
    cluster::Cluster, publish::Published, settings::Settings, translate::translate, watch::leaving,
};

fn pod(name: &str, leaves: bool) -> Value {
    let mut metadata = json!({"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "8"});
    if leaves {
        metadata["deletionTimestamp"] = json!("2026-11-23T08:00:00Z");
    }
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn object<K: serde::de::DeserializeOwned>(object: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A table with the pods `a` and `b`, which stay.
fn published() -> Published {
    let endpoint = |name: &str, address: &str| {
        json!({
            "addresses": [address],
            "targetRef": {"kind": "Pod", "name": name, "uid": format!("uid-{name}")},
        })
    };
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let objects = Objects {
        ingresses: vec![object(json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"ingressClassName": "hale", "defaultBackend": backend},
        }))],
        services: vec![object(json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"ports": [{"port": 80}]},
        }))],
        endpoint_slices: vec![object(json!({
            "metadata": {"namespace": "shop", "name": "web", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "IPv4",
            "ports": [{"port": 8080}],
            "endpoints": [endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2")],
        }))],
        ..Objects::default()
    };
    let cluster = Cluster::new(objects);
    let translation = translate(&cluster, &Settings::default());
    assert_eq!(translation.config.upstreams[0].peers.len(), 2);
    Published {
        sequence: 1,
        cluster,
        translation,
        settings: Settings::default(),
        read_findings: Vec::new(),
    }
}

/// Follows the pods of a server until so many leave.
async fn followed(events: Vec<Value>, wanted: &[&str]) -> (Arc<Notify>, [JoinHandle<()>; 2]) {
    let server = ApiServer::start(move |request| {
        assert!(request.path.starts_with("/api/v1/pods?"), "{request:?}");
        // Pods are big, and there are many.
        assert!(
            request.accept.contains("as=PartialObjectMetadata"),
            "{request:?}"
        );
        match request.is_watch {
            true => Answer::Watch(events.clone()),
            false => list(&[pod("a", false), pod("c", true)]),
        }
    });
    let store = Store::new("Pod");
    let (ticks, heard, urgent) = <(Arc<Notify>, Arc<Notify>, Arc<Notify>)>::default();
    let (_sender, newest) = tokio::sync::watch::channel(Some(Arc::new(published())));
    let follow = tokio::spawn(follow(Follow {
        api: Api::all(client(&server, LONG)),
        config: watcher::Config::default(),
        trim: Watched::trim,
        store: store.clone(),
        ticks: Arc::clone(&ticks),
        watching: Default::default(),
        objects: Default::default(),
        errors: Default::default(),
    }));
    let tell = tokio::spawn(leaving::tell(
        (store.clone(), Arc::clone(&heard)),
        newest,
        Arc::clone(&urgent),
    ));
    until(&ticks, || {
        heard.notify_one();
        let mut uids: Vec<_> = leaving::uids(&store).collect();
        uids.sort();
        (uids == wanted).then_some(())
    })
    .await;
    (urgent, [follow, tell])
}

#[tokio::test]
async fn a_served_pod_that_begins_to_leave_is_urgent() {
    let events = vec![
        event("MODIFIED", &pod("a", false)),
        event("MODIFIED", &pod("a", true)),
    ];
    let (urgent, _tasks) = followed(events, &["uid-a", "uid-c"]).await;
    tokio::time::timeout(LONG, urgent.notified())
        .await
        .expect("in time");
}

#[tokio::test]
async fn a_pod_that_is_gone_is_forgotten() {
    let events = vec![event("DELETED", &pod("c", true))];
    let (urgent, _tasks) = followed(events, &[]).await;
    tokio::task::yield_now().await;
    let told = tokio::time::timeout(Duration::ZERO, urgent.notified()).await;
    assert!(told.is_err(), "c was never served");
}
