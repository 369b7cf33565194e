//! Pods that are being deleted, heard of from the pods themselves.
//!
//! kubelet is told of a deletion at the same moment, and sends SIGTERM some milliseconds later. An EndpointSlice that
//! says `terminating` has been on its way for longer by then, through another controller and the API server: until it
//! comes, requests go to a process that ends, and those that may not be sent again are lost. Of pods nothing is
//! asked but their metadata, and nothing kept but who is leaving.

use std::{collections::HashSet, sync::Arc};

use hale_dataplane::config::Readiness;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use tokio::sync::Notify;

use super::Store;
use crate::publish::{Newest, Published};

/// Pods that are being deleted.
pub(super) type Leaving = Store<PartialObjectMeta<Pod>>;

/// Their UIDs.
pub(super) fn uids(leaving: &Leaving) -> impl Iterator<Item = String> {
    let pods = leaving.all().into_iter();
    pods.filter_map(|pod| pod.metadata.uid.clone())
}

/// Says it is urgent whenever a pod leaves that is served as one that stays. Never ends but with the process.
pub(super) async fn tell(
    (leaving, heard): (Leaving, Arc<Notify>),
    newest: Newest,
    urgent: Arc<Notify>,
) {
    loop {
        heard.notified().await;
        let published = newest.borrow().clone();
        if published.is_some_and(|published| is_served(&leaving, &published)) {
            urgent.notify_one();
        }
    }
}

fn is_served(leaving: &Leaving, published: &Published) -> bool {
    let leaving: HashSet<String> = uids(leaving).collect();
    let upstreams = published.translation.config.upstreams.iter();
    upstreams.flat_map(|upstream| &upstream.peers).any(|peer| {
        matches!(peer.readiness, Readiness::Ready | Readiness::Unready)
            && leaving.contains(&peer.uid)
    })
}
