//! Why a handshake with a peer failed, for the person who has to mend the one end or the other.

use std::io;

use rustls::{CertificateError as Certificate, Error, InvalidMessage};

/// The words for an error of [`tokio_rustls::TlsConnector`].
pub(crate) fn handshake_words(error: &io::Error) -> String {
    let cause = error
        .get_ref()
        .and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the peer speaks plain text, not TLS".to_owned()
        }
        Some(Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature)) => {
            "the peer's certificate is not trusted: none of the CAs that are trusted signed it"
                .to_owned()
        }
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_mend_is_named() {
        let wrapped = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let plain = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(
            handshake_words(&wrapped(plain)),
            "the peer speaks plain text, not TLS"
        );
        let expired = Error::InvalidCertificate(Certificate::Expired);
        assert!(handshake_words(&wrapped(expired)).contains("xpired"));
        let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert_eq!(handshake_words(&closed), "tls handshake eof");
    }
}
