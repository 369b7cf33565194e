//! Watches against an API server on loopback that says what a test wants, or nothing at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use hale_dataplane::prometheus_client::registry::Registry;
use kube::Config;
use serde_json::{Value, json};

use super::*;

mod api_server;
mod leaving;
mod protected;
mod unserved;

use api_server::{Answer, ApiServer, Request};

/// Long enough for any machine; nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(60);
/// So short that a silent server is given up soon.
const SHORT: Duration = Duration::from_millis(200);

fn client(server: &ApiServer, silence: Duration) -> Client {
    let config = Config::new(server.url().parse().unwrap());
    Client::try_from(with_limits(config, silence)).unwrap()
}

fn metrics() -> Metrics {
    Metrics::new(&mut Registry::default())
}

fn list(items: &[Value]) -> Answer {
    Answer::Json(
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items}),
    )
}

fn forbidden() -> Answer {
    let message = "secrets is forbidden: User \"hale\" cannot list resource \"secrets\"";
    Answer::Json(
        403,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "Forbidden", "code": 403}),
    )
}

fn secret(name: &str, labels: &Value, data: &Value) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "labels": labels, "annotations": {"a": "b"}, "resourceVersion": "3"},
        "data": data,
    })
}

fn policy(name: &str, auth: &Value) -> Arc<UpstreamPolicy> {
    let target = json!({"group": "", "kind": "Service", "name": "checkout"});
    let object = json!({
        "apiVersion": "hale-ingress.io/v1alpha1",
        "kind": "UpstreamPolicy",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"targetRefs": [target], "auth": {"anyOf": auth}},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Waits until a snapshot shows something.
async fn until<T>(ticks: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            ticks.notified().await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("in time")
}

fn names(secrets: &[Arc<Secret>]) -> Vec<String> {
    let mut names: Vec<_> = secrets
        .iter()
        .map(|it| it.metadata.name.clone().unwrap())
        .collect();
    names.sort();
    names
}

/// Follows the Secrets of a server and waits until there are two.
async fn two_secrets(server: &ApiServer) {
    let store = Store::<Secret>::new("Secret");
    let ticks = Arc::new(Notify::new());
    let task = tokio::spawn(follow(Follow {
        api: Api::namespaced(client(server, SHORT), "shop"),
        config: watcher::Config::default(),
        trim: Secret::trim,
        store: store.clone(),
        ticks: Arc::clone(&ticks),
        watching: Default::default(),
        objects: Default::default(),
        errors: Default::default(),
    }));
    until(&ticks, || (store.len() == 2).then_some(())).await;
    task.abort();
}

fn secrets(count: usize) -> Answer {
    let all: Vec<_> = (0..count)
        .map(|n| secret(&n.to_string(), &json!({}), &json!({})))
        .collect();
    list(&all)
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_established_again() {
    let server = ApiServer::start(|request| match (request.is_watch, request.count) {
        (true, _) => Answer::Silence,
        // What came while nobody told us of it.
        (false, lists) => secrets(lists.min(2)),
    });
    two_secrets(&server).await;
    let kinds: Vec<_> = server
        .requests()
        .iter()
        .map(|it| it.is_watch)
        .take(3)
        .collect();
    assert_eq!(
        kinds,
        [false, true, false],
        "list, watch, and everything anew"
    );
}

#[tokio::test]
async fn a_watch_of_which_the_head_came_and_nothing_more_is_established_again() {
    let server = ApiServer::start(|request| match (request.is_watch, request.count) {
        (true, _) => Answer::Watch(Vec::new()),
        (false, lists) => secrets(lists.min(2)),
    });
    two_secrets(&server).await;
}

#[tokio::test]
async fn a_listing_that_is_not_answered_is_asked_for_again() {
    let server = ApiServer::start(|request| match (request.is_watch, request.count) {
        (false, 1) => Answer::Silence,
        (true, _) => Answer::Watch(Vec::new()),
        (false, _) => secrets(2),
    });
    two_secrets(&server).await;
}

/// A server of the Secrets `users`, `keys` and `a`, the last one with a label, and of no ConfigMap.
fn credentials(request: &Request) -> Answer {
    let users = || {
        secret(
            "users",
            &json!({"app": "web"}),
            &json!({"auth": "eA==", "other": "eA=="}),
        )
    };
    let keys = || {
        secret(
            "keys",
            &json!({}),
            &json!({"alice": "eA==", "auth": "eA=="}),
        )
    };
    let key = || {
        secret(
            "a",
            &json!({"keys": "shop"}),
            &json!({"accessKeyId": "eA==", "other": "eA=="}),
        )
    };
    let asked = |query: &str| request.path.contains(query);
    match () {
        () if request.is_watch => Answer::Watch(Vec::new()),
        () if asked("metadata.name%3Dusers") => list(&[users()]),
        () if asked("metadata.name%3Dkeys") => list(&[keys()]),
        () if asked("labelSelector=keys%3Dshop") => list(&[key()]),
        () if asked("metadata.name%3Dhidden") => forbidden(),
        () => list(&[]),
    }
}

fn named(server: &ApiServer) -> (Named, Arc<Notify>) {
    let ticks = Arc::new(Notify::new());
    let named = Named::new(client(server, LONG), metrics(), Arc::clone(&ticks));
    (named, ticks)
}

#[tokio::test]
async fn what_policies_refer_to_is_followed_and_nothing_else() {
    let server = ApiServer::start(credentials);
    let (named, _) = named(&server);
    let access_key =
        json!({"profile": "AWS4", "secretSelector": {"matchLabels": {"keys": "shop"}}});
    let policies = [
        policy(
            "a",
            &json!([{"basic": {"secretRef": {"name": "users"}}}, {"accessKey": access_key}]),
        ),
        policy(
            "b",
            &json!([{"apiKey": {"header": "x-key", "secretRef": {"name": "keys"}}}]),
        ),
        // The same once more: one watch is enough.
        policy("c", &json!([{"accessKey": access_key}])),
    ];
    named.follow(&policies);
    named.listed(LONG).await;
    let (found, _) = named.all();
    assert_eq!(names(&found), ["a", "keys", "users"]);
    assert_eq!(named.findings(&policies), []);
    let kept = |name: &str| -> (Vec<String>, usize) {
        let secret = found
            .iter()
            .find(|it| it.metadata.name.as_deref() == Some(name))
            .unwrap();
        let labels = secret.metadata.labels.as_ref().map_or(0, BTreeMap::len);
        (
            secret.data.as_ref().unwrap().keys().cloned().collect(),
            labels,
        )
    };
    assert_eq!(
        kept("users"),
        (vec!["auth".to_owned()], 1),
        "its other key is dropped, its label kept"
    );
    assert_eq!(
        kept("keys"),
        (vec!["alice".to_owned(), "auth".to_owned()], 0),
        "keys are users"
    );
    assert_eq!(kept("a"), (vec!["accessKeyId".to_owned()], 1));
    let lists = server
        .requests()
        .into_iter()
        .filter(|it| !it.is_watch)
        .count();
    assert_eq!(lists, 3);

    named.follow(&policies[1..2]);
    assert_eq!(names(&named.all().0), ["keys"]);
    named.follow(&[]);
    assert_eq!(named.all().0.len(), 0);
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_is_a_finding_and_is_not_waited_for() {
    let server = ApiServer::start(credentials);
    let (named, _) = named(&server);
    let policies = [policy(
        "a",
        &json!([{"basic": {"secretRef": {"name": "hidden"}}}]),
    )];
    named.follow(&policies);
    tokio::time::timeout(LONG, named.listed(10 * LONG))
        .await
        .expect("a refusal is an answer");
    assert_eq!(named.all().0.len(), 0);
    let findings = named.findings(&policies);
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.object.to_string(), "UpstreamPolicy shop/a");
    assert_eq!(finding.reason.as_str(), "ReferenceUnreadable");
    let wanted = "auth.anyOf[0].basic.secretRef: cannot read Secret shop/hidden: secrets is forbidden: User \"hale\" cannot \
         list resource \"secrets\" (the role of Hale's service account lacks a rule); requests that need it are refused";
    assert_eq!(finding.message, wanted);
}

#[tokio::test]
async fn a_silent_api_server_is_waited_for_only_for_a_while() {
    let server = ApiServer::start(|_| Answer::Silence);
    let (named, _) = named(&server);
    let policies = [policy(
        "a",
        &json!([{"basic": {"secretRef": {"name": "users"}}}]),
    )];
    named.follow(&policies);
    tokio::time::timeout(LONG, named.listed(SHORT))
        .await
        .expect("in time");
    let findings = named.findings(&policies);
    assert!(
        findings[0].message.contains("has not answered yet"),
        "{findings:?}"
    );
}

/// The whole of it, with one policy that is listed when the test wants.
#[tokio::test]
async fn nothing_is_ready_before_policies_were_listed_and_what_they_name_was_waited_for() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let server = ApiServer::start(move |request| {
        let is = |kind: &str| request.path.contains(kind);
        if request.is_watch {
            return Answer::Watch(Vec::new());
        }
        if is("upstreampolicies") {
            let named = policy("a", &json!([{"basic": {"secretRef": {"name": "users"}}}]));
            return Answer::After(gate.clone(), Box::new(list(&[json!(named)])));
        }
        if is("endpointslices") && is("service-name%3Dhale") {
            let pod = |name: &str| json!({"addresses": [name], "targetRef": {"uid": name}});
            let slice = json!({"metadata": {"name": "hale"}, "addressType": "IPv4", "endpoints": [pod("a"), pod("b")]});
            return list(&[slice]);
        }
        credentials(request)
    });
    let own = ObjectKey::new("ingress", "hale");
    let services = OwnServices {
        published: None,
        replicas: Some(&own),
    };
    let watches = Watches::start(&client(&server, LONG), None, services, &metrics());
    watches.tls_secrets.listed().await;
    watches.ingresses.listed().await;
    watches.own_slices.as_ref().unwrap().listed().await;
    let missing = until(&watches.ticks, || {
        watches.missing().filter(|it| it.contains("UpstreamPolicy"))
    });
    assert_eq!(missing.await, "the first listing of kind UpstreamPolicy");
    open.send_replace(true);
    until(&watches.ticks, || watches.missing().is_none().then_some(())).await;
    let snapshot = watches.snapshot(LONG).await;
    assert_eq!(snapshot.findings, []);
    assert_eq!(names(&snapshot.objects.secrets), ["users"]);
    assert_eq!(snapshot.objects.policies.len(), 1);
    assert_eq!(snapshot.objects.replicas, 2);
}
