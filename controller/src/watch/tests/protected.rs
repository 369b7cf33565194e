//! A route that a policy protects, from the API server to a client: whatever becomes of its Secret, it is never open.

use std::net::{Ipv4Addr, SocketAddr};

use hale_dataplane::{AccessLog, Dataplane, Options};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{lifecycle::Lifecycle, publish::Publisher, settings::Settings};

/// `alice` with the password `secret`, as `htpasswd -s` writes it.
const USERS: &str = "YWxpY2U6e1NIQX01ZW42RzZNZXpScm9UM1hLcWtkUE9tWS9CZlE9Cg==";
const ALICE: &str = "authorization: Basic YWxpY2U6c2VjcmV0\r\n";

/// A pod that answers everything with 200.
async fn pod() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    address
}

/// What the cluster has of a kind.
fn objects(path: &str, pod: SocketAddr) -> Answer {
    let meta = |name: &str| json!({"namespace": "shop", "name": name});
    let object = if path.contains("/ingresses") {
        let backend = json!({"service": {"name": "checkout", "port": {"number": 80}}});
        json!({"metadata": meta("web"), "spec": {"ingressClassName": "hale", "defaultBackend": backend}})
    } else if path.contains("/services") {
        json!({"metadata": meta("checkout"), "spec": {"ports": [{"port": 80, "name": "http"}]}})
    } else if path.contains("/endpointslices") {
        let mut meta = meta("checkout");
        meta["labels"] = json!({SERVICE_NAME_LABEL: "checkout"});
        let ports = json!([{"name": "http", "port": pod.port(), "protocol": "TCP"}]);
        let endpoints = json!([{"addresses": [pod.ip()], "conditions": {"ready": true}}]);
        json!({"metadata": meta, "addressType": "IPv4", "endpoints": endpoints, "ports": ports})
    } else if path.contains("/upstreampolicies") {
        json!(policy(
            "protect",
            &json!([{"basic": {"secretRef": {"name": "users"}}}])
        ))
    } else {
        return list(&[]);
    };
    list(&[object])
}

/// What requests for policies get once their kind is not served any more.
fn unserved_policies(
    request: &Request,
    unserved: &tokio::sync::watch::Receiver<bool>,
) -> Option<Answer> {
    let absent = Answer::Json(404, json!({"status": "Failure", "code": 404}));
    match (request.is_watch, *unserved.borrow()) {
        _ if !request.path.contains("/upstreampolicies") => None,
        (true, _) => Some(Answer::After(unserved.clone(), Box::new(absent))),
        (false, true) => Some(absent),
        (false, false) => None,
    }
}

/// The status of an answer, and Hale's reason if it has one.
async fn get(hale: SocketAddr, header: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(hale).await.unwrap();
        let request =
            format!("GET / HTTP/1.1\r\nhost: shop.example\r\n{header}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(LONG, exchange).await.expect("in time");
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let mut lines = answer.lines();
    let reason = lines.find_map(|line| line.strip_prefix("x-hale-reason: "));
    (status, reason.unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_protected_route_is_never_open_whatever_becomes_of_its_secret() {
    let (tell, told) = tokio::sync::watch::channel(false);
    let (delete, deleted) = tokio::sync::watch::channel(false);
    let (unserve, unserved) = tokio::sync::watch::channel(false);
    let pod = pod().await;
    let server = ApiServer::start(move |request| {
        let users = secret("users", &json!({}), &json!({"auth": USERS}));
        let is_users = request.path.contains("metadata.name%3Dusers");
        if let Some(answer) = unserved_policies(request, &unserved) {
            return answer;
        }
        match (is_users, request.is_watch) {
            (true, false) => Answer::After(told.clone(), Box::new(list(&[users]))),
            (true, true) => {
                let gone = json!({"type": "DELETED", "object": users});
                Answer::After(deleted.clone(), Box::new(Answer::Watch(vec![gone])))
            }
            (false, true) => Answer::Watch(Vec::new()),
            (false, false) => objects(&request.path, pod),
        }
    });
    let dataplane = Dataplane::start(Options {
        http: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        https: Vec::new(),
        workers: 1,
        access_log: AccessLog::Off,
        ..Options::default()
    })
    .unwrap();
    let hale = dataplane.http_addresses()[0];
    let settings = Settings {
        allow_loopback_endpoints: true,
        ..Settings::default()
    };
    let publisher = Publisher::new(dataplane, settings, metrics(), Lifecycle::new("a test"));
    let own = OwnServices::default();
    let watches = Watches::start(&client(&server, LONG), None, own, &metrics());
    until(&watches.ticks, || watches.missing().is_none().then_some(())).await;
    let serve = async |patience| {
        let snapshot = watches.snapshot(patience).await;
        publisher.publish(snapshot.objects, snapshot.findings)
    };

    serve(SHORT).await;
    let unavailable = (503, "AuthUnavailable".to_owned());
    assert_eq!(get(hale, "").await, unavailable, "not told yet");
    assert_eq!(get(hale, ALICE).await, unavailable, "not told yet");

    tell.send_replace(true);
    serve(LONG).await;
    assert_eq!(get(hale, "").await, (401, "AuthRequired".to_owned()));
    assert_eq!(get(hale, ALICE).await.0, 200);

    unserve.send_replace(true);
    until(&watches.ticks, || watches.policies.finding()).await;
    let findings = serve(LONG).await.read_findings.clone();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].message.contains("stays in force"),
        "{findings:?}"
    );
    assert_eq!(get(hale, "").await, (401, "AuthRequired".to_owned()));
    assert_eq!(get(hale, ALICE).await.0, 200);

    delete.send_replace(true);
    until(&watches.ticks, || {
        watches.named.all().0.is_empty().then_some(())
    })
    .await;
    serve(LONG).await;
    assert_eq!(get(hale, "").await, unavailable, "deleted");
    assert_eq!(get(hale, ALICE).await, unavailable, "deleted");
}
