use std::{convert::Infallible, time::Duration};

use futures::StreamExt;
use h2::{Reason, RecvStream, client::SendRequest};
use http::Request;
use http_body_util::StreamBody;
use hyper_util::rt::TokioIo;
use tokio::{
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::listen::{
    guard::{CoarseClock, Guarded, SWEEP},
    http2,
};

/// A connection to a server whose response bodies hold `held`: `/endless`, `/short`, or `/silent` after a few bytes.
async fn connect(window: u32, held: &Arc<()>) -> (SendRequest<Bytes>, Arc<Guard>) {
    let (client, server) = tokio::io::duplex(1024 * 1024);
    let clock = Arc::new(CoarseClock::new());
    let guard = Guard::new(&clock);
    guard.multiplexed();
    let swept = Arc::clone(&guard);
    spawn_local(async move {
        let start = Instant::now();
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            sweep.tick().await;
            clock.set(start.elapsed());
            swept.sweep();
        }
    });
    let (held, guarded) = (Arc::clone(held), Arc::clone(&guard));
    spawn_local(async move {
        let io = TokioIo::new(Guarded::new(server, Arc::clone(&guarded), Vec::new()));
        let of_request = Arc::clone(&guarded);
        let serve = move |request: Request<hyper::body::Incoming>| {
            let (held, guard) = (Arc::clone(&held), Arc::clone(&of_request));
            async move { Ok::<_, Infallible>(answer(request.uri().path(), held, guard)) }
        };
        http2(&guarded, io, serve).await;
    });
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    // One stream that is not read leaves room for the others.
    builder.initial_connection_window_size(1024 * 1024);
    let (sender, connection) = builder.handshake(client).await.unwrap();
    spawn_local(connection);
    (sender.ready().await.unwrap(), guard)
}

/// A request that is being answered.
struct Active(Arc<Guard>, #[allow(dead_code)] Arc<()>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

fn answer(
    path: &str,
    held: Arc<()>,
    guard: Arc<Guard>,
) -> Response<impl Body<Data = Bytes, Error = Infallible> + Unpin + use<>> {
    guard.begin_request();
    let active = Active(guard, held);
    let (size, most, silent) = match path {
        "/endless" => (100_000, usize::MAX, false),
        "/silent" => (10, 1, true),
        "/short" => (10, 1, false),
        _ => (10, 0, false),
    };
    let data = move || Ok(Frame::data(Bytes::from(vec![b'x'; size])));
    let frames = futures::stream::repeat_with(data).take(most);
    let end = match silent {
        true => futures::stream::pending().left_stream(),
        false => futures::stream::empty().right_stream(),
    };
    let frames = frames.chain(end).inspect(move |_| {
        let _while_it_lasts = &active;
    });
    Response::new(StreamBody::new(Box::pin(frames)))
}

async fn get(sender: &mut SendRequest<Bytes>, path: &str) -> RecvStream {
    let request = Request::get(format!("http://shop.test{path}"));
    let request = request.body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    response.await.unwrap().into_body()
}

/// Waits until so many bodies are there.
async fn left(held: &Arc<()>, count: usize) -> Duration {
    let start = Instant::now();
    // One is the test's, and one the server's.
    while Arc::strong_count(held) != 2 + count {
        assert!(start.elapsed() < Duration::from_secs(3600));
        sleep(Duration::from_millis(50)).await;
    }
    start.elapsed()
}

fn is_limit(waited: Duration) -> bool {
    (Duration::from_secs(60)..Duration::from_secs(61)).contains(&waited)
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_not_taken_end_and_their_connection_does_not() {
    let test = async {
        let held = Arc::new(());
        let (mut sender, guard) = connect(0, &held).await;
        let mut bodies = Vec::new();
        for path in ["/endless", "/short", "/endless"] {
            bodies.push(get(&mut sender, path).await);
        }
        assert_eq!(guard.active(), 3);
        assert!(is_limit(left(&held, 0).await));
        assert_eq!(guard.active(), 0);
        for mut body in bodies {
            let error = body.data().await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(Reason::CANCEL));
        }
        let mut empty = get(&mut sender, "/empty").await;
        let end = empty.data().await;
        assert!(end.is_none_or(|data| data.unwrap().is_empty()));
        assert!(empty.is_end_stream());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_taken_for_a_while_ends_as_well() {
    let test = async {
        let held = Arc::new(());
        let (mut sender, _guard) = connect(65_535, &held).await;
        let _endless = get(&mut sender, "/endless").await;
        // Its client listens; it is the peer that is silent.
        let mut silent = get(&mut sender, "/silent").await;
        assert!(is_limit(left(&held, 1).await));
        assert_eq!(silent.data().await.unwrap().unwrap().len(), 10);
        let hour = Duration::from_secs(3600);
        assert!(timeout(hour, silent.data()).await.is_err());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_slowly_is_let() {
    let test = async {
        let held = Arc::new(());
        let (mut sender, _guard) = connect(65_535, &held).await;
        let mut endless = get(&mut sender, "/endless").await;
        let start = Instant::now();
        let mut taken = 0;
        while start.elapsed() < Duration::from_secs(1800) {
            let data = endless.data().await.unwrap().unwrap();
            endless.flow_control().release_capacity(data.len()).unwrap();
            taken += data.len();
            // 1 KiB a second.
            sleep(Duration::from_millis(data.len() as u64)).await;
        }
        assert!(taken > 1_700_000, "{taken}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_given_away_whole_does_not_keep_a_connection_for_ever() {
    let test = async {
        let held = Arc::new(());
        let (mut sender, guard) = connect(1, &held).await;
        // All of it was handed over, and waits for room that never comes.
        let _short = get(&mut sender, "/short").await;
        left(&held, 0).await;
        assert_eq!(guard.active(), 0);
        let start = Instant::now();
        // The server's goes with its connection.
        while Arc::strong_count(&held) > 1 {
            assert!(start.elapsed() < Duration::from_secs(400));
            sleep(Duration::from_millis(50)).await;
        }
    };
    LocalSet::new().run_until(test).await;
}
