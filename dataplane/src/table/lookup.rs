//! Which route takes a path, where servers do not agree on what the path is.
//!
//! Servers read a path with `;parameters`, escapes or repeated slashes in several ways. A request goes upstream as
//! it is, so the route that decides is the one whose policy lets the least pass: `/admin;x` and `//admin` do not get
//! by the guard of `/admin`, and `/admin/..%3B/x` not by asking for the lesser guard of `/x`. A limit is not got by,
//! either: a request that two limits are for, of which it can be counted by one only, is rejected.

use super::{CompiledRoute, PeerTable};
use crate::{
    config::{Access, Auth, EscapedSlashes, PathHandling, RepeatedSlashes},
    route::Found,
    sanitize::{self, PathError},
};

/// Why no route is found for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// It is not forwarded in this form.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It leads to two policies, of which a request can satisfy only one.
    #[error("{}", Self::AMBIGUOUS)]
    Ambiguous,
}

impl LookupError {
    const AMBIGUOUS: &str =
        "Servers read the path in several ways, which are under different policies";

    /// In words, for the client.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Path(error) => error.as_str(),
            Self::Ambiguous => Self::AMBIGUOUS,
        }
    }
}

/// Where a request goes.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    /// The route; `None` leaves it to the default route.
    pub(crate) found: Option<Found>,
    /// The path that is forwarded, where the route's policy changes it.
    pub(crate) path: Option<String>,
}

impl PeerTable {
    /// The route of a host and a canonical path, and what its policy makes of the path.
    pub(crate) fn resolve(&self, host: &str, path: &str) -> Result<Routed, LookupError> {
        let mut routed = Routed::default();
        // Each step takes all encoded, or all repeated slashes away: there are three at most.
        loop {
            let path = routed.path.as_deref().unwrap_or(path);
            routed.found = self.find(host, path)?;
            let policy = self.compiled(routed.found).map(|route| route.policy.path);
            match policy.and_then(|policy| rewritten(policy, path)) {
                Some(path) => routed.path = Some(path),
                None => return Ok(routed),
            }
        }
    }

    /// The route of a host and a canonical path; `None` leaves it to the default route.
    fn find(&self, host: &str, path: &str) -> Result<Option<Found>, LookupError> {
        let mut found = None;
        let mut is_first = true;
        let escaped = path.contains("%2F");
        sanitize::visit_readings(path, |reading| {
            let other = self.router.find(host, reading);
            if escaped && self.compiled(other).is_some_and(rejects_escaped) {
                return Err(PathError::EncodedSlash.into());
            }
            if is_first {
                is_first = false;
                found = other;
            } else if other != found
                && let (Some(theirs), ours) = (self.compiled(other), self.compiled(found))
                && takes_over(theirs, ours, found.is_none())?
            {
                found = other;
            }
            Ok::<_, LookupError>(())
        })?;
        Ok(found)
    }

    fn compiled(&self, found: Option<Found>) -> Option<&CompiledRoute> {
        match found {
            Some(found) => self.route(found.host, found.route),
            None => self.default_route(),
        }
    }
}

fn rejects_escaped(route: &CompiledRoute) -> bool {
    route.policy.path.escaped_slashes == EscapedSlashes::Reject
}

/// What a policy forwards instead of a path.
fn rewritten(policy: PathHandling, path: &str) -> Option<String> {
    if policy.escaped_slashes == EscapedSlashes::Decode && path.contains("%2F") {
        return Some(sanitize::decoded_slashes(path));
    }
    (policy.repeated_slashes == RepeatedSlashes::Merge && path.contains("//"))
        .then(|| sanitize::merged(path))
}

/// Whether the route of another reading decides in place of ours, which is the default route if no rule takes the
/// path (`is_default`).
fn takes_over(
    theirs: &CompiledRoute,
    ours: Option<&CompiledRoute>,
    is_default: bool,
) -> Result<bool, LookupError> {
    let Some(ours) = ours else {
        return Ok(true);
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
        // A rule goes before the default route.
        (None, None) => Ok(theirs_decides.unwrap_or(is_default)),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
