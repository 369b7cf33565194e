//! Checks that pods bring along: each peer by its own, and a peer without one as if there were none.

use std::time::Duration;

use bytes::Bytes;
use hale_dataplane::{
    config::{
        ActiveCheck, CheckKind, HttpCheck, Initial, Peer, PeerCheck, Percent, Protocol,
        StatusRange, TcpCheck,
    },
    health::{Standing, Verdict},
    reason::Reason,
    report::PeerReport,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::support::{Hale, Origin, Shop, until};

fn active(kind: CheckKind) -> ActiveCheck {
    ActiveCheck {
        kind,
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(100),
        jitter: Percent::new(20).unwrap(),
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        initial: Initial::Checking,
    }
}

fn get(path: &str) -> ActiveCheck {
    active(CheckKind::Http(HttpCheck {
        method: "GET".into(),
        path: path.into(),
        host: None,
        headers: Vec::new(),
        expected_statuses: vec![StatusRange { from: 200, to: 399 }],
        expected_body: None,
    }))
}

/// Is well at `/well` alone.
async fn origin() -> Origin {
    Origin::http1(|request: Request<Incoming>| async move {
        let mut response = Response::new(Full::<Bytes>::default());
        if request.uri().path() != "/well" {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    })
    .await
}

fn with(mut peer: Peer, check: ActiveCheck, tls: bool) -> Peer {
    peer.check = Some(Box::new(PeerCheck { check, tls }));
    peer
}

fn peers(hale: &Hale) -> Vec<PeerReport> {
    hale.dataplane.report().upstreams.remove(0).peers
}

/// Waits until the checks say so of the peers, in their order.
async fn verdicts(hale: &Hale, wanted: &[Verdict]) {
    until(&format!("{wanted:?}"), async || {
        peers(hale)
            .iter()
            .map(|peer| peer.probe)
            .eq(wanted.iter().copied())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_peer_is_checked_by_its_own_and_one_without_is_served() {
    let origins = [
        origin().await,
        origin().await,
        origin().await,
        origin().await,
    ];
    let mut shop = Shop::of(&origins.each_ref().map(|origin| origin.address));
    // The traffic's protocol is not that of kubelet's probes.
    shop.upstream.protocol = Protocol::Http2;
    shop.upstream.health.active = Some(active(CheckKind::OfPeer));
    let [well, ill, secret, bare]: [Peer; 4] = shop.upstream.peers.try_into().unwrap();
    shop.upstream.peers = vec![
        with(well, get("/well"), false),
        with(ill, get("/ill"), false),
        with(secret, active(CheckKind::Tcp(TcpCheck::default())), true),
        bare,
    ];
    let hale = shop.serve();
    let (pass, fail) = (Verdict::Pass, Verdict::Fail);
    verdicts(&hale, &[pass, fail, fail, Verdict::Unknown]).await;
    let told = peers(&hale);
    let standings: Vec<Standing> = told.iter().map(|peer| peer.standing).collect();
    let (serve, out) = (Standing::Serve, Standing::Exclude);
    assert_eq!(standings, [serve, out, out, serve]);
    let serving: Vec<bool> = told.iter().map(|peer| peer.serving).collect();
    assert_eq!(serving, [true, false, false, true]);
    assert_eq!(told[1].reason, Some(Reason::ActiveCheckFailed));
    assert!(
        told[1]
            .message
            .starts_with("GET /ill: HTTP 503, want 200-399, "),
        "{}",
        told[1].message
    );
    assert!(
        told[2]
            .message
            .starts_with("TCP: TLS: the peer speaks plain text, not TLS, "),
        "{}",
        told[2].message
    );
    assert_eq!((told[3].reason, told[3].message.as_str()), (None, ""));

    // Its check is taken away, and with it what that said.
    shop.upstream.peers[1].check = None;
    hale.dataplane.publish(shop.config());
    verdicts(&hale, &[pass, Verdict::Unknown, fail, Verdict::Unknown]).await;
    assert!(peers(&hale)[1].serving);

    // A check that is new has to pass before the peer goes on.
    shop.upstream.peers[3].check = Some(Box::new(PeerCheck {
        check: get("/ill"),
        tls: false,
    }));
    hale.dataplane.publish(shop.config());
    verdicts(&hale, &[pass, Verdict::Unknown, fail, fail]).await;
    assert!(!peers(&hale)[3].serving);
}
