//! The pods of the demo: five small servers on a thread of their own.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{Ipv4Addr, TcpListener},
    thread,
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

/// The pods, and the ports that `examples/demo` names for them.
pub(super) const PORTS: [(&str, u16); 5] = [
    ("shop-a", 9101),
    ("shop-b", 9102),
    ("shop-c", 9103),
    ("slow-a", 9104),
    ("broken-a", 9105),
];

/// shop-b fails its check for the end of each such time.
const PERIOD: Duration = Duration::from_secs(30);
/// When in the period it begins to fail.
const FAILS_FROM: Duration = Duration::from_secs(20);
/// How long slow-a thinks.
const THINKS: Duration = Duration::from_secs(2);

/// Starts all of them. Returns where each really listens, by the port that it should have.
pub(super) fn start() -> io::Result<BTreeMap<u16, u16>> {
    let mut ports = BTreeMap::new();
    let mut listeners = Vec::new();
    for (pod, port) in PORTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        listener.set_nonblocking(true)?;
        ports.insert(port, listener.local_addr()?.port());
        listeners.push((pod, listener));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("demo-backends".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let began = Instant::now();
                let pods = listeners
                    .into_iter()
                    .map(|(pod, listener)| serve(pod, listener, began));
                futures::future::join_all(pods).await;
            });
        })?;
    Ok(ports)
}

async fn serve(pod: &'static str, listener: TcpListener, began: Instant) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(pod, %error, "a sample backend cannot listen");
            return;
        }
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| async move {
                Ok::<_, Infallible>(answer(pod, &request, began.elapsed()).await)
            });
            // A client that goes away is none of a sample's business.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    pod: &'static str,
    request: &Request<Incoming>,
    age: Duration,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let (status, body) = if path == "/healthz" {
        if passes(pod, age) {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the database is away\n".to_owned(),
            )
        }
    } else {
        if pod == "slow-a" {
            tokio::time::sleep(THINKS).await;
        }
        (
            StatusCode::OK,
            format!("{pod} answers {} {path}\n", request.method()),
        )
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}

/// Whether a pod passes its check, `age` after the start.
fn passes(pod: &str, age: Duration) -> bool {
    let in_period = Duration::from_millis(
        u64::try_from(age.as_millis() % PERIOD.as_millis()).unwrap_or_default(),
    );
    match pod {
        "broken-a" => false,
        "shop-b" => in_period < FAILS_FROM,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pod_fails_now_and_then_and_one_always() {
        let at = |pod, seconds| passes(pod, Duration::from_secs(seconds));
        assert!(at("shop-a", 25) && at("shop-b", 0) && at("shop-b", 19) && at("shop-b", 31));
        assert!(!at("shop-b", 20) && !at("shop-b", 29) && !at("shop-b", 55));
        assert!(!at("broken-a", 0));
    }
}
