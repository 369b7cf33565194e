//! TLS from clients: certificates by server name, changed while running, and hosts that insist on it.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use hale_dataplane::{
    config::{Config, HostCertificate, HostPattern, ObjectRef, PathRule},
    tls::Certificate,
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Hale, Origin, Shop};

/// Takes whatever is presented: the tests look at it themselves.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn certificate(name: &str) -> (Certificate, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let der = made.cert.der().to_vec();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    (
        Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap(),
        der,
    )
}

fn serves(host: &str, certificate: &Certificate) -> HostCertificate {
    HostCertificate {
        host: HostPattern::parse(host).unwrap(),
        source: ObjectRef {
            kind: "Secret",
            namespace: "shop".into(),
            name: "tls".into(),
        },
        certificate: certificate.clone(),
    }
}

/// The hosts of a `Shop`, each of them with TLS.
fn config(shop: &Shop, certificates: Vec<HostCertificate>) -> Config {
    let mut config = shop.config();
    let any = config.hosts.remove(0);
    for entry in &certificates {
        let mut host = any.clone();
        host.host = entry.host.clone();
        for route in &mut host.routes {
            route.https_redirect = true;
        }
        config.hosts.push(host);
    }
    config.certificates = certificates;
    config
}

fn start(config: Config) -> (Hale, SocketAddr) {
    let hale = Hale::with(config, |options| {
        options.https = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    });
    let https = hale.dataplane.https_addresses()[0];
    (hale, https)
}

async fn connect(address: SocketAddr, name: &str, alpn: &[u8]) -> TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

fn presented(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn get(stream: TlsStream<TcpStream>, host: &str) -> (StatusCode, Option<String>) {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .uri("/")
        .header("host", host)
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let reason = response
        .headers()
        .get("x-hale-reason")
        .map(|r| r.to_str().unwrap().to_owned());
    let status = response.status();
    response.into_body().collect().await.unwrap();
    (status, reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_follow_the_server_name_and_change_without_a_restart() {
    let origin = Origin::saying("hello").await;
    let shop = Shop::of(&[origin.address]);
    let (one, one_der) = certificate("one.test");
    let (two, two_der) = certificate("two.test");
    let (next, next_der) = certificate("one.test");
    let entries = vec![serves("one.test", &one), serves("*.two.test", &two)];
    let (hale, https) = start(config(&shop, entries));
    let stream = connect(https, "one.test", b"http/1.1").await;
    assert_eq!(presented(&stream), one_der);
    assert_eq!(get(stream, "one.test").await.0, StatusCode::OK);
    assert_eq!(
        presented(&connect(https, "www.two.test", b"h2").await),
        two_der
    );
    let other = presented(&connect(https, "other.test", b"h2").await);
    assert!(other != one_der && other != two_der, "the self-made one");

    let old = connect(https, "one.test", b"http/1.1").await;
    hale.dataplane
        .publish(config(&shop, vec![serves("one.test", &next)]));
    assert_eq!(
        presented(&connect(https, "one.test", b"http/1.1").await),
        next_der
    );
    assert_eq!(
        get(old, "one.test").await.0,
        StatusCode::OK,
        "old connections go on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_paths_whose_route_asks_for_it_are_redirected() {
    let origin = Origin::saying("hello").await;
    let mut config = Shop::of(&[origin.address]).config();
    let routes = &mut config.hosts[0].routes;
    let mut cart = routes[0].clone();
    cart.path = PathRule::prefix("/cart").unwrap();
    cart.https_redirect = true;
    routes.insert(0, cart);
    let (hale, _) = start(config);
    assert_eq!(hale.get("/").await.status(), StatusCode::OK);
    assert_eq!(
        hale.get("/cart/1").await.status(),
        StatusCode::PERMANENT_REDIRECT
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_another_certificate_is_misdirected() {
    let origin = Origin::saying("hello").await;
    let shop = Shop::of(&[origin.address]);
    let (one, _) = certificate("one.test");
    let (two, _) = certificate("two.test");
    let entries = vec![serves("one.test", &one), serves("two.test", &two)];
    let (_hale, https) = start(config(&shop, entries));
    let stream = connect(https, "one.test", b"http/1.1").await;
    let answer = get(stream, "two.test").await;
    assert_eq!(
        answer,
        (
            StatusCode::MISDIRECTED_REQUEST,
            Some("MisdirectedRequest".into())
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_sent_to_https_but_for_acme() {
    let origin = Origin::saying("hello").await;
    let (one, _) = certificate("shop.test");
    let (hale, _) = start(config(
        &Shop::of(&[origin.address]),
        vec![serves("shop.test", &one)],
    ));
    let response = hale.get("/a/../b?c=d").await;
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(response.headers()["location"], "https://shop.test/b?c=d");
    let response = hale.get("/.well-known/acme-challenge/token").await;
    assert_eq!(response.status(), StatusCode::OK);
}
