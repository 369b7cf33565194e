//! Services that are asked and do not answer, break off, have too much to do, or are not there.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_refuses_or_lets_pass_as_the_policy_says() {
    let silent = Origin::raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    for judges in [vec![], vec![dead().await], vec![silent.address]] {
        let mut asking = Asking::peers(&judges).await;
        asking.external.timeout = Duration::from_millis(200);
        asking.judges.limits.queue.timeout = Duration::from_millis(10);
        let answer = asking.serve().send(get(&[])).await;
        assert_unavailable(&answer);
        assert!(
            text(&answer).contains("auth/judge:http"),
            "{}",
            text(&answer)
        );
        asking.external.fail_open = true;
        let hale = asking.serve();
        let sent = [
            ("x-user", "mallory"),
            ("x-hale-auth", "external"),
            ("x-hale-consumer", "m"),
        ];
        let answer = hale.send(get(&sent)).await;
        assert_eq!(
            (answer.status().as_u16(), text(&answer)),
            (200, ""),
            "unnamed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_breaks_off_was_there() {
    // Only what has read the question has it for certain.
    let breaking = Origin::raw(|mut stream, _| async move {
        let mut question = Vec::new();
        while !question.ends_with(b"\r\n\r\n") {
            question.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    for by_url in [false, true] {
        let mut asking = Asking::peers(&[breaking.address]).await;
        asking.external.fail_open = true;
        if by_url {
            let url = format!("http://{}", breaking.address);
            asking.external.service = ExternalService::Url(url);
        }
        // What it broke off for may be the request.
        assert_unavailable(&asking.serve().send(get(&[])).await);
    }
}

/// A head decides, whatever becomes of the body: it stalls, breaks off, or is larger than anybody reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_spoken_once_its_head_is_there() {
    for (said, body, wanted) in [
        ("401 Unauthorized\r\ncontent-length: 99", "stall", 401),
        ("403 Forbidden\r\ncontent-length: 99", "stall", 403),
        ("403 Forbidden\r\ncontent-length: 99", "break off", 403),
        (
            "403 Forbidden\r\ntransfer-encoding: chunked",
            "nonsense\r\n",
            403,
        ),
        ("401 Unauthorized\r\ncontent-length: 999999", "much", 401),
        (
            "200 OK\r\nx-user: ada\r\ncontent-length: 999999",
            "much",
            200,
        ),
        ("200 OK\r\nx-user: ada\r\ncontent-length: 99", "stall", 200),
    ] {
        let speaking = Origin::raw(move |mut stream, _| async move {
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                question.push(stream.read_u8().await.unwrap());
            }
            let head = format!("HTTP/1.1 {said}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            match body {
                "stall" => std::future::pending().await,
                "break off" => {}
                // Whoever does not read it closes the connection.
                "much" => drop(stream.write_all(&[b'x'; 999_999]).await),
                body => stream.write_all(body.as_bytes()).await.unwrap(),
            }
        })
        .await;
        let mut asking = Asking::peers(&[]).await;
        asking.external.service = ExternalService::Url(format!("http://{}", speaking.address));
        asking.external.timeout = Duration::from_secs(1);
        asking.external.fail_open = true;
        let answer = asking.serve().send(get(&[("x-user", "mallory")])).await;
        assert_eq!(answer.status(), wanted, "{said}, {body}");
        let ada = "x-user=ada x-hale-auth=external";
        assert!(wanted != 200 || text(&answer) == ada, "{said}, {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_at_its_limits_was_there() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let silent = Origin::raw(move |stream, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            std::future::pending::<()>().await;
            drop(stream);
        }
    })
    .await;
    let mut asking = Asking::peers(&[silent.address]).await;
    asking.external.timeout = Duration::from_secs(60);
    asking.external.fail_open = true;
    asking.judges.limits.max_parallel_requests = Some(1);
    asking.judges.limits.queue.max = 0;
    let hale = Arc::new(asking.serve());
    let other = Arc::clone(&hale);
    let first = tokio::spawn(async move { other.send(get(&[])).await });
    until("the service is asked", async || {
        asked.load(Ordering::SeqCst) == 1
    })
    .await;
    // Whoever sends many requests brings that about.
    let answer = hale.send(get(&[])).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(header(&answer, "x-hale-reason"), "Overloaded");
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_peer_is_asked_after_a_connection_that_failed() {
    let judge = Judge::saying(ok).await;
    let resets = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&resets);
    let resetting = Origin::raw(move |stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            // It takes the question, and closes.
            stream.readable().await.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    for bad in [dead().await, resetting.address] {
        let hale = Asking::peers(&[bad, judge.origin.address]).await.serve();
        let failed = || {
            let report = hale.dataplane.report();
            let mut upstreams = report.upstreams.iter();
            let judges = upstreams.find(|upstream| upstream.id == judge_id());
            let peers = &judges.unwrap().peers;
            let failed = peers.iter().find(|peer| peer.address == bad).unwrap();
            failed.last_error.is_some()
        };
        // Which peer is asked first is chance.
        for _ in 0..64 {
            assert_eq!(hale.get("/").await.status(), 200);
            if failed() {
                break;
            }
        }
        assert!(failed(), "what came of it is known");
    }
    assert!(resets.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_fail_their_checks_are_not_asked() {
    let judge = Judge::saying(ok).await;
    let other = Judge::saying(|| Response::builder().status(403)).await;
    let mut asking = Asking::peers(&[judge.origin.address]).await;
    let mut unready: Peer = ready(other.origin.address);
    unready.readiness = hale_dataplane::config::Readiness::Unready;
    asking.judges.peers.push(unready);
    let hale = asking.serve();
    for _ in 0..6 {
        assert_eq!(hale.get("/").await.status(), 200);
    }
    assert_eq!((judge.questions(), other.questions()), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_refuses_even_where_it_may_fail() {
    let mut asking = Asking::peers(&[]).await;
    asking.external.service = ExternalService::Unavailable("Service auth/judge not found".into());
    asking.external.fail_open = true;
    assert_unavailable(&asking.serve().send(get(&[])).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_policy_asks_so_many_questions_at_a_time() {
    let (release, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::http2(move |_| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|open| *open).await.unwrap();
            Response::new(Full::default())
        }
    })
    .await;
    let mut asking = Asking::peers(&[origin.address]).await;
    asking.judges.protocol = Protocol::Http2;
    asking.external.timeout = Duration::from_secs(60);
    asking.external.fail_open = true;
    let hale = asking.serve();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let sender = hale.http2().await;
        for _ in 0..128 {
            let mut sender = sender.clone();
            let question = Request::get("http://shop.test/").body(Full::<Bytes>::default());
            waiting.spawn(async move {
                let answer = sender.send_request(question.unwrap()).await.unwrap();
                header(&answer, "x-hale-reason").to_owned()
            });
        }
    }
    // Those who are too many are told at once, the others when the service has spoken.
    for _ in 0..128 {
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), "Overloaded");
    }
    release.send(true).unwrap();
    while let Some(reason) = waiting.join_next().await {
        assert_eq!(reason.unwrap(), "");
    }
    assert_eq!(hale.send(get(&[])).await.status(), 200);
}

/// A name that has no address says nothing about the service, nor does a handshake that fails, which was answered.
#[tokio::test(flavor = "multi_thread")]
async fn only_silence_of_the_service_opens() {
    let judge = Judge::saying(ok).await;
    let port = judge.origin.address.port();
    for url in [
        "http://nowhere.invalid/".to_owned(),
        // It speaks no TLS.
        format!("https://localhost:{port}/"),
        // A broadcast address, to which the kernel refuses connections itself.
        "http://255.255.255.255/".to_owned(),
    ] {
        let mut asking = Asking::peers(&[]).await;
        asking.external.service = ExternalService::Url(url.clone());
        asking.external.fail_open = true;
        let answer = asking.serve().send(get(&[])).await;
        assert_eq!(answer.status(), 503, "{url}");
    }
    assert_eq!(judge.questions(), 0);
}

/// A pod that refuses the stream, or says goodbye, is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_refuses_streams_was_there() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const REFUSED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for frame in [REFUSED, GOAWAY] {
        let refusing = Origin::raw(move |mut stream, _| async move {
            stream.write_all(SETTINGS).await.unwrap();
            // Preface, SETTINGS and more: it takes the question's head before it answers.
            let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
            while !read
                .windows(9)
                .any(|head| head[3] == 1 && head[5..] == [0, 0, 0, 1])
            {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(length) => read.extend_from_slice(&buffer[..length]),
                }
            }
            stream.write_all(frame).await.unwrap();
            while stream
                .read(&mut buffer)
                .await
                .is_ok_and(|length| length > 0)
            {}
        })
        .await;
        let mut asking = Asking::peers(&[refusing.address]).await;
        asking.judges.protocol = Protocol::Http2;
        asking.external.fail_open = true;
        let hale = asking.serve();
        let answer = hale.send(get(&[])).await;
        assert_eq!(answer.status(), 503, "{frame:?}");
    }
}
