//! Hosts, paths, ports and protocols: what an Ingress promises.

use crate::origin::{Origin, ingress, ingress_with_paths};
use crate::stage::Stage;
use anyhow::{Context as _, ensure};
use futures::{SinkExt as _, StreamExt as _};
use hale_e2e::client::{Answer, Ask};
use hale_e2e::wait::until;
use tokio_tungstenite::tungstenite::Message;

pub(crate) async fn hosts_and_paths_reach_their_services(stage: &Stage) -> anyhow::Result<()> {
    let (one, two) = (Origin::new("one", 1), Origin::new("two", 1));
    let (host, wild) = (stage.host("www"), format!("*.{}", stage.host("wild")));
    stage
        .apply(&ingress_with_paths(
            "paths",
            &host,
            &[
                ("Prefix", "/", "one", "name: http"),
                ("Prefix", "/two", "two", "name: http"),
                ("Exact", "/two/exact", "one", "name: http"),
                ("ImplementationSpecific", "/specific", "two", "name: http"),
                ("Prefix", "/gone", "gone", "name: http"),
            ],
        ))
        .await?;
    stage.apply(&ingress("wild", &wild, "two")).await?;
    stage.start(&[&one, &two]).await?;

    for (host, path, origin) in [
        (&host, "/", &one),
        (&host, "/twofold", &one),
        (&host, "/two", &two),
        (&host, "/two/", &two),
        (&host, "/two/more?query=1", &two),
        (&host, "/two/exact", &one),
        (&host, "/two/exact/more", &two),
        (&host, "/specific/x", &two),
        (&host.to_uppercase(), "/two", &two),
        (&stage.host("any.wild"), "/", &two),
    ] {
        stage.serves(host, path, origin).await?;
    }
    // A wildcard stands for one label.
    for host in [
        stage.host("unknown"),
        stage.host("wild"),
        stage.host("a.b.wild"),
    ] {
        let answer = stage
            .get(&host, "/")
            .await?
            .want(404)
            .with_context(|| host.clone())?;
        ensure!(
            answer.header("x-hale-reason") == "NoRoute",
            "{host}: {}",
            answer.summary()
        );
    }
    // A Service that does not exist costs its own path only.
    let answer = stage.get(&host, "/gone/x").await?.want(503)?;
    ensure!(
        answer.header("x-hale-reason") == "ServiceNotFound",
        "{}",
        answer.summary()
    );
    stage.event("Ingress", "paths", "ServiceNotFound").await?;
    Ok(())
}

pub(crate) async fn a_default_backend_takes_what_no_rule_matches(
    stage: &Stage,
) -> anyhow::Result<()> {
    let (one, rest) = (Origin::new("one", 1), Origin::new("rest", 1));
    let host = stage.host("www");
    stage
        .apply(&format!(
            r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: with-default}}
spec:
  ingressClassName: hale
  defaultBackend: {{service: {{name: rest, port: {{name: http}}}}}}
  rules:
  - host: "{host}"
    http:
      paths: [{{path: /one, pathType: Prefix, backend: {{service: {{name: one, port: {{name: http}}}}}}}}]
"#
        ))
        .await?;
    stage.start(&[&one, &rest]).await?;
    stage.serves(&host, "/one", &one).await?;
    stage.serves(&host, "/else", &rest).await?;
    // An unknown host is everybody's, which is why this scenario runs alone.
    stage
        .serves(&stage.host("no-rule-at-all"), "/", &rest)
        .await?;
    stage
        .kubectl(&["delete", "ingress", "with-default"])
        .await?;
    let gone = Ask::get(&stage.host("no-rule-at-all"), "/");
    stage
        .every_hale("the default backend to be gone", &gone, |answer| {
            answer.want(404).map(drop)
        })
        .await
}

pub(crate) async fn ports_are_found_by_name_and_by_number(stage: &Stage) -> anyhow::Result<()> {
    let one = Origin::new("one", 1);
    let host = stage.host("www");
    let paths = [
        ("Prefix", "/", "one", "name: http"),
        ("Prefix", "/number", "one", "number: 80"),
        // The admin port knows /counts and answers it with the pod's name.
        ("Prefix", "/counts", "one", "name: admin"),
        ("Prefix", "/ready", "one", "number: 81"),
        ("Prefix", "/nameless", "one", "name: nameless"),
        ("Prefix", "/unnumbered", "one", "number: 82"),
    ];
    stage
        .apply(&ingress_with_paths("ports", &host, &paths))
        .await?;
    stage.start(&[&one]).await?;
    stage.serves(&host, "/", &one).await?;
    stage.serves(&host, "/number", &one).await?;
    let counts = stage.get(&host, "/counts").await?.want(200)?.json()?;
    ensure!(counts["requests"].is_u64(), "{counts}");
    ensure!(
        stage.get(&host, "/ready").await?.want(200)?.text() == "ready",
        "another port answered"
    );
    for path in ["/nameless", "/unnumbered"] {
        let answer = stage.get(&host, path).await?.want(503)?;
        ensure!(
            answer.header("x-hale-reason") == "PortNotFound",
            "{}",
            answer.summary()
        );
    }
    stage
        .event("Ingress", "ports", "PortNotFound")
        .await
        .map(drop)
}

/// The HTTP version that the backend saw.
fn seen(answer: &Answer) -> anyhow::Result<String> {
    Ok(answer.json()?["version"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

pub(crate) async fn http2_is_spoken_on_both_sides(stage: &Stage) -> anyhow::Result<()> {
    let plain = Origin::new("plain", 1);
    let h2c = Origin {
        app_protocol: Some("kubernetes.io/h2c"),
        ..Origin::new("h2c", 1)
    };
    let (to_plain, to_h2c) = (stage.host("plain"), stage.host("h2c"));
    stage.apply(&ingress("plain", &to_plain, "plain")).await?;
    stage.apply(&ingress("h2c", &to_h2c, "h2c")).await?;
    stage.start(&[&plain, &h2c]).await?;
    stage.serves(&to_plain, "/", &plain).await?;
    stage.serves(&to_h2c, "/", &h2c).await?;

    for (host, upstream) in [(&to_plain, "HTTP/1.1"), (&to_h2c, "HTTP/2.0")] {
        for (ask, downstream) in [
            (Ask::get(host, "/"), http::Version::HTTP_11),
            (Ask::get(host, "/").h2c(), http::Version::HTTP_2),
            (Ask::get(host, "/").https_h2(), http::Version::HTTP_2),
            (Ask::get(host, "/").https(), http::Version::HTTP_11),
        ] {
            let answer = stage.send(&ask).await?.want(200)?;
            ensure!(
                answer.version == downstream,
                "the answer came in {:?}",
                answer.version
            );
            let seen = seen(&answer)?;
            ensure!(
                seen == upstream,
                "{host} saw {seen} of a {downstream:?} request"
            );
        }
    }
    let body = "x".repeat(300_000);
    let answer = stage
        .send(&Ask::get(&to_h2c, "/echo").post(body.clone()).https_h2())
        .await?
        .want(200)?;
    ensure!(
        answer.body == body.as_bytes(),
        "{} of 300000 bytes came back",
        answer.body.len()
    );
    Ok(())
}

pub(crate) async fn websockets_are_tunnelled(stage: &Stage) -> anyhow::Result<()> {
    let one = Origin::new("one", 1);
    let host = stage.host("ws");
    stage.apply(&ingress("ws", &host, "one")).await?;
    stage.start(&[&one]).await?;
    stage.serves(&host, "/", &one).await?;

    let stream = tokio::net::TcpStream::connect(stage.world.hale(80).await?).await?;
    let (mut socket, answer) =
        tokio_tungstenite::client_async(format!("ws://{host}/ws"), stream).await?;
    ensure!(answer.status() == 101, "{answer:?}");
    for size in [5, 70_000] {
        let text = "m".repeat(size);
        socket.send(Message::text(text.clone())).await?;
        let echo = socket.next().await.context("the tunnel ended")??;
        ensure!(
            echo == Message::text(text),
            "another message of {} bytes came back",
            echo.len()
        );
    }
    socket.close(None).await?;
    // Without an upgrade the same path is a plain request, which the backend refuses.
    stage.get(&host, "/ws").await?.want(400).map(drop)
}

pub(crate) async fn grpc_passes_with_its_trailers(stage: &Stage) -> anyhow::Result<()> {
    let echo = Origin {
        app_protocol: Some("kubernetes.io/h2c"),
        ..Origin::new("echo", 1)
    };
    let (host, lost) = (stage.host("grpc"), stage.host("lost"));
    stage.apply(&ingress("grpc", &host, "echo")).await?;
    stage.apply(&ingress("lost", &lost, "lost")).await?;
    stage.start(&[&echo]).await?;
    stage.serves(&host, "/", &echo).await?;

    let call = |host: &str| {
        Ask::get(host, "/echo.Echo/Say")
            .post(&b"\0\0\0\0\x05hello"[..])
            .header("content-type", "application/grpc")
            .header("te", "trailers")
    };
    for ask in [call(&host).h2c(), call(&host).https_h2()] {
        let answer = stage.send(&ask).await?.want(200)?;
        ensure!(
            &answer.body[..] == b"\0\0\0\0\x05hello",
            "the message came back as {:?}",
            answer.body
        );
        let status = answer
            .trailers
            .get("grpc-status")
            .map(|value| value.as_bytes());
        ensure!(status == Some(b"0"), "trailers: {:?}", answer.trailers);
    }
    // Hale's own errors are gRPC's, too: 14 is UNAVAILABLE.
    until(
        "an error that gRPC understands",
        crate::stage::SOON,
        || async {
            let answer = stage.send(&call(&lost).h2c()).await?.want(200)?;
            ensure!(answer.header("grpc-status") == "14", "{:?}", answer.headers);
            ensure!(
                answer.header("x-hale-reason") == "ServiceNotFound",
                "{:?}",
                answer.headers
            );
            Ok(())
        },
    )
    .await
}

pub(crate) async fn only_ingresses_of_hales_class_are_served(stage: &Stage) -> anyhow::Result<()> {
    let one = Origin::new("one", 1);
    let class = "  ingressClassName: hale\n";
    let with = |name: &str, host: &str, class_line: &str| {
        ingress(name, host, "one").replace(class, class_line)
    };
    let hosts = ["ours", "other", "none", "unknown"].map(|name| stage.host(name));
    stage.apply(&with("ours", &hosts[0], class)).await?;
    stage
        .apply(&with("other", &hosts[1], "  ingressClassName: nginx\n"))
        .await?;
    stage.apply(&with("none", &hosts[2], "")).await?;
    stage.start(&[&one]).await?;
    stage.serves(&hosts[0], "/", &one).await?;
    for host in &hosts[1..] {
        stage.get(host, "/").await?.want(404)?;
    }
    // An Ingress that changes its class changes hands.
    stage.apply(&with("other", &hosts[1], class)).await?;
    stage.serves(&hosts[1], "/", &one).await?;
    stage
        .apply(&with("ours", &hosts[0], "  ingressClassName: nginx\n"))
        .await?;
    let gone = Ask::get(&hosts[0], "/");
    stage
        .every_hale("the other class to take the host", &gone, |answer| {
            answer.want(404).map(drop)
        })
        .await
}

pub(crate) async fn the_older_ingress_keeps_a_host_until_it_goes(
    stage: &Stage,
) -> anyhow::Result<()> {
    let (one, two) = (Origin::new("one", 1), Origin::new("two", 1));
    let host = stage.host("www");
    stage.apply(&ingress("older", &host, "one")).await?;
    stage.start(&[&one, &two]).await?;
    // creationTimestamp has seconds only: wait for the next one, or names decide.
    let created = k8s_openapi::jiff::Timestamp::now().as_second();
    until("the clock's next second", crate::stage::SOON, || async {
        ensure!(k8s_openapi::jiff::Timestamp::now().as_second() > created + 1);
        Ok(())
    })
    .await?;
    stage.apply(&ingress("newer", &host, "two")).await?;
    let note = stage.event("Ingress", "newer", "HostConflict").await?;
    ensure!(note.contains("older"), "the winner is not named: {note}");
    stage.serves(&host, "/", &one).await?;
    stage.kubectl(&["delete", "ingress", "older"]).await?;
    stage.serves(&host, "/", &two).await
}
