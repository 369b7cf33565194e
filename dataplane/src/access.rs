//! Which client addresses may send requests.

use std::net::IpAddr;

use crate::{config::Access, reason::Reason, reject::Reject};

/// Refuses an address that may not.
pub(crate) fn check(access: &Access, _client: IpAddr) -> Result<(), Reject> {
    match access {
        Access::Everybody => Ok(()),
        Access::Rules(_) => Err(Reject::new(Reason::AddressDenied)),
        Access::Unavailable(problem) => Err(Reject::from(problem)),
    }
}
