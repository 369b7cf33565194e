//! Why a Service has no ready endpoint: one bounded listing of its pods, made only then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hale_dataplane::config::Readiness;
use k8s_openapi::api::core::v1::{ContainerState, Pod, PodCondition, Service};
use kube::{Api, Client, api::ListParams};
use tokio::sync::Notify;

use crate::{
    api_error::explain,
    cluster::EmptyCause,
    publish::{Newest, Published},
    settings::ObjectKey,
};

/// Pods that are looked at: enough to tell what the many wait for.
const PODS: u32 = 20;
/// Services that are looked at in one round. The others keep saying `NoEndpoints`.
const SERVICES: usize = 64;
/// A scale-up from zero passes through states that are not worth telling.
const SETTLE: Duration = Duration::from_secs(1);
/// How often a Service that stays empty is looked at again.
const AGAIN: Duration = Duration::from_secs(20);

/// What was found, shared with the snapshots. Cheap to clone; all clones are the same one.
#[derive(Clone, Default)]
pub struct EmptyServices {
    causes: Arc<Mutex<BTreeMap<ObjectKey, EmptyCause>>>,
}

impl EmptyServices {
    /// What was found.
    pub fn causes(&self) -> BTreeMap<ObjectKey, EmptyCause> {
        self.causes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks at the Services that are served and empty, after each snapshot and now and then. Ticks when something
    /// new was found. Never ends but with the process.
    pub async fn look(self, client: Client, mut newest: Newest, ticks: Arc<Notify>) {
        loop {
            if let Ok(Err(_)) = tokio::time::timeout(AGAIN, newest.changed()).await {
                return;
            }
            tokio::time::sleep(SETTLE).await;
            let Some(published) = newest.borrow_and_update().clone() else {
                continue;
            };
            let mut found = BTreeMap::new();
            for (key, selector) in empty(&published) {
                match list(&client, &key, &selector).await {
                    Ok(pods) => {
                        found.insert(key, cause(&pods));
                    }
                    Err(error) => {
                        tracing::warn!(service = %key, error = explain(&error), "cannot list the pods of a Service without ready endpoints");
                    }
                }
            }
            let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
            if *causes != found {
                *causes = found;
                ticks.notify_one();
            }
        }
    }
}

/// Services with a selector whose upstream has no ready peer.
fn empty(published: &Published) -> Vec<(ObjectKey, String)> {
    let upstreams = &published.translation.config.upstreams;
    let keys: BTreeSet<ObjectKey> = upstreams
        .iter()
        .filter(|upstream| {
            let mut peers = upstream.peers.iter();
            !peers.any(|peer| peer.readiness == Readiness::Ready)
        })
        .map(|upstream| ObjectKey::new(&upstream.id.namespace, &upstream.id.service))
        .collect();
    let services = published.cluster.services();
    keys.into_iter()
        .filter_map(|key| {
            let selector = selector(services.get(&key)?)?;
            Some((key, selector))
        })
        .take(SERVICES)
        .collect()
}

pub(super) fn selector(service: &Service) -> Option<String> {
    let labels = service.spec.as_ref()?.selector.as_ref()?;
    let pairs: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

async fn list(client: &Client, key: &ObjectKey, selector: &str) -> Result<Vec<Pod>, kube::Error> {
    let params = ListParams::default().labels(selector).limit(PODS);
    let api = Api::<Pod>::namespaced(client.clone(), &key.namespace);
    Ok(api.list(&params).await?.items)
}

/// What the pods of a Service without endpoints wait for.
fn cause(pods: &[Pod]) -> EmptyCause {
    if pods.is_empty() {
        return EmptyCause::SelectorMatchesNothing;
    }
    let unscheduled = |pod: &Pod| -> Option<PodCondition> {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        conditions
            .iter()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
            .cloned()
    };
    if let Some(condition) = pods.iter().find_map(unscheduled) {
        return EmptyCause::PodsNotScheduled(condition.message.unwrap_or_default());
    }
    match pods.iter().find_map(failing) {
        Some(why) => EmptyCause::PodsFailing(why),
        None => EmptyCause::PodsNotReady(pods.iter().find_map(waiting).unwrap_or_default()),
    }
}

/// `checkout-7d9f-abcde: CrashLoopBackOff: back-off 5m0s restarting failed container…`; `None` for a pod that is
/// only starting.
fn failing(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
        .find_map(|container| {
            let state = container.state.as_ref();
            if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
                let reason = waiting.reason.as_deref().unwrap_or_default();
                if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                    return None;
                }
                let parts: Vec<&str> = [Some(reason), waiting.message.as_deref()]
                    .into_iter()
                    .flatten()
                    .collect();
                return Some(format!("{name}: {}", parts.join(": ")));
            }
            let failed = |state: Option<&ContainerState>| {
                let ended = state.and_then(|state| state.terminated.clone());
                ended.filter(|ended| ended.exit_code != 0 && !container.ready)
            };
            if let Some(ended) = failed(state) {
                return Some(format!(
                    "{name}: container {} ended with code {} ({})",
                    container.name,
                    ended.exit_code,
                    ended.reason.as_deref().unwrap_or("Error"),
                ));
            }
            // Between two crashes it runs for a moment.
            let ended = failed(container.last_state.as_ref())?;
            Some(format!(
                "{name}: container {} ended with code {} ({}) and was restarted, {} times by now",
                container.name,
                ended.exit_code,
                ended.reason.as_deref().unwrap_or("Error"),
                container.restart_count
            ))
        })
}

/// `checkout-7d9f-abcde: ImagePullBackOff: …`, or the pod's phase.
fn waiting(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten();
    let state = containers
        .chain(status.container_statuses.iter().flatten())
        .find_map(|container| container.state.as_ref()?.waiting.clone());
    match state {
        Some(waiting) => {
            let parts = [waiting.reason, waiting.message];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            Some(format!("{name}: {}", parts.join(": ")))
        }
        None => Some(format!("{name} is {}", status.phase.as_deref()?)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
    }

    #[test]
    fn the_cause_is_told() {
        assert_eq!(cause(&[]), EmptyCause::SelectorMatchesNothing);
        let message = "0/1 nodes are available: 1 Insufficient cpu.";
        let pending = pod(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}));
        assert_eq!(
            cause(&[pending]),
            EmptyCause::PodsNotScheduled(message.into())
        );
        let pulling = pod(json!({"phase": "Pending", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}));
        let wanted = "a: ImagePullBackOff: no such image";
        assert_eq!(cause(&[pulling]), EmptyCause::PodsFailing(wanted.into()));
        let creating = pod(json!({"phase": "Pending", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}}}]}));
        let wanted = "a: ContainerCreating";
        assert_eq!(cause(&[creating]), EmptyCause::PodsNotReady(wanted.into()));
        let crashed = pod(json!({"phase": "Running", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}));
        let wanted = "a: container c ended with code 1 (Error) and was restarted, 3 times by now";
        assert_eq!(cause(&[crashed]), EmptyCause::PodsFailing(wanted.into()));
        let ended = pod(json!({"phase": "Running", "containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 128, "reason": "StartError"}}}]}));
        let wanted = "a: container c ended with code 128 (StartError)";
        assert_eq!(cause(&[ended]), EmptyCause::PodsFailing(wanted.into()));
        let done = pod(json!({"phase": "Succeeded"}));
        assert_eq!(
            cause(&[done]),
            EmptyCause::PodsNotReady("a is Succeeded".into())
        );
    }
}
