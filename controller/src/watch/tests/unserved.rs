//! An API server that answers, but not with the objects that it served before.

use std::collections::HashMap;

use super::{
    api_server::{Answer, ApiServer},
    *,
};
use crate::watch::follow::{Ended, Failure};

/// Long enough for every rule that waits.
const AGES: Duration = Duration::from_secs(3600);

fn status(code: u16) -> watcher::Error {
    let status = json!({"status": "Failure", "message": "no", "reason": "X", "code": code});
    let status: kube::core::Status = serde_json::from_value(status).unwrap();
    watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
}

fn garbage() -> watcher::Error {
    let error = serde_json::from_str::<Value>("<html>").unwrap_err();
    watcher::Error::InitialListFailed(kube::Error::SerdeError(error))
}

/// A server whose kinds answer 404, and whose definition of policies is this.
fn unserved(definition: fn() -> Answer) -> ApiServer {
    ApiServer::start(
        move |request| match request.path.contains("customresourcedefinitions") {
            true => definition(),
            false => Answer::Json(404, json!({"status": "Failure", "code": 404})),
        },
    )
}

fn exists() -> Answer {
    let meta = json!({"name": "upstreampolicies.hale-ingress.io"});
    Answer::Json(
        200,
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}),
    )
}

fn missing() -> Answer {
    let details =
        json!({"name": "upstreampolicies.hale-ingress.io", "kind": "customresourcedefinitions"});
    Answer::Json(
        404,
        json!({"status": "Failure", "reason": "NotFound", "code": 404, "details": details}),
    )
}

fn following<K: Watched>(server: &ApiServer) -> Follow<K> {
    Follow {
        api: Api::all(client(server, LONG)),
        config: watcher::Config::default(),
        trim: K::trim,
        store: Store::new(K::KIND),
        ticks: Arc::default(),
        watching: Default::default(),
        objects: Default::default(),
        errors: Default::default(),
    }
}

/// Fails with `error` twice, with ages in between.
async fn fail<K: Watched>(follow: &Follow<K>, error: fn() -> watcher::Error) {
    let mut failure = Failure::default();
    follow.failed(&error(), &mut failure).await;
    tokio::time::pause();
    tokio::time::advance(AGES).await;
    tokio::time::resume();
    follow.failed(&error(), &mut failure).await;
}

async fn keeps<K: Watched>(object: Value) {
    let server = unserved(missing);
    let errors: [(fn() -> watcher::Error, bool); 7] = [
        (|| status(400), true),
        (|| status(401), true),
        (|| status(403), true),
        (|| status(404), true),
        (|| status(410), false),
        (|| status(503), false),
        (garbage, true),
    ];
    for (error, reported) in errors {
        let follow = following::<K>(&server);
        let object: K = serde_json::from_value(object.clone()).unwrap();
        let all = HashMap::from([(key(object.meta()), Arc::new(object))]);
        follow.store.replace(all.clone());
        fail(&follow, error).await;
        assert_eq!(follow.store.len(), 1, "{} after {}", K::KIND, error());
        assert_eq!(follow.store.finding().is_some(), reported, "{}", error());
        assert_eq!(
            follow.store.replace(all),
            reported || error().to_string() == status(403).to_string()
        );
        assert_eq!(follow.store.finding(), None, "listed again");
    }
}

#[tokio::test]
async fn no_answer_but_a_listing_removes_objects_of_any_kind() {
    let meta = json!({"namespace": "shop", "name": "a"});
    let object = json!({"metadata": meta});
    keeps::<UpstreamPolicy>(json!(*policy("a", &json!([])))).await;
    keeps::<Ingress>(object.clone()).await;
    keeps::<IngressClass>(object.clone()).await;
    keeps::<Service>(object.clone()).await;
    keeps::<Secret>(object).await;
    keeps::<EndpointSlice>(json!({"metadata": meta, "addressType": "IPv4", "endpoints": []})).await;
}

#[tokio::test]
async fn policies_count_as_undefined_only_if_their_definition_is_missing() {
    type Case = (fn() -> Answer, Option<&'static str>);
    let generic = || Answer::Json(404, json!({"status": "Failure", "code": 404}));
    let cases: [Case; 4] = [
        (missing, None),
        (exists, Some("it is defined, but not served")),
        (generic, Some("cannot tell whether it is defined")),
        (forbidden, Some("cannot tell whether it is defined")),
    ];
    for (definition, wanted) in cases {
        let server = unserved(definition);
        let follow = following::<UpstreamPolicy>(&server);
        follow.failed(&status(404), &mut Failure::default()).await;
        assert!(follow.store.missing().is_some(), "not at once");
        fail(&follow, || status(404)).await;
        let missing = follow.store.missing();
        match wanted {
            Some(wanted) => assert!(missing.unwrap().contains(wanted)),
            None => assert_eq!(missing, None),
        }
    }
}

#[tokio::test]
async fn an_empty_listing_after_objects_must_last() {
    let server = ApiServer::start(|request| match request.is_watch {
        true => Answer::Silence,
        false => list(&[]),
    });
    let follow = following::<UpstreamPolicy>(&server);
    let known = policy("a", &json!([]));
    follow
        .store
        .replace(HashMap::from([(key(&known.metadata), known)]));
    let mut failure = Failure::default();
    for _ in 0..2 {
        assert!(matches!(follow.watch(&mut failure).await, Ended::Emptied));
        follow.emptied(&mut failure);
        assert_eq!(follow.store.len(), 1);
    }
    assert_eq!(
        follow.store.finding().unwrap().reason.as_str(),
        "KindUnavailable"
    );
    tokio::time::pause();
    tokio::time::advance(AGES).await;
    tokio::time::resume();
    let store = follow.store.clone();
    let watching = async {
        until(&follow.ticks, || store.is_empty().then_some(())).await;
    };
    tokio::select! {
        _ = follow.watch(&mut failure) => panic!("it is believed now"),
        () = watching => {}
    }
    assert_eq!(follow.store.finding(), None);
}

#[tokio::test]
async fn a_deleted_credential_is_dropped_with_the_first_empty_listing() {
    let server = ApiServer::start(|request| match request.is_watch {
        true => Answer::Silence,
        false => list(&[]),
    });
    let follow = following::<Secret>(&server);
    let users: Secret = serde_json::from_value(secret("users", &json!({}), &json!({}))).unwrap();
    follow.store.insert(users);
    let store = follow.store.clone();
    let mut failure = Failure::default();
    tokio::select! {
        _ = follow.watch(&mut failure) => panic!("it lasts"),
        () = until(&follow.ticks, || store.is_empty().then_some(())) => {}
    }
}
