//! Why a handshake with a peer failed, for the person who has to mend the one end or the other.

use std::io;

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};
use rustls_pki_types::{ServerName, UnixTime};

/// Why a handshake in which `name` was wanted did not succeed.
pub(crate) fn handshake_words(error: &io::Error, name: &ServerName<'_>) -> String {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref());
    match cause {
        Some(cause) => of_rustls(cause, name),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => {
                "connection closed in the handshake; does the port speak TLS?".into()
            }
            _ => error.to_string(),
        },
    }
}

fn of_rustls(error: &Error, name: &ServerName<'_>) -> String {
    match error {
        Error::InvalidCertificate(fault) => of_certificate(fault, name),
        // What answers plain text begins with something that is no TLS record.
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "the peer speaks plain text, not TLS".into(),
        Error::AlertReceived(alert) => of_alert(*alert, name),
        Error::NoApplicationProtocol => "the peer speaks neither protocol that was offered".into(),
        Error::PeerIncompatible(why) => format!("the peer's TLS is not ours: {why:?}"),
        error => error.to_string(),
    }
}

fn of_certificate(fault: &CertificateError, name: &ServerName<'_>) -> String {
    let wanted = name.to_str();
    match fault {
        // A CA of the same name with another key is another CA.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the peer's certificate is not trusted: none of the CAs that are trusted signed it"
                .into()
        }
        CertificateError::NotValidForName => {
            format!("the peer's certificate is not for {wanted}")
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("the peer's certificate names nothing, and so not {wanted}")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!(
                "the peer's certificate is for {}, not for {wanted}",
                names(presented)
            )
        }
        CertificateError::Expired => "the peer's certificate has expired".into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the peer's certificate expired at {}", stamp(*not_after))
        }
        CertificateError::NotValidYet => "the peer's certificate is not valid yet".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(
                "the peer's certificate is not valid before {}",
                stamp(*not_before)
            )
        }
        CertificateError::Revoked => "the peer's certificate was revoked".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the peer's certificate is not one for servers".into()
        }
        CertificateError::Other(OtherError(other)) if other.to_string() == "CaUsedAsEndEntity" => {
            "the peer's certificate is not trusted: it is a CA's own, not a server's".into()
        }
        fault => format!("the peer's certificate is not trusted: {fault}"),
    }
}

fn of_alert(alert: AlertDescription, name: &ServerName<'_>) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::UnrecognisedName => format!("the peer has no certificate for {}", name.to_str()),
        Alert::NoApplicationProtocol => {
            "the peer does not speak the protocol that was offered by ALPN".into()
        }
        Alert::ProtocolVersion => "the peer speaks no version of TLS from 1.2 on".into(),
        Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            "the peer shares no cipher with us, or wants a client certificate".into()
        }
        Alert::CertificateRequired | Alert::NoCertificate => {
            "the peer wants a client certificate".into()
        }
        Alert::UnknownCA
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::AccessDenied => {
            format!("the peer does not take our client certificate ({alert:?})")
        }
        alert => format!("the peer ended the handshake ({alert:?})"),
    }
}

/// `a.example, b.example` of what webpki prints as `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    const MOST: usize = 3;
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        inner.trim_matches(['(', ')', '"']).to_owned()
    };
    let mut names: Vec<String> = presented.iter().take(MOST).map(bare).collect();
    if presented.len() > MOST {
        names.push(format!("{} more", presented.len() - MOST));
    }
    names.join(", ")
}

fn stamp(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "an unknown time".into(), |at| at.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_can_mend_is_named() {
        let name = ServerName::try_from("shop.example").unwrap();
        let wrapped = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let plain = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(
            handshake_words(&wrapped(plain), &name),
            "the peer speaks plain text, not TLS"
        );
        let expired = Error::InvalidCertificate(CertificateError::Expired);
        assert!(handshake_words(&wrapped(expired), &name).contains("xpired"));
        let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert_eq!(
            handshake_words(&closed, &name),
            "connection closed in the handshake; does the port speak TLS?"
        );
    }
}
