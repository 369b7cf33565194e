//! Against a scripted API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;

/// Pods, and what was asked.
#[derive(Default)]
struct Server {
    /// Names and UIDs, in pages.
    pages: Vec<Vec<(&'static str, &'static str)>>,
    error: Option<&'static str>,
    asked: Mutex<Vec<String>>,
}

impl Lister for Server {
    async fn page(
        &self,
        namespace: &str,
        params: ListParams,
    ) -> Result<(Vec<Pod>, Option<String>), String> {
        assert_eq!((namespace, params.limit), ("shop", Some(PAGE)));
        let from: usize = params
            .continue_token
            .map_or(0, |from| from.parse().unwrap());
        let labels = params.label_selector.unwrap_or_default();
        let fields = params.field_selector.unwrap_or_default();
        self.asked
            .lock()
            .unwrap()
            .push(format!("{labels}{fields}@{from}"));
        if let Some(error) = self.error {
            return Err(error.to_owned());
        }
        let name = fields.strip_prefix("metadata.name=");
        let pods = match name {
            Some(_) => self.pages.concat(),
            None => self.pages[from].clone(),
        };
        let pods = pods
            .into_iter()
            .filter(|(pod, _)| name.is_none_or(|name| name == *pod))
            .map(|(name, uid)| pod(name, uid))
            .collect();
        let more = name.is_none() && from + 1 < self.pages.len();
        Ok((pods, more.then(|| (from + 1).to_string())))
    }
}

fn pod(name: &str, uid: &str) -> Pod {
    let container = json!({
        "name": "app",
        "image": "big",
        "env": [{"name": "SECRET", "value": "dropped at the door"}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
    });
    let metadata = json!({"namespace": "shop", "name": name, "uid": uid});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [container]}}))
        .unwrap()
}

fn wants(pods: &[(&str, &str)]) -> Vec<Wanted> {
    vec![Wanted {
        service: ObjectKey::new("shop", "checkout"),
        selector: Some("app=checkout".to_owned()),
        pods: pods
            .iter()
            .map(|(name, uid)| ((*uid).to_owned(), (*name).to_owned()))
            .collect(),
    }]
}

fn uids(probes: &PodProbes) -> Vec<String> {
    let mut uids: Vec<String> = probes.pods().iter().map(|it| it.uid.clone()).collect();
    uids.sort();
    uids
}

#[tokio::test(start_paused = true)]
async fn each_pod_is_read_once_and_by_its_uid() {
    let server = Server {
        pages: vec![vec![("a", "1"), ("b", "2"), ("c", "new")]],
        ..Server::default()
    };
    let probes = PodProbes::default();
    let wanted = wants(&[("a", "1"), ("b", "2"), ("c", "old"), ("gone", "4")]);
    assert!(probes.round(&wanted, &server).await);
    // A pod of the same name is another pod.
    assert_eq!(uids(&probes), ["1", "2"]);
    let pods = probes.pods();
    assert!(Arc::ptr_eq(&pods[0].containers, &pods[1].containers));
    assert_eq!(server.asked.lock().unwrap().len(), 4);
    // Neither what is known nor what is known to be gone is asked for again.
    assert!(!probes.round(&wanted, &server).await);
    assert_eq!(server.asked.lock().unwrap().len(), 4);
    // What is not wanted any more is forgotten.
    assert!(!probes.round(&wants(&[("b", "2")]), &server).await);
    assert_eq!(uids(&probes), ["2"]);
    assert!(!probes.round(&[], &server).await);
    assert!(probes.state().known.is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_pods_are_read_by_the_selector_page_by_page() {
    let all = ["1", "2", "3", "4", "5", "6", "7", "8", "9"].map(|uid| (uid, uid));
    let server = Server {
        pages: vec![all[..5].to_vec(), all[5..].to_vec()],
        ..Server::default()
    };
    let probes = PodProbes::default();
    assert!(probes.round(&wants(&all), &server).await);
    assert_eq!(uids(&probes).len(), 9);
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked, ["app=checkout@0", "app=checkout@1"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told_and_tried_again_in_a_while() {
    let mut server = Server {
        pages: vec![vec![("a", "1")]],
        error: Some("pods is forbidden"),
        ..Server::default()
    };
    let probes = PodProbes::default();
    let wanted = wants(&[("a", "1")]);
    assert!(probes.round(&wanted, &server).await);
    let key = ObjectKey::new("shop", "checkout");
    let told = BTreeMap::from([(key, "pods is forbidden".to_owned())]);
    assert_eq!(probes.unread(), told);
    // A busy cluster has snapshots all the time; that is no reason to ask all the time.
    assert!(!probes.round(&wanted, &server).await);
    assert_eq!(server.asked.lock().unwrap().len(), 1);
    tokio::time::advance(AGAIN).await;
    assert!(!probes.round(&wanted, &server).await);
    assert_eq!(server.asked.lock().unwrap().len(), 2);
    server.error = None;
    tokio::time::advance(AGAIN).await;
    assert!(probes.round(&wanted, &server).await);
    assert_eq!(
        (uids(&probes), probes.unread()),
        (vec!["1".to_owned()], BTreeMap::new())
    );
}
