//! A policy that arrives while requests run: whatever begins after `publish` returned is under it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use hale_dataplane::config::RequestPolicy;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    EXHAUSTED, config,
    http2::{Told, ask, get as stream},
    policies,
};
use crate::{
    support::Hale,
    wire::{Recorder, get, read_until, status, talk},
};

const ADMIN: &str = "GET /admin HTTP/1.1\r\nhost: shop.test\r\n\r\n";

/// One more request on a kept connection.
async fn again(stream: &mut TcpStream) -> String {
    stream.write_all(ADMIN.as_bytes()).await.unwrap();
    read_until(stream, "\r\n\r\n").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_that_begins_after_the_policy_is_under_it() {
    let recorder = Recorder::new().await;
    let open = config(&recorder, &RequestPolicy::default());
    let hale = Arc::new(Hale::with(open.clone(), |options| options.workers = 2));
    let (stop, passed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (hale, stop, passed) = (Arc::clone(&hale), Arc::clone(&stop), Arc::clone(&passed));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    if status(&talk(&hale, get("/admin", "")).await) == "200" {
                        passed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for (name, policy) in policies() {
        if name == EXHAUSTED {
            continue;
        }
        let mut kept = Vec::new();
        for _ in 0..4 {
            let mut stream = TcpStream::connect(hale.address).await.unwrap();
            stream
                .write_all(b"GET /admin HTTP/1.1\r\nhost: shop.test\r\n\r\n")
                .await
                .unwrap();
            let answer = read_until(&mut stream, "ok").await;
            assert_eq!(status(&answer), "200", "{name}: open before");
            kept.push(stream);
        }
        hale.dataplane.publish(config(&recorder, &policy));
        for stream in &mut kept {
            let answer = again(stream).await;
            assert_ne!(status(&answer), "200", "{name}: on a kept connection");
        }
        for _ in 0..4 {
            let answer = talk(&hale, get("/admin", "")).await;
            assert_ne!(status(&answer), "200", "{name}: on a new connection");
        }
        let told = ask(
            &hale,
            &[stream("/admin"), stream("/open"), stream("/admin")],
        )
        .await;
        assert_eq!(told, [Told::Refused, Told::Ok, Told::Refused], "{name}");
        hale.dataplane.publish(open.clone());
    }
    stop.store(true, Ordering::SeqCst);
    for task in load {
        task.await.unwrap();
    }
    assert!(passed.load(Ordering::SeqCst) > 0, "nothing ran beside it");
}

/// A head that came in two halves begins when it is whole.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_not_the_beginning_of_a_request() {
    let recorder = Recorder::new().await;
    let open = config(&recorder, &RequestPolicy::default());
    let hale = Hale::start(open.clone());
    for (name, policy) in policies() {
        if name == EXHAUSTED {
            continue;
        }
        hale.dataplane.publish(open.clone());
        let mut stream = TcpStream::connect(hale.address).await.unwrap();
        let (first, rest) = ADMIN.split_at(20);
        stream.write_all(first.as_bytes()).await.unwrap();
        // Something else is answered meanwhile: what was sent before has been read, or waits.
        assert_eq!(status(&talk(&hale, get("/open", "")).await), "200");
        hale.dataplane.publish(config(&recorder, &policy));
        stream.write_all(rest.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert_ne!(status(&answer), "200", "{name}");
    }
}
