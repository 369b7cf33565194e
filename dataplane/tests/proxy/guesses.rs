//! What guesses of passwords cost others, and what their time tells.
//!
//! `HALE_MEASURE=10000 cargo test -p hale-dataplane --test proxy measured -- --nocapture` measures it, with so many
//! tries of each kind; without it the same is done a few times, and no time is looked at.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use hale_dataplane::config::{AuthMethod, Config, HostPattern, VirtualHost};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::Instant,
};

use crate::{
    basic_auth::{FILE, basic, http2_get, line, protected, rules},
    support::{Hale, Shop, until},
    wire::{Recorder, get, status},
};

/// A user whose password takes seconds to compare, and is not known to anybody.
fn slow() -> AuthMethod {
    let text = String::from_utf8(FILE.to_vec()).unwrap();
    let hash = text
        .lines()
        .find_map(|line| line.strip_prefix("bcrypt-10:"));
    let hash = hash.unwrap().replace("$10$", "$14$");
    basic(format!("slow:{hash}").as_bytes())
}

/// The shop on its host is protected; on every other host it is open.
fn half_open(recorder: &Recorder, method: AuthMethod) -> Config {
    let mut config = protected(recorder, rules(vec![method])).config();
    let open = Shop::of(&[recorder.origin.address]).config();
    let shop = std::mem::take(&mut config.hosts).remove(0);
    config.hosts = vec![VirtualHost {
        host: HostPattern::parse("shop.test").unwrap(),
        ..shop
    }];
    config.hosts.extend(open.hosts);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_that_do_not_fit_are_refused_and_those_of_who_left_forgotten() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(half_open(&recorder, slow()));
    let threads = std::thread::available_parallelism().unwrap().get();
    // Of these costly hashes, half of the threads take one each, and a client may wait for 64.
    let taken = (threads / 2).max(2) / 2 + 64;
    let mut client = hale.http2().await;
    let mut guesses = FuturesUnordered::new();
    for _ in 0..taken + 4 {
        guesses.push(client.send_request(http2_get("slow", "guess")));
    }
    for _ in 0..4 {
        let response = guesses.next().await.unwrap().unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["x-hale-reason"], "Overloaded");
    }
    let open = || {
        let request = Request::get("http://open.test/");
        request.body(Full::default()).unwrap()
    };
    let response = client.send_request(open()).await.unwrap();
    assert_eq!(response.status(), 200, "others are served");
    drop(guesses);
    until("the queue is free again", async || {
        let mut again = FuturesUnordered::new();
        for _ in 0..64 {
            again.push(client.send_request(http2_get("slow", "guess")));
        }
        let response = client.send_request(open()).await.unwrap();
        assert_eq!(response.status(), 200);
        let early: Option<Option<hyper::Result<Response<Incoming>>>> = again.next().now_or_never();
        early.is_none()
    })
    .await;
}

/// How often to try each, if times are to be measured.
fn measured() -> Option<usize> {
    let tries = std::env::var("HALE_MEASURE").ok()?;
    Some(tries.parse().unwrap())
}

fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort();
    times[((times.len() - 1) as f64 * part) as usize]
}

#[tokio::test(flavor = "multi_thread")]
async fn measured_unknown_users_take_as_long_as_wrong_passwords() {
    let tries = measured().unwrap_or(10);
    let recorder = Recorder::new().await;
    for name in ["sha1", "apr1", "bcrypt-4", "sha512-rounds"] {
        let text = String::from_utf8(FILE.to_vec()).unwrap();
        let own = text.lines().find(|line| line.starts_with(name)).unwrap();
        let hale = protected(&recorder, rules(vec![basic(own.as_bytes())])).serve();
        let mut client = hale.http2().await;
        let mut times = [Vec::new(), Vec::new()];
        for turn in 0..tries {
            // Names of the same length, each first in every other turn.
            for which in [turn % 2, 1 - turn % 2] {
                let unknown = "x".repeat(name.len());
                let request = http2_get([name, &unknown][which], "wrong");
                let begun = Instant::now();
                let response = client.send_request(request).await.unwrap();
                times[which].push(begun.elapsed());
                assert_eq!(response.status(), 401);
            }
        }
        let [wrong, unknown] = times.map(|mut times| quantile(&mut times, 0.5).as_secs_f64());
        if measured().is_some() {
            let percent = (unknown / wrong - 1.0) * 100.0;
            println!("{name}: wrong {wrong:.6} s, unknown {unknown:.6} s, {percent:+.2} %");
            assert!(percent.abs() < 5.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn measured_guesses_do_not_slow_an_open_route() {
    let (seconds, user) = match measured() {
        Some(_) => (20, "bcrypt-10"),
        None => (1, "bcrypt-4"),
    };
    let recorder = Recorder::new().await;
    let hale = Hale::start(half_open(&recorder, basic(FILE)));
    let guess = get("/", &line(user, "guess"));
    let address = hale.address;
    let flood = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let mut answers = FuturesUnordered::new();
        for number in 0..200 * seconds {
            tick.tick().await;
            // Of eight clients, so that the queue is full.
            let client = format!("127.0.0.{}:0", 2 + number % 8).parse().unwrap();
            let guess = guess.clone();
            answers.push(tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(client).unwrap();
                let mut stream = socket.connect(address).await.unwrap();
                stream.write_all(guess.as_bytes()).await.unwrap();
                let mut response = String::new();
                stream.read_to_string(&mut response).await.unwrap();
                status(&response).to_owned()
            }));
        }
        let mut statuses = Vec::new();
        while let Some(answer) = answers.next().await {
            statuses.push(answer.unwrap());
        }
        statuses
    });
    let mut client = hale.http2::<Full<Bytes>>().await;
    let mut times = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    while !flood.is_finished() {
        tick.tick().await;
        let request = Request::get("http://open.test/");
        let request = request.body(Full::default()).unwrap();
        let begun = Instant::now();
        let response = client.send_request(request).await.unwrap();
        times.push(begun.elapsed());
        assert_eq!(response.status(), 200);
    }
    let statuses = flood.await.unwrap();
    let count = |wanted: &str| statuses.iter().filter(|status| *status == wanted).count();
    assert_eq!(count("401") + count("503"), statuses.len());
    assert!(count("401") > 0);
    if measured().is_some() {
        let (p50, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        let (denied, busy) = (count("401"), count("503"));
        println!(
            "open route: p50 {p50:?}, p99 {p99:?} of {}; 401: {denied}, 503: {busy}",
            times.len()
        );
        assert!(p99 < Duration::from_millis(20));
    }
}
