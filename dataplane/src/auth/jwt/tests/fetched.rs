//! Keys of an endpoint: rotated, gone, and asked for by tokens.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{super::remote::Feed, *};
use crate::{addresses::Reach, config::RemoteKeys};

fn here() -> Reach {
    Reach {
        loopback: true,
        ..Reach::default()
    }
}

/// Serves key sets over plain HTTP.
struct Issuer {
    url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            url: format!("http://{}/keys", listener.local_addr().unwrap()),
            answer: Arc::default(),
            asked: Arc::default(),
        };
        let (answer, asked) = (Arc::clone(&issuer.answer), Arc::clone(&issuer.asked));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        issuer
    }

    fn answers(&self, status: &str, body: &str) {
        *self.answer.lock().unwrap() = format!("HTTP/1.1 {status}\r\n\r\n{body}");
    }

    /// From now on it has these keys.
    fn has(&self, kids: &[&str]) {
        let all: Value = serde_json::from_slice(SYMMETRIC).unwrap();
        let is_one = |key: &&Value| kids.contains(&key["kid"].as_str().unwrap());
        let keys: Vec<&Value> = all["keys"]
            .as_array()
            .unwrap()
            .iter()
            .filter(is_one)
            .collect();
        assert_eq!(keys.len(), kids.len());
        self.answers("200 OK", &serde_json::json!({ "keys": keys }).to_string());
    }

    fn remote(&self) -> RemoteKeys {
        RemoteKeys {
            url: self.url.clone(),
            roots: None,
            refresh: Duration::from_secs(300),
            stale: Duration::from_secs(3600),
        }
    }

    /// A method with these keys, and its feed, which nobody runs.
    fn method(&self) -> (Jwt, Arc<Feed>) {
        let jwt = Jwt::compile(&rules(JwtKeys::Remote(self.remote())), None);
        let feed = Arc::new(Feed::new(&self.remote(), here(), None));
        let set = jwt.endpoint().unwrap().feed.set(Arc::clone(&feed));
        assert!(set.is_ok());
        (jwt, feed)
    }
}

fn token(name: &str) -> String {
    let tokens = tokens();
    let mut all = tokens["valid"].as_array().unwrap().iter();
    let found = all.find(|case| case["name"] == name).unwrap();
    found["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn keys_rotate_without_an_outage() {
    let issuer = Issuer::start().await;
    let (jwt, feed) = issuer.method();
    let (old, new) = (token("ES256"), token("RS256"));
    assert!(jwt.unavailable().unwrap().contains("no answer yet"));
    issuer.has(&["p256"]);
    feed.fetch().await.unwrap();
    assert_eq!(jwt.unavailable(), None);
    assert!(ask(&jwt, &old).is_ok());
    assert_eq!(ask(&jwt, &new).err(), Some(Outcome::UnknownConsumer));
    let (_, generation) = feed.keys().unwrap();
    feed.fetch().await.unwrap();
    assert_eq!(feed.keys().unwrap().1, generation, "the same keys");

    issuer.has(&["p256", "rsa"]);
    feed.fetch().await.unwrap();
    assert!(ask(&jwt, &old).is_ok() && ask(&jwt, &new).is_ok());

    issuer.has(&["rsa"]);
    feed.fetch().await.unwrap();
    assert!(ask(&jwt, &new).is_ok());
    let gone = ask(&jwt, &old).err();
    assert_eq!(gone, Some(Outcome::UnknownConsumer), "though remembered");
}

#[tokio::test]
async fn keys_outlive_their_endpoint_for_a_while() {
    let issuer = Issuer::start().await;
    let (jwt, feed) = issuer.method();
    issuer.has(&["p256"]);
    feed.fetch().await.unwrap();
    for (status, body, why) in [
        ("500 Internal Server Error", "", "status 500"),
        ("302 Found", "", "status 302"),
        ("200 OK", "<html>", "not JSON"),
        ("200 OK", "{\"keys\":{}}", "no array"),
        ("200 OK", "{\"keys\":[]", "not JSON"),
        ("404 Not Found", "{\"keys\":[]}", "status 404"),
        (
            "200 OK",
            &" ".repeat(300 * 1024),
            "larger than 262144 bytes",
        ),
    ] {
        issuer.answers(status, body);
        let error = feed.fetch().await.unwrap_err();
        assert!(error.contains(why), "{error}");
        feed.failed(error);
        assert!(ask(&jwt, &token("ES256")).is_ok());
        assert_eq!(jwt.unavailable(), None);
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3500)).await;
    assert!(ask(&jwt, &token("ES256")).is_ok());
    tokio::time::advance(Duration::from_secs(200)).await;
    assert_eq!(ask(&jwt, &token("ES256")).err(), Some(Outcome::Unavailable));
    let why = jwt.unavailable().unwrap().into_owned();
    assert!(why.contains("larger than 262144 bytes"), "{why}");
}

/// Whoever takes all of its keys back is believed at once: the old ones do not go on.
#[tokio::test]
async fn a_set_without_a_usable_key_replaces_the_keys() {
    let issuer = Issuer::start().await;
    let (jwt, feed) = issuer.method();
    let token = token("ES256");
    for set in [
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}]}"#,
    ] {
        issuer.has(&["p256"]);
        feed.fetch().await.unwrap();
        assert!(ask(&jwt, &token).is_ok());
        issuer.answers("200 OK", set);
        feed.fetch().await.unwrap();
        assert_eq!(ask(&jwt, &token).err(), Some(Outcome::UnknownConsumer));
        let mut headers = http::HeaderMap::new();
        let bearer = format!("Bearer {token}").parse().unwrap();
        headers.insert(http::header::AUTHORIZATION, bearer);
        let told = jwt.explain(&headers, SystemTime::now()).unwrap();
        assert!(told.contains("no key that can be used"), "{told}");
        // And it stays so while the endpoint fails.
        feed.failed("status 500".into());
        assert_eq!(ask(&jwt, &token).err(), Some(Outcome::UnknownConsumer));
    }
}

#[tokio::test]
async fn symmetric_keys_do_not_come_from_an_endpoint() {
    let issuer = Issuer::start().await;
    let (_, feed) = issuer.method();
    issuer.has(&["oct"]);
    feed.fetch().await.unwrap();
    assert!(feed.keys().unwrap().0.is_empty());
    issuer.has(&["oct", "p256"]);
    feed.fetch().await.unwrap();
    assert_eq!(feed.keys().unwrap().0.len(), 1);
}

#[tokio::test]
async fn unknown_keys_are_asked_for_once_in_a_while() {
    let issuer = Issuer::start().await;
    let (jwt, feed) = issuer.method();
    issuer.has(&["p256"]);
    let task = tokio::spawn(Feed::run(Arc::downgrade(&feed)));
    // Those that come before the first answer wait for it.
    assert!(feed.has_newer(0).await);
    let (_, generation) = feed.keys().unwrap();
    assert!(ask(&jwt, &token("ES256")).is_ok());
    while issuer.asked.load(Ordering::SeqCst) > 0 && feed.is_asking() {
        tokio::task::yield_now().await;
    }
    issuer.has(&["p256", "rsa"]);
    let waiting = (0..20).map(|_| feed.has_newer(generation));
    let newer = futures::future::join_all(waiting).await;
    assert!(newer.into_iter().all(|newer| newer));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
    let (_, generation) = feed.keys().unwrap();
    while feed.is_asking() {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        assert!(!feed.has_newer(generation).await);
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
    drop(jwt);
    drop(feed);
    task.await.unwrap();
}

#[tokio::test]
async fn requests_that_wait_are_counted() {
    let issuer = Issuer::start().await;
    // Nobody asks, so that those who wait do so until they give up.
    let (_, feed) = issuer.method();
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let waiting = (0..400).map(|_| async {
        assert!(!feed.has_newer(0).await);
        u32::from(begin.elapsed() >= Duration::from_secs(1))
    });
    let waited: u32 = futures::future::join_all(waiting).await.into_iter().sum();
    assert_eq!(waited, 256);
}

#[tokio::test]
async fn a_feed_with_other_times_begins_with_the_keys() {
    let issuer = Issuer::start().await;
    let (_, feed) = issuer.method();
    issuer.has(&["p256"]);
    feed.fetch().await.unwrap();
    let mut remote = issuer.remote();
    remote.refresh = Duration::from_secs(60);
    let next = Feed::new(&remote, here(), Some(&feed));
    assert_eq!(next.keys().unwrap().1, feed.keys().unwrap().1);
}

#[tokio::test]
async fn urls_outside_of_reach_are_not_asked() {
    let issuer = Issuer::start().await;
    issuer.has(&["p256"]);
    let feed = Feed::new(&issuer.remote(), Reach::default(), None);
    assert!(feed.fetch().await.unwrap_err().contains("not https"));
    let mut remote = issuer.remote();
    for (url, why) in [
        ("https://127.0.0.1:1/", "it is a loopback address"),
        (
            "https://[::ffff:169.254.169.254]/",
            "it is a cloud's metadata service",
        ),
        ("http://10.0.0.1/", "not https"),
    ] {
        remote.url = url.into();
        let feed = Feed::new(&remote, Reach::default(), None);
        let error = feed.fetch().await.unwrap_err();
        assert!(error.contains(why), "{url}: {error}");
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 0);
}
