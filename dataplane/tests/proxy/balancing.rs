//! Which peer gets a request: by key, by session, by latency, and little by little when it is new.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hale_dataplane::config::{Balance, HashKey, Readiness, SessionPersistence, Terminating};
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::support::{Hale, Origin, Shop, request, text};

/// Origins that tell their name and the cookies that they see.
async fn named<const N: usize>(names: [&'static str; N]) -> Vec<Origin> {
    let mut origins = Vec::new();
    for name in names {
        let answer = move |request: Request<Incoming>| async move {
            let cookie = request.headers().get(header::COOKIE).cloned();
            let mut response = Response::new(Full::new(Bytes::from_static(name.as_bytes())));
            if let Some(cookie) = cookie {
                response.headers_mut().insert("x-saw-cookie", cookie);
            }
            response
        };
        origins.push(Origin::http1(answer).await);
    }
    origins
}

fn shop(origins: &[Origin]) -> Shop {
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    Shop::of(&addresses)
}

fn sessions(origins: &[Origin], absolute_timeout: Option<Duration>) -> Shop {
    let mut shop = shop(origins);
    shop.upstream.session = Some(SessionPersistence {
        cookie: "HALE".into(),
        absolute_timeout,
    });
    shop
}

async fn with(hale: &Hale, headers: &[(&'static str, &str)]) -> Response<Bytes> {
    let mut request = request("GET", "/", "");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    hale.send(request).await
}

/// The cookie that a response sets, without its attributes.
fn cookie(response: &Response<Bytes>) -> Option<String> {
    let value = response.headers().get(header::SET_COOKIE)?;
    Some(
        value
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned(),
    )
}

async fn counts(hale: &Hale, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let response = hale.get("/").await;
        *counts.entry(text(&response).to_owned()).or_default() += 1;
    }
    counts
}

/// The number of the origin that gave this answer.
fn index(response: &Response<Bytes>) -> usize {
    ["a", "b", "c", "d"]
        .iter()
        .position(|name| *name == text(response))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_with_its_peer_on_every_worker_and_replica() {
    let origins = named(["a", "b", "c"]).await;
    let shop = sessions(&origins, None);
    let replicas = [(); 2].map(|()| Hale::with(shop.config(), |options| options.workers = 2));
    let first = replicas[0].get("/").await;
    let set = first.headers()[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    let (value, attributes) = set.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    assert!(!set.contains("127.0.0.1"), "{set}");
    let sent = format!("theme=dark; {value}");
    for hale in &replicas {
        for _ in 0..10 {
            let next = with(hale, &[("cookie", &sent)]).await;
            assert_eq!(text(&next), text(&first));
            assert_eq!(cookie(&next), None, "it has it already");
            assert_eq!(next.headers()["x-saw-cookie"], sent);
        }
        assert_eq!(counts(hale, 9).await.len(), 3, "others are spread");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_on_a_draining_peer_while_that_serves() {
    let origins = named(["a", "b", "c"]).await;
    let mut shop = sessions(&origins, None);
    let hale = shop.serve();
    let first = hale.get("/").await;
    let (home, held) = (index(&first), cookie(&first).unwrap());
    shop.upstream.peers[home].readiness = Readiness::Draining;
    hale.dataplane.publish(shop.config());
    for _ in 0..5 {
        let next = with(&hale, &[("cookie", &held)]).await;
        assert_eq!((index(&next), cookie(&next)), (home, None));
        assert_ne!(index(&hale.get("/").await), home, "nobody new goes there");
    }
    // Another peer comes: the session is where it was.
    let newcomer = named(["d"]).await;
    let peer = Shop::of(&[newcomer[0].address]).upstream.peers.remove(0);
    shop.upstream.peers.push(peer);
    hale.dataplane.publish(shop.config());
    assert_eq!(index(&with(&hale, &[("cookie", &held)]).await), home);

    shop.upstream.health.terminating = Terminating::Never;
    hale.dataplane.publish(shop.config());
    let moved = with(&hale, &[("cookie", &held)]).await;
    assert_ne!(index(&moved), home);
    assert!(cookie(&moved).is_some_and(|cookie| cookie != held));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moves_when_its_peer_is_out_and_stays_where_it_went() {
    let origins = named(["a", "b", "c"]).await;
    let mut shop = sessions(&origins, None);
    let hale = shop.serve();
    let first = hale.get("/").await;
    let (home, held) = (index(&first), cookie(&first).unwrap());
    shop.upstream.peers[home].readiness = Readiness::Unready;
    hale.dataplane.publish(shop.config());
    let moved = with(&hale, &[("cookie", &held)]).await;
    let second = cookie(&moved).unwrap();
    assert_ne!(index(&moved), home);
    // Its old peer comes back, and goes for good: the session does not care.
    shop.upstream.peers[home].readiness = Readiness::Ready;
    hale.dataplane.publish(shop.config());
    for _ in 0..5 {
        let next = with(&hale, &[("cookie", &second)]).await;
        assert_eq!((index(&next), cookie(&next)), (index(&moved), None));
    }
    shop.upstream.peers.remove(home);
    hale.dataplane.publish(shop.config());
    let next = with(&hale, &[("cookie", &second)]).await;
    assert_eq!((index(&next), cookie(&next)), (index(&moved), None));
    // Whoever still has the old cookie, or one that was never ours, gets another.
    for old in [&*held, "HALE=nonsense"] {
        assert!(cookie(&with(&hale, &[("cookie", old)]).await).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_peer_refuses_is_served_by_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mortal = listener.local_addr().unwrap();
    let life = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na";
            let _ = stream.write_all(answer).await;
        }
    });
    let others = named(["b"]).await;
    let mut shop = sessions(&others, None);
    shop.upstream
        .peers
        .insert(0, Shop::of(&[mortal]).upstream.peers.remove(0));
    let hale = shop.serve();
    let mut first = hale.get("/").await;
    if text(&first) != "a" {
        first = hale.get("/").await;
    }
    assert_eq!(text(&first), "a");
    let held = cookie(&first).unwrap();
    life.abort();
    let _ = life.await;
    let moved = with(&hale, &[("cookie", &held)]).await;
    assert_eq!((moved.status().as_u16(), text(&moved)), (200, "b"));
    let second = cookie(&moved).unwrap();
    assert_ne!(second, held);
    let next = with(&hale, &[("cookie", &second)]).await;
    assert_eq!((text(&next), cookie(&next)), ("b", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_its_longest_time_has_passed() {
    let origins = named(["a", "b", "c"]).await;
    let shop = sessions(&origins, Some(Duration::from_secs(3600)));
    let hale = Hale::with(shop.config(), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let first = with(&hale, &[("x-forwarded-proto", "https")]).await;
    let set = first.headers()[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    let attributes = "; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure";
    assert!(set.ends_with(attributes), "{set}");
    let held = cookie(&first).unwrap();
    assert_eq!(cookie(&with(&hale, &[("cookie", &held)]).await), None);
    let (peer, _) = held.split_once('.').unwrap();
    let old = format!("{peer}.1");
    let fresh = with(&hale, &[("cookie", &old)]).await;
    assert!(cookie(&fresh).is_some_and(|cookie| !cookie.ends_with(".1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_has_a_session_too() {
    let name = |name: &'static str| {
        Origin::raw(move |stream, _| async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let _ = socket.send(Message::text(name)).await;
        })
    };
    let hale = sessions(&[name("a").await, name("b").await], None).serve();
    let open = async |cookie: Option<&str>| {
        let mut request = "ws://shop.test/chat".into_client_request().unwrap();
        if let Some(cookie) = cookie {
            let cookie = cookie.parse().unwrap();
            request.headers_mut().insert(header::COOKIE, cookie);
        }
        let stream = TcpStream::connect(hale.address).await.unwrap();
        let (mut socket, response) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        let peer = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let set = response.headers().get(header::SET_COOKIE).cloned();
        (peer.to_string(), set)
    };
    let (peer, set) = open(None).await;
    let set = set.unwrap();
    let held = set.to_str().unwrap().split(';').next().unwrap();
    for _ in 0..4 {
        assert_eq!(open(Some(held)).await, (peer.clone(), None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_goes_to_the_same_peer() {
    let origins = named(["a", "b", "c", "d"]).await;
    let headers = |key: &HashKey, value: &str| match key {
        HashKey::Header(_) => ("x-user", value.to_owned()),
        HashKey::Cookie(_) => ("cookie", format!("other=1; user={value}")),
        _ => ("x-forwarded-for", format!("192.0.2.{value}")),
    };
    for key in [
        HashKey::Header("x-user".into()),
        HashKey::Cookie("user".into()),
        HashKey::SourceIp,
        HashKey::Uri,
    ] {
        let mut shop = shop(&origins);
        shop.upstream.balance = Balance::ConsistentHash(key.clone());
        let replicas = [(); 2].map(|()| {
            Hale::with(shop.config(), |options| {
                options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            })
        });
        let ask = async |hale: &Hale, value: &str| {
            let (name, header) = headers(&key, value);
            let path = match key {
                HashKey::Uri => format!("/./{value}?q={value}"),
                _ => "/".to_owned(),
            };
            let mut request = request("GET", &path, "");
            request.headers_mut().insert(name, header.parse().unwrap());
            index(&hale.send(request).await)
        };
        let mut homes = Vec::new();
        for value in 1..=20 {
            let value = value.to_string();
            let home = ask(&replicas[0], &value).await;
            for hale in [&replicas[0], &replicas[1], &replicas[1]] {
                assert_eq!(ask(hale, &value).await, home, "{key:?} {value}");
            }
            homes.push(home);
        }
        assert!(
            (0..4).filter(|peer| homes.contains(peer)).count() >= 3,
            "{key:?} {homes:?}"
        );
        // One peer less: its keys move, the others stay.
        shop.upstream.peers[0].readiness = Readiness::Unready;
        replicas[0].dataplane.publish(shop.config());
        for (value, home) in (1..).zip(&homes) {
            let now = ask(&replicas[0], &i32::to_string(&value)).await;
            assert!(now != 0 && (*home == 0 || now == *home), "{key:?} {value}");
        }
        let keyless = matches!(key, HashKey::Header(_) | HashKey::Cookie(_));
        if keyless {
            assert!(counts(&replicas[1], 40).await.len() >= 3, "{key:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_peer_among_others_gets_little_at_first() {
    let origins = named(["a", "b", "c"]).await;
    let mut shop = shop(&origins);
    shop.upstream.slow_start = Some(Duration::from_secs(3600));
    let hale = shop.serve();
    let all = counts(&hale, 60).await;
    assert!(
        all.values().all(|count| *count == 20),
        "all were new: {all:?}"
    );
    // One that comes back is new among them, and one that never went is not.
    shop.upstream.peers[2].readiness = Readiness::Unready;
    hale.dataplane.publish(shop.config());
    shop.upstream.peers[2].readiness = Readiness::Ready;
    hale.dataplane.publish(shop.config());
    let some = counts(&hale, 200).await;
    let newest = some.get("c").copied().unwrap_or(0);
    assert!(newest <= 30, "about 10 wanted: {some:?}");
    assert!(some["a"].abs_diff(some["b"]) < 20, "{some:?}");
    // Without the others it has all.
    shop.upstream.peers.drain(..2);
    hale.dataplane.publish(shop.config());
    assert_eq!(
        counts(&hale, 10).await,
        BTreeMap::from([("c".to_owned(), 10)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_peer_is_left_alone() {
    let quick = Origin::saying("quick").await;
    let slow = Origin::http1(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Response::new(Full::new(Bytes::from_static(b"slow")))
    })
    .await;
    let mut shop = shop(&[quick, slow]);
    shop.upstream.balance = Balance::PeakEwma;
    let hale = shop.serve();
    let counts = counts(&hale, 100).await;
    assert!(
        counts.get("slow").is_some_and(|count| *count < 10),
        "{counts:?}"
    );
}
