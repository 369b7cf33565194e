//! Certificates and trust, parsed once: a [`Certificate`] that exists can be presented.

use std::{fmt, sync::Arc};

mod client;
mod server;
mod validity;
mod words;

pub(crate) use client::ClientTls;
pub(crate) use server::{CertificateStore, server_config};
pub(crate) use words::handshake_words;

use jiff::Timestamp;
use rustls::{client::verify_server_name, crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde::{Serialize, Serializer};

use crate::config::HostPattern;

/// A certificate chain and its private key. Compares by content; prints its fingerprint, never its key.
#[derive(Clone)]
pub struct Certificate {
    fingerprint: String,
    key: Arc<CertifiedKey>,
}

/// What is wrong with a certificate, in words for the person who made the Secret.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain holds no certificate.
    #[error("tls.crt holds no PEM certificate")]
    NoCertificate,
    /// The chain is not PEM.
    #[error("tls.crt is not valid PEM: {0}")]
    Chain(rustls_pki_types::pem::Error),
    /// The key is not PEM.
    #[error("tls.key holds no PEM private key: {0}")]
    Key(rustls_pki_types::pem::Error),
    /// The key cannot be used, or is not the certificate's.
    #[error("tls.key does not fit tls.crt: {0}")]
    Mismatch(rustls::Error),
    /// The certificate cannot be parsed.
    #[error("tls.crt holds a certificate that cannot be parsed: {0}")]
    Malformed(rustls::Error),
    /// A set of roots holds none.
    #[error("ca.crt holds no PEM certificate")]
    NoRoots,
    /// A set of roots is not PEM.
    #[error("ca.crt is not valid PEM: {0}")]
    RootsPem(rustls_pki_types::pem::Error),
}

impl Certificate {
    /// Parses a PEM chain (leaf first) and a PEM key (PKCS#8, PKCS#1 or SEC1), and checks that they belong together.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(CertificateError::Chain)?;
        let Some(leaf) = chain.first() else {
            return Err(CertificateError::NoCertificate);
        };
        rustls::server::ParsedCertificate::try_from(leaf).map_err(CertificateError::Malformed)?;
        let fingerprint = fingerprint(&chain);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Key)?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(CertificateError::Mismatch)?;
        Ok(Self {
            fingerprint,
            key: Arc::new(key),
        })
    }

    /// What rustls presents.
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// `sha256:` and the hex digest of the chain.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// When the first certificate of the chain ends, where that can be read.
    pub fn not_after(&self) -> Option<Timestamp> {
        validity::not_after(self.key.cert.first()?)
    }

    /// Whether the certificate is for a host: for every name that a wildcard takes, or, of
    /// [`HostPattern::Any`], for any name at all.
    pub fn covers(&self, host: &HostPattern) -> bool {
        let name = match host {
            HostPattern::Exact(name) => name.as_str().to_owned(),
            // No certificate has this very name: it takes a wildcard to cover it.
            HostPattern::Wildcard(suffix) => format!("hale-asks-for-any-name.{suffix}"),
            HostPattern::Any => return true,
        };
        let leaf = self.key.cert.first();
        let parsed = leaf.and_then(|leaf| rustls::server::ParsedCertificate::try_from(leaf).ok());
        match (parsed, ServerName::try_from(name)) {
            (Some(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
            _ => false,
        }
    }
}

fn fingerprint(chain: &[CertificateDer<'_>]) -> String {
    let mut context = ::aws_lc_rs::digest::Context::new(&::aws_lc_rs::digest::SHA256);
    for certificate in chain {
        context.update(certificate);
    }
    let mut text = String::from("sha256:");
    for byte in context.finish().as_ref() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint)
    }
}

impl Serialize for Certificate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.fingerprint)
    }
}

/// A set of trusted roots.
#[derive(Clone)]
pub struct Roots {
    fingerprint: String,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Roots {
    /// Parses a PEM bundle.
    pub fn parse(bundle: &[u8]) -> Result<Self, CertificateError> {
        let certificates = CertificateDer::pem_slice_iter(bundle)
            .collect::<Result<Vec<_>, _>>()
            .map_err(CertificateError::RootsPem)?;
        if certificates.is_empty() {
            return Err(CertificateError::NoRoots);
        }
        for certificate in &certificates {
            rustls::server::ParsedCertificate::try_from(certificate)
                .map_err(CertificateError::Malformed)?;
        }
        Ok(Self {
            fingerprint: fingerprint(&certificates),
            certificates: certificates.into(),
        })
    }

    /// The roots, as rustls wants them.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.fingerprint)
    }
}

impl Serialize for Roots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.fingerprint)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_covers_its_names() {
        let names = ["shop.test", "*.shop.test", "one.other.test"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = made.signing_key.serialize_pem();
        let certificate = Certificate::parse(made.cert.pem().as_bytes(), key.as_bytes()).unwrap();
        for (host, covered) in [
            ("shop.test", true),
            ("www.shop.test", true),
            ("*.shop.test", true),
            ("a.b.shop.test", false),
            ("one.other.test", true),
            ("*.other.test", false),
            ("", true),
        ] {
            let host = HostPattern::parse(host).unwrap();
            assert_eq!(certificate.covers(&host), covered, "{host}");
        }
    }
}
