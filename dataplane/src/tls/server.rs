//! TLS from clients: the certificate is looked up in the table of the moment, so a new Secret is
//! presented with the next handshake and nothing is restarted.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::Certificate;
use crate::{
    config::{Config, HostPattern},
    table::PeerTable,
};

/// Certificates by server name.
pub(crate) struct CertificateStore {
    exact: HashMap<String, Certificate>,
    wildcard: HashMap<String, Certificate>,
    fallback: Option<Certificate>,
}

impl CertificateStore {
    pub(crate) fn new(config: &Config) -> Self {
        let mut store = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            fallback: config
                .default_certificate
                .clone()
                .or_else(|| self_made().clone()),
        };
        for entry in &config.certificates {
            let certificate = entry.certificate.clone();
            match &entry.host {
                HostPattern::Exact(name) => {
                    store.exact.insert(name.as_str().to_owned(), certificate)
                }
                HostPattern::Wildcard(suffix) => store
                    .wildcard
                    .insert(suffix.as_str().to_owned(), certificate),
                HostPattern::Any => store.fallback.replace(certificate),
            };
        }
        store
    }

    /// The certificate for a host in lower case; the fallback where none fits.
    pub(crate) fn find(&self, host: &str) -> Option<&Certificate> {
        self.exact
            .get(host)
            .or_else(|| {
                host.split_once('.')
                    .and_then(|(_, suffix)| self.wildcard.get(suffix))
            })
            .or(self.fallback.as_ref())
    }
}

/// The certificate of last resort, made once in a process: encryption, and an honest browser warning.
fn self_made() -> &'static Option<Certificate> {
    static MADE: OnceLock<Option<Certificate>> = OnceLock::new();
    MADE.get_or_init(|| {
        let names = vec!["hale.invalid".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string());
        let parsed = made.and_then(|made| {
            let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            Certificate::parse(chain.as_bytes(), key.as_bytes()).map_err(|error| error.to_string())
        });
        parsed
            .inspect_err(|error| tracing::error!(error, "cannot make a certificate of last resort"))
            .ok()
    })
}

/// Looks certificates up in the current table.
struct Resolver {
    table: Arc<ArcSwap<PeerTable>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let name = hello.server_name().unwrap_or("");
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        table
            .certificates
            .find(name)
            .map(|certificate| Arc::clone(certificate.certified_key()))
    }
}

/// The one configuration of all TLS listeners: TLS 1.2 and 1.3, `h2` and `http/1.1`, tickets.
pub(crate) fn server_config(
    table: Arc<ArcSwap<PeerTable>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver { table }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 2;
    Ok(Arc::new(config))
}
