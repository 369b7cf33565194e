//! Values of flags, parsed once, with messages for the person who typed them.

use std::{net::IpAddr, str::FromStr, time::Duration};

use hale_dataplane::{
    AccessLog,
    config::{EscapedSlashes, RepeatedSlashes},
};
use ipnet::IpNet;

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

/// A value of `--escaped-slashes`, in any case.
pub(super) fn escaped_slashes(text: &str) -> Result<EscapedSlashes, String> {
    match text.to_ascii_lowercase().as_str() {
        "keep" => Ok(EscapedSlashes::Keep),
        "reject" => Ok(EscapedSlashes::Reject),
        "decode" => Ok(EscapedSlashes::Decode),
        _ => Err(format!("{text:?} is not one of Keep, Reject, Decode")),
    }
}

/// A value of `--repeated-slashes`, in any case.
pub(super) fn repeated_slashes(text: &str) -> Result<RepeatedSlashes, String> {
    match text.to_ascii_lowercase().as_str() {
        "keep" => Ok(RepeatedSlashes::Keep),
        "merge" => Ok(RepeatedSlashes::Merge),
        _ => Err(format!("{text:?} is not one of Keep, Merge")),
    }
}

/// Text that may hold a credential: `Debug` does not print it.
#[derive(Clone)]
pub struct Hidden(String);

impl Hidden {
    /// Shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(..)")
    }
}

/// Takes everything: the message of a refusal would print it.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn hidden(text: &str) -> Result<Hidden, String> {
    Ok(Hidden(text.to_owned()))
}
