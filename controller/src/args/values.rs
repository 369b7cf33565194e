//! Values of flags, parsed once, with messages for the person who typed them.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use hale_dataplane::AccessLog;
use ipnet::IpNet;

/// `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacedName {
    /// The part before the slash.
    pub namespace: String,
    /// The part after it.
    pub name: String,
}

/// What is wrong with a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct NameError(String, &'static str);

impl FromStr for NamespacedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(NameError(text.to_owned(), "NAMESPACE/NAME")),
        }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

/// `namespace/name`, or `namespace/name:port` with the port's name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// The Service.
    pub service: NamespacedName,
    /// Its port; the first where there is none.
    pub port: Option<String>,
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (service, port) = match text.split_once(':') {
            Some((service, port)) => (service, Some(port)),
            None => (text, None),
        };
        match (service.parse(), port) {
            (Ok(service), port) if port.is_none_or(is_name) => Ok(Self {
                service,
                port: port.map(str::to_owned),
            }),
            _ => Err(NameError(text.to_owned(), "NAMESPACE/NAME[:PORT]")),
        }
    }
}

/// `5s`, `250ms`, `1h30m`; a plain number is refused, because people mean different units by it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("{text:?} is not a duration: write a number and a unit, as in 250ms, 5s or 1h30m")
    };
    let span = jiff::SignedDuration::from_str(text).map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// A CIDR, or one address.
pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text:?} is neither a CIDR (10.0.0.0/8) nor an address"))
}

/// `stdout`, `off`, or a path.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn access_log(text: &str) -> Result<AccessLog, String> {
    Ok(match text {
        "stdout" | "-" => AccessLog::Stdout,
        "off" | "none" | "" => AccessLog::Off,
        path => AccessLog::File(path.into()),
    })
}
