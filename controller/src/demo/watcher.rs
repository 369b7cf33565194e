//! Tells on the terminal what becomes of the peers.

use std::collections::HashMap;

use hale_dataplane::{
    Dataplane,
    reason::Reason,
    report::{PeerReport, UpstreamReport},
};

use crate::status::without_count;

/// Prints a line for each peer that goes out or comes back, for ever.
pub(super) async fn tell(dataplane: Dataplane) {
    let mut changes = dataplane.changes();
    let mut known: HashMap<String, (bool, Option<Reason>)> = HashMap::new();
    loop {
        for upstream in &dataplane.report().upstreams {
            for peer in &upstream.peers {
                let now = (peer.serving, peer.reason);
                let before = known.insert(format!("{}{}", upstream.id, peer.address), now);
                // The second before the first check would be told twice over.
                let unchecked = peer.reason == Some(Reason::NotYetChecked);
                if before != Some(now) && !unchecked {
                    println!("{}", line(upstream, peer));
                }
            }
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn line(upstream: &UpstreamReport, peer: &PeerReport) -> String {
    let time = jiff::Zoned::now().strftime("%H:%M:%S");
    let name = peer.pod.clone().unwrap_or_else(|| peer.address.to_string());
    let state = if peer.serving { "serves" } else { "is out" };
    let why = match peer.reason {
        Some(reason) => format!(": {reason}: {}", without_count(&peer.message)),
        None => String::new(),
    };
    format!(
        "{time} {} {name} {state}{}",
        upstream.id,
        why.trim_end_matches([':', ' '])
    )
}
