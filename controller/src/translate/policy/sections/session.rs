//! `spec.sessionPersistence`.

use std::time::Duration;

use hale_dataplane::config::SessionPersistence;

use crate::settings::ObjectKey;

use super::{Judged, duration};

/// What browsers keep a cookie for: 400 days.
const LONGEST: Duration = Duration::from_secs(9600 * 3600);
const NAME_LENGTH: usize = 128;

/// What `sessionPersistence` says, but for the name that depends on the Service.
pub(in crate::translate::policy) struct Session {
    name: Option<String>,
    absolute_timeout: Option<Duration>,
}

pub(super) fn session(section: &hale_crds::SessionPersistence) -> Judged<Session> {
    let hale_crds::SessionPersistenceType::Cookie = section.kind;
    if let Some(name) = &section.session_name
        && !is_name(name)
    {
        return Err(format!(
            "sessionPersistence.sessionName: {name:?} is not 1 to {NAME_LENGTH} letters, digits, '_', '.' and '-', \
             the first a letter or digit"
        ));
    }
    let absolute_timeout = section
        .absolute_timeout
        .as_ref()
        .map(|timeout| {
            let range = Duration::from_secs(1)..=LONGEST;
            duration("sessionPersistence.absoluteTimeout", timeout, range)
        })
        .transpose()?;
    Ok(Session {
        name: section.session_name.clone(),
        absolute_timeout,
    })
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next();
    name.len() <= NAME_LENGTH
        && first.is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

impl Session {
    /// For a Service port. Two Services behind one host would take each other's cookie away, had they one
    /// name.
    pub(in crate::translate::policy) fn for_port(
        &self,
        service: &ObjectKey,
        port: &str,
    ) -> SessionPersistence {
        let default = || format!("HALE-{:08x}", fnv(&format!("{service}:{port}")));
        SessionPersistence {
            cookie: self.name.clone().unwrap_or_else(default),
            absolute_timeout: self.absolute_timeout,
        }
    }
}

/// FNV-1a: the same on every replica and in every version.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
