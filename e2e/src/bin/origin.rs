//! The backend of the tests: one small server that does whatever a scenario
//! needs of a pod, and lets itself be told to misbehave.
//!
//! The traffic port speaks HTTP/1.1 and HTTP/2 in clear text, WebSocket and
//! enough of gRPC to be called; `/healthz` on it is what policies check. The
//! admin port answers kubelet's readiness probe and takes orders, so that a
//! pod can be ready for Kubernetes and fail its check, or the other way round.
//! At SIGTERM it stops accepting at once, as most servers do: the requests that
//! a rollout loses are lost in just that moment.

#![allow(missing_docs)]

use anyhow::Context as _;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[path = "origin/admin.rs"]
mod admin;
#[path = "origin/serve.rs"]
mod serve;
#[path = "origin/state.rs"]
mod state;
#[path = "origin/traffic.rs"]
mod traffic;

const TRAFFIC_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 8081;
const TLS_PORT: u16 = 8443;

fn main() -> anyhow::Result<()> {
    // The same program is the sandbox container of every pod: one image, and no
    // second language. It has nothing to do but to exist.
    if std::env::args().nth(1).as_deref() == Some("pause") {
        loop {
            std::thread::park();
        }
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let state = Arc::new(state::State::from_env());
    let stop = serve::Stop::default();
    let mut terminate = signal(SignalKind::terminate())?;

    let admin = TcpListener::bind(("0.0.0.0", ADMIN_PORT))
        .await
        .context("binding the admin port")?;
    let traffic = TcpListener::bind(("0.0.0.0", TRAFFIC_PORT))
        .await
        .context("binding the traffic port")?;
    // Admin connections do not take part in the shutdown: they end with the process.
    tokio::spawn(serve::accept(admin, None, serve::Stop::default(), {
        let state = state.clone();
        move |request| admin::answer(state.clone(), request)
    }));
    let mut servers = vec![tokio::spawn(serve::accept(traffic, None, stop.clone(), {
        let state = state.clone();
        move |request| traffic::answer(state.clone(), request)
    }))];
    if let Some(tls) = serve::tls_from_files("/tls/tls.crt", "/tls/tls.key")? {
        let listener = TcpListener::bind(("0.0.0.0", TLS_PORT))
            .await
            .context("binding the TLS port")?;
        servers.push(tokio::spawn(serve::accept(
            listener,
            Some(tls),
            stop.clone(),
            {
                let state = state.clone();
                move |request| traffic::answer(state.clone(), request)
            },
        )));
    }
    println!(
        "{} serves on {TRAFFIC_PORT}, takes orders on {ADMIN_PORT}",
        state.pod
    );

    tokio::select! {
        _ = terminate.recv() => println!("SIGTERM: no new connections, finishing what is in flight"),
        () = state.exit.notified() => println!("told to exit"),
    }
    state.set_ready(false);
    stop.now();
    for server in servers {
        server.await?;
    }
    match std::env::var("COLLECTOR") {
        Ok(collector) => hand_over(&collector, &state)
            .await
            .context("handing the counts over"),
        Err(_) => Ok(()),
    }
}

/// Tells another origin what this one has executed: after its end nobody can ask it.
async fn hand_over(collector: &str, state: &state::State) -> anyhow::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let counts = serde_json::to_string(&state.counts())?;
    let length = counts.len();
    let head = format!(
        "POST /collect HTTP/1.1\r\nhost: collector\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut stream = tokio::net::TcpStream::connect(collector).await?;
    stream
        .write_all(format!("{head}{counts}").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}
