//! Which route takes a path, where servers do not agree on what the path is.
//!
//! Some servers take `;parameters` off a path before they look at it, and some do not. A request goes upstream as
//! it is, so the route that decides is the one whose policy lets the least pass: `/admin;x` does not get by the
//! guard of `/admin`, and `/admin/..%3B/x` not by asking for the lesser guard of `/x`. A limit is not got by, either:
//! a request that two limits are for, of which it can be counted by one only, is refused.

use super::{CompiledRoute, PeerTable};
use crate::{
    config::{Access, Auth},
    route::Found,
    sanitize::{self, PathError},
};

/// Why no route is found for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// It has no canonical form without its parameters.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It leads to two policies, of which a request can satisfy only one.
    #[error("{}", Self::AMBIGUOUS)]
    Ambiguous,
}

impl LookupError {
    const AMBIGUOUS: &str =
        "With and without its parameters the path is under two different policies";

    /// In words, for the client.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Path(error) => error.as_str(),
            Self::Ambiguous => Self::AMBIGUOUS,
        }
    }
}

impl PeerTable {
    /// The route of a host and a canonical path; `None` leaves it to the default route.
    pub(crate) fn find(&self, host: &str, path: &str) -> Result<Option<Found>, LookupError> {
        let mut found = self.router.find(host, path);
        for reading in sanitize::readings(path)? {
            let other = self.router.find(host, &reading);
            if other == found {
                continue;
            }
            let (Some(theirs), ours) = (self.compiled(other), self.compiled(found)) else {
                continue;
            };
            if takes_over(theirs, ours)? {
                found = other;
            }
        }
        Ok(found)
    }

    fn compiled(&self, found: Option<Found>) -> Option<&CompiledRoute> {
        match found {
            Some(found) => self.route(found.host, found.route),
            None => self.default_route(),
        }
    }
}

/// Whether the route of another reading decides in place of ours.
fn takes_over(theirs: &CompiledRoute, ours: Option<&CompiledRoute>) -> Result<bool, LookupError> {
    let Some(ours) = ours else {
        return Ok(theirs.is_guarded() || theirs.limiter.is_some());
    };
    // `None`: as far as guards go, either may.
    let theirs_decides = match (ours.is_guarded(), theirs.is_guarded()) {
        (true, true) if !ours.is_guarded_as(theirs) => return Err(LookupError::Ambiguous),
        (true, false) => Some(false),
        (false, true) => Some(true),
        _ => None,
    };
    match (&ours.limiter, &theirs.limiter) {
        (Some(one), Some(two)) if one.config.source != two.config.source => {
            Err(LookupError::Ambiguous)
        }
        // The guard is on one of them, and the limit on the other.
        (None, Some(_)) if theirs_decides == Some(false) => Err(LookupError::Ambiguous),
        (Some(_), None) if theirs_decides == Some(true) => Err(LookupError::Ambiguous),
        (None, Some(_)) => Ok(true),
        _ => Ok(theirs_decides == Some(true)),
    }
}

impl CompiledRoute {
    /// Whether not everybody may have it.
    fn is_guarded(&self) -> bool {
        !self.policy.auth.is_open() || !self.policy.access.is_open()
    }

    /// Whether both let the same requests pass: one policy has one section of a kind.
    fn is_guarded_as(&self, other: &Self) -> bool {
        let auth = match (&self.policy.auth, &other.policy.auth) {
            (Auth::Open, Auth::Open) => true,
            (Auth::AnyOf(one), Auth::AnyOf(two)) => one.source == two.source,
            (Auth::Unavailable(one), Auth::Unavailable(two)) => one == two,
            _ => false,
        };
        let access = match (&self.policy.access, &other.policy.access) {
            (Access::Everybody, Access::Everybody) => true,
            (Access::Rules(one), Access::Rules(two)) => one.source == two.source,
            (Access::Unavailable(one), Access::Unavailable(two)) => one == two,
            _ => false,
        };
        auth && access
    }
}
