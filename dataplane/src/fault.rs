//! Whose fault a failed exchange is: one closed list for requests, websockets, questions to external services, checks
//! and fetches.
//!
//! Only what is on the list says something about the other side. Everything else (no file descriptor, memory, port or
//! thread, a local firewall, a limit of Hale's own HTTP/2) is Hale's own shortage, and blames no peer.

use std::{error::Error, io};

use tokio::time::{Duration, Instant};

/// A timer that fires later than this says that its thread was late, and nothing about the other side.
const SLACK: Duration = Duration::from_millis(250);

/// What an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing listens on the address.
    Refused,
    /// The address does not answer: a host that is not there, or no byte in time.
    Silent,
    /// There is no route to the address.
    NoRoute,
    /// The other side spoke, and ended the exchange or broke the protocol.
    Broken,
    /// Hale's own shortage, which says nothing about the other side.
    Own,
}

impl Fault {
    /// What an I/O error says.
    pub(crate) fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::HostUnreachable | Kind::TimedOut => Self::Silent,
            Kind::NetworkUnreachable => Self::NoRoute,
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::NotConnected => Self::Broken,
            // rustls: the handshake is not one, or its certificate is not trusted.
            Kind::InvalidData => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(
                    rustls::Error::FailedToGetCurrentTime | rustls::Error::FailedToGetRandomBytes,
                ) => Self::Own,
                _ => Self::Broken,
            },
            // `io::ErrorKind` has no name for it.
            _ if error.raw_os_error() == Some(EHOSTDOWN) => Self::Silent,
            _ => match error.get_ref() {
                Some(inner) => inner
                    .downcast_ref::<h2::Error>()
                    .map_or(Self::Own, Self::of_http2),
                None => Self::Own,
            },
        }
    }

    /// What an HTTP library's error says. One without an I/O error or HTTP/2 error behind it is about the bytes that
    /// the other side sent, or that it ended the connection.
    pub(crate) fn of_http(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                return Self::of_http2(error);
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Self::of(error);
            }
            cause = error.source();
        }
        Self::Broken
    }

    /// What an error of HTTP/2 says. A limit of Hale's own library (too many small frames, too many resets) is Hale's
    /// fault, even if the other side exceeded it. A breach of RFC 9113 that the library found is the other side's.
    fn of_http2(error: &h2::Error) -> Self {
        if let Some(error) = error.get_io() {
            return Self::of(error);
        }
        if error.is_remote() {
            return Self::Broken;
        }
        const BREACHES: [h2::Reason; 7] = [
            h2::Reason::PROTOCOL_ERROR,
            h2::Reason::FLOW_CONTROL_ERROR,
            h2::Reason::SETTINGS_TIMEOUT,
            h2::Reason::STREAM_CLOSED,
            h2::Reason::FRAME_SIZE_ERROR,
            h2::Reason::COMPRESSION_ERROR,
            h2::Reason::HTTP_1_1_REQUIRED,
        ];
        let found = error.is_library() && error.reason().is_some_and(|it| BREACHES.contains(&it));
        if found { Self::Broken } else { Self::Own }
    }

    /// Whether the other side was silent: the only faults for which `failOpen` opens.
    pub(crate) fn is_silence(self) -> bool {
        matches!(self, Self::Refused | Self::Silent)
    }
}

/// `EHOSTDOWN` of Linux.
const EHOSTDOWN: i32 = 112;

/// Whether a timer that was set for `until` fires too late now to say something about the other side.
pub(crate) fn overslept(until: Instant) -> bool {
    Instant::now().saturating_duration_since(until) > SLACK
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The numbers of Linux, as the kernel gives them.
    #[test]
    fn only_the_list_says_something_about_the_other_side() {
        const LISTED: [(i32, Fault); 9] = [
            (32, Fault::Broken),   // EPIPE
            (101, Fault::NoRoute), // ENETUNREACH
            (103, Fault::Broken),  // ECONNABORTED
            (104, Fault::Broken),  // ECONNRESET
            (107, Fault::Broken),  // ENOTCONN
            (110, Fault::Silent),  // ETIMEDOUT
            (111, Fault::Refused), // ECONNREFUSED
            (112, Fault::Silent),  // EHOSTDOWN
            (113, Fault::Silent),  // EHOSTUNREACH
        ];
        for number in 1..=133 {
            let error = io::Error::from_raw_os_error(number);
            let listed = LISTED.iter().find(|(listed, _)| *listed == number);
            let wanted = listed.map_or(Fault::Own, |(_, fault)| *fault);
            assert_eq!(Fault::of(&error), wanted, "{error}");
        }
        // Among the rest: EPERM, EAGAIN, ENOMEM, EACCES, ENFILE, EMFILE, EADDRINUSE, EADDRNOTAVAIL, ENETDOWN, ENOBUFS.
        for number in [1, 11, 12, 13, 23, 24, 98, 99, 100, 105] {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(Fault::of(&error), Fault::Own, "{error}");
        }
        assert_eq!(Fault::of(&io::Error::other("a thread")), Fault::Own);
    }

    #[test]
    fn tls_errors_are_about_the_other_side_unless_this_machine_failed() {
        let of =
            |error: rustls::Error| Fault::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        let unknown = rustls::CertificateError::UnknownIssuer;
        assert_eq!(
            of(rustls::Error::InvalidCertificate(unknown)),
            Fault::Broken
        );
        assert_eq!(of(rustls::Error::DecryptError), Fault::Broken);
        assert_eq!(of(rustls::Error::FailedToGetRandomBytes), Fault::Own);
        assert_eq!(of(rustls::Error::FailedToGetCurrentTime), Fault::Own);
    }

    #[test]
    fn only_the_list_opens() {
        for (fault, opens) in [
            (Fault::Refused, true),
            (Fault::Silent, true),
            (Fault::NoRoute, false),
            (Fault::Broken, false),
            (Fault::Own, false),
        ] {
            assert_eq!(fault.is_silence(), opens, "{fault:?}");
        }
    }

    #[test]
    fn causes_are_found_behind_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("above")]
        struct Above(#[source] io::Error);
        assert_eq!(
            Fault::of_http(&Above(io::Error::from_raw_os_error(24))),
            Fault::Own
        );
        assert_eq!(
            Fault::of_http(&Above(io::Error::from_raw_os_error(104))),
            Fault::Broken
        );
        let refused = h2::Error::from(h2::Reason::ENHANCE_YOUR_CALM);
        assert_eq!(Fault::of_http(&refused), Fault::Own);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_timer_says_nothing() {
        let until = Instant::now() + Duration::from_secs(1);
        tokio::time::advance(Duration::from_millis(1200)).await;
        assert!(!overslept(until));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(overslept(until));
    }
}
