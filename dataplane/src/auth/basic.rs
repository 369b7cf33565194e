//! User and password (RFC 7617).
//!
//! Whether a user is there makes no difference to what is done: nobody's hash costs what others' do. A password that
//! was right is known again for five minutes, so that a page with a hundred pictures costs one slow hash; one that was
//! wrong is not, so that every guess costs one.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue};

use self::{
    credential::{Claim, UserPass},
    successes::Successes,
};
use super::{
    Asked, Decision, Granted, Outcome,
    password::{User, Users},
};
use crate::{
    config::{self, Resolved},
    hashing::{Asker, Busy, Hashing},
};

mod credential;
mod successes;

pub(crate) use successes::Memory;

/// A [`config::Basic`], compiled.
pub(super) struct Basic {
    users: Resolved<Users>,
    namespace: Arc<str>,
    challenge: HeaderValue,
    successes: Arc<Successes>,
}

impl Basic {
    /// What its namespace remembers is kept: it names the hash that a password was compared with, and a new password
    /// has another.
    pub(super) fn compile(config: &config::Basic, namespace: &str, memory: &Memory) -> Self {
        let users = match &config.users {
            Resolved::Known(users) if users.is_empty() => {
                Resolved::Unavailable("the Secret has no user".to_owned())
            }
            users => users.clone(),
        };
        Self {
            users,
            challenge: challenge(&config.realm),
            successes: memory.of(namespace),
            namespace: namespace.into(),
        }
    }

    pub(super) async fn decide(&self, asked: &Asked<'_>) -> Decision {
        let given = match credential::find(asked.headers) {
            Claim::None => return Decision::Absent,
            Claim::Unreadable => return Decision::Denied(Outcome::Malformed),
            Claim::Given(given) => given,
        };
        self.judge(given, asked.client, &asked.shared.hashing).await
    }

    async fn judge(&self, given: UserPass, client: IpAddr, hashing: &Hashing) -> Decision {
        let users = match &self.users {
            Resolved::Known(users) => users,
            Resolved::Unavailable(why) => {
                return Decision::Unavailable(Outcome::Unavailable, why.clone());
            }
        };
        let Some(user) = users.find(given.user()) else {
            return Decision::Denied(Outcome::UnknownConsumer);
        };
        let right = if user.hash.is_quick() {
            Ok(user.hash.verify(given.password()))
        } else {
            self.remembered_or_hashed(user, given, client, hashing)
                .await
        };
        match (right, user.exists) {
            (Ok(true), true) => {}
            (Ok(false), true) => return Decision::Denied(Outcome::WrongCredential),
            (Ok(_), false) => return Decision::Denied(Outcome::UnknownConsumer),
            (Err(busy), _) => return Decision::Unavailable(Outcome::Overloaded, busy.to_string()),
        }
        Decision::Granted(Granted {
            consumer: Some(Arc::clone(&user.name)),
            headers: Vec::new(),
        })
    }

    async fn remembered_or_hashed(
        &self,
        user: &User,
        given: UserPass,
        client: IpAddr,
        hashing: &Hashing,
    ) -> Result<bool, Busy> {
        let mark = self.successes.mark(user, given.password());
        if self.successes.has(mark.as_ref()) {
            return Ok(true);
        }
        let hash = Arc::clone(&user.hash);
        let asker = Asker {
            namespace: Arc::clone(&self.namespace),
            client,
            costly: hash.is_costly(),
        };
        let right = hashing
            .run(asker, move || hash.verify(given.password()))
            .await?;
        if right && user.exists {
            self.successes.add(mark);
        }
        Ok(right)
    }

    /// What is wrong with what was given, if more can be said than the outcome says.
    pub(super) fn explain(&self, headers: &HeaderMap, outcome: Outcome) -> Option<String> {
        match (outcome, credential::find(headers), &self.users) {
            (Outcome::Malformed, ..) => credential::fault(headers).map(str::to_owned),
            (Outcome::UnknownConsumer, Claim::Given(given), Resolved::Known(users)) => {
                let fault = users.fault(given.user())?;
                Some(format!(
                    "the Secret has this user, but cannot let them in: {fault}"
                ))
            }
            _ => None,
        }
    }

    pub(super) fn unavailable(&self) -> Option<&str> {
        match &self.users {
            Resolved::Known(_) => None,
            Resolved::Unavailable(why) => Some(why),
        }
    }

    pub(super) fn challenge(&self) -> HeaderValue {
        self.challenge.clone()
    }
}

/// The realm as a quoted string (RFC 9110 §5.6.4); what cannot stand in one is left out.
fn challenge(realm: &str) -> HeaderValue {
    let mut text = String::from("Basic realm=\"");
    for character in realm.chars().filter(|c| matches!(c, ' '..='~')) {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push_str("\", charset=\"UTF-8\"");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Basic realm=\"\""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
