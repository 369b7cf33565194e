//! What is in flight at a shutdown is answered.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::sync::Semaphore;

use crate::support::{Origin, Shop, until};

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_what_is_in_flight() {
    static GO: Semaphore = Semaphore::const_new(0);
    let origin = Origin::http1(|_| async {
        GO.acquire().await.unwrap().forget();
        Response::new(Full::new(Bytes::from_static(b"late")))
    })
    .await;
    let hale = std::sync::Arc::new(Shop::of(&[origin.address]).serve());
    let caller = std::sync::Arc::clone(&hale);
    let call = tokio::spawn(async move { caller.get("/").await });
    until("the request is in flight", async || {
        hale.dataplane.report().upstreams[0].peers[0].in_flight == 1
    })
    .await;
    hale.dataplane.announce_shutdown();
    let dataplane = hale.dataplane.clone();
    let drained = tokio::spawn(async move { dataplane.drain(Duration::from_secs(10)).await });
    GO.add_permits(1);
    let response = call.await.unwrap();
    assert_eq!(response.body(), "late");
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(drained.await.unwrap(), 0);
}
