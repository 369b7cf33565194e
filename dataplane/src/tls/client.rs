//! TLS to peers: one rustls configuration for each upstream that asks for it.

use std::{net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::config::{Protocol, Trust, UpstreamTls};

/// TLS to the peers of one upstream.
#[derive(Clone)]
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl ClientTls {
    pub(crate) fn new(tls: &UpstreamTls, protocol: Protocol) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(rustls::DEFAULT_VERSIONS);
        let builder = match versions {
            Ok(builder) => builder,
            // The default versions are those of the default provider.
            Err(_) => ClientConfig::builder(),
        };
        let builder = match &tls.trust {
            Trust::System => builder.with_root_certificates(system_roots()),
            Trust::Roots(roots) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(roots.certificates().iter().cloned());
                builder.with_root_certificates(store)
            }
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unauthenticated(provider))),
        };
        let mut config = match &tls.client_certificate {
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(Present(Arc::clone(
                certificate.certified_key(),
            )))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        let name = tls
            .server_name
            .as_ref()
            .and_then(|name| ServerName::try_from(name.as_str().to_owned()).ok());
        Self {
            config: Arc::new(config),
            name,
        }
    }

    /// TLS that offers HTTP/1.1 and takes any certificate, as kubelet's probes do. Always the same one.
    pub(crate) fn of_kubelet() -> Arc<ClientConfig> {
        static CONFIG: std::sync::OnceLock<Arc<ClientConfig>> = std::sync::OnceLock::new();
        let make = || {
            let tls = UpstreamTls {
                server_name: None,
                trust: Trust::Anyone,
                client_certificate: None,
            };
            Self::new(&tls, Protocol::Http1).config
        };
        Arc::clone(CONFIG.get_or_init(make))
    }

    /// The name that a peer's certificate must have.
    pub(crate) fn server_name(&self, address: SocketAddr) -> ServerName<'static> {
        self.name
            .clone()
            .unwrap_or_else(|| ServerName::from(address.ip()))
    }
}

fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: std::sync::OnceLock<Arc<RootCertStore>> = std::sync::OnceLock::new();
    let load = || {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a system root certificate cannot be read");
        }
        store.add_parsable_certificates(found.certs);
        Arc::new(store)
    };
    Arc::clone(ROOTS.get_or_init(load))
}

/// Presents one certificate to whoever asks.
#[derive(Debug)]
struct Present(Arc<CertifiedKey>);

impl ResolvesClientCert for Present {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Accepts any certificate whose key signs the handshake: what the user asked for by name.
#[derive(Debug)]
struct Unauthenticated(Arc<CryptoProvider>);

impl ServerCertVerifier for Unauthenticated {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
