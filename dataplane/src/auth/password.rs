//! Users and their hashed passwords, as `htpasswd` writes them.
//!
//! One bad line costs its own user, and is told by line and name, never with what it says of the password. For who
//! is not there, a hash is kept that costs as much as most others in the file: nobody learns from the time that an
//! answer takes whether a user exists.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use serde::{Serialize, Serializer};

use hash::{Cost, Hash};

mod apr1;
mod crypt64;
mod hash;

/// Bytes of a user's name.
pub(super) const LONGEST_NAME: usize = 255;
/// Bytes of a password. SHA-crypt's work grows with them, and `htpasswd` takes half as many.
pub(super) const LONGEST_PASSWORD: usize = 512;

/// Who there is. Cheap to clone.
#[derive(Clone, Default, PartialEq)]
pub struct Users(Arc<Known>);

#[derive(Default, PartialEq)]
struct Known {
    by_name: BTreeMap<Box<str>, User>,
    /// Why users have no hash that can be used; for whoever asks why they are not let in.
    faults: BTreeMap<Box<str>, String>,
    /// For those who are not there; `None` while nobody is.
    nobody: Option<User>,
}

/// One user, or nobody.
#[derive(Clone, PartialEq)]
pub(super) struct User {
    pub(super) name: Arc<str>,
    pub(super) hash: Arc<Hash>,
    /// False is nobody: the work is done, and its result does not count.
    pub(super) exists: bool,
}

impl Users {
    /// Reads lines of `user:hash`; what follows a second colon is a comment, as for Apache and nginx. Gives the users
    /// of the good lines, and a message for each other line but empty ones and those that begin with `#`.
    pub fn from_htpasswd(text: &[u8]) -> (Self, Vec<String>) {
        let mut reading = Reading::default();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let place = format!("line {}: ", index + 1);
            let mut fields = line.splitn(3, |byte| *byte == b':');
            match (fields.next().map(std::str::from_utf8), fields.next()) {
                (Some(Ok(user)), Some(hash)) => reading.add(&place, user, hash),
                (Some(Ok(_)), None) => reading
                    .messages
                    .push(format!("{place}there is no colon between user and hash")),
                _ => reading
                    .messages
                    .push(format!("{place}the user's name is not UTF-8")),
            }
        }
        reading.finish()
    }

    /// Takes users with their hashes, one by one. Gives the users with good hashes, and a message for each other.
    pub fn from_map<'a>(users: impl Iterator<Item = (&'a str, &'a [u8])>) -> (Self, Vec<String>) {
        let mut reading = Reading::default();
        for (user, hash) in users {
            reading.add("", user, hash.trim_ascii());
        }
        reading.finish()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.0.by_name.is_empty()
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.by_name.keys().map(|name| &**name)
    }

    /// Why a user who is there is not among them. Has nothing of the hash.
    pub(super) fn fault(&self, name: &str) -> Option<&str> {
        self.0.faults.get(name).map(String::as_str)
    }

    /// The user, or nobody; `None` if there are no users at all.
    pub(super) fn find(&self, name: &str) -> Option<&User> {
        let user = self.0.by_name.get(name);
        user.or(self.0.nobody.as_ref())
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.by_name.len())
    }
}

impl Serialize for Users {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} users", self.0.by_name.len()))
    }
}

#[derive(Default)]
struct Reading {
    users: BTreeMap<Box<str>, User>,
    /// Whose first line cannot be used, and why: a later one is not theirs instead.
    faults: BTreeMap<Box<str>, String>,
    messages: Vec<String>,
}

impl Reading {
    fn add(&mut self, place: &str, name: &str, hash: &[u8]) {
        let who = || format!("{place}user {}", shown(name));
        if let Some(fault) = fault_of(name) {
            self.messages.push(format!("{}: {fault}", who()));
            return;
        }
        let hash = match Hash::parse(hash) {
            Ok(hash) => hash,
            Err(error) => {
                let fault = format!("{}: {error}", who());
                self.messages.push(fault.clone());
                self.faults.entry(name.into()).or_insert(fault);
                return;
            }
        };
        let again = "is there already, and the first counts";
        if self.faults.contains_key(name) {
            return self.messages.push(format!("{}: {again}", who()));
        }
        match self.users.entry(name.into()) {
            Entry::Occupied(_) => self.messages.push(format!("{}: {again}", who())),
            Entry::Vacant(vacant) => {
                vacant.insert(User {
                    name: name.into(),
                    hash: Arc::new(hash),
                    exists: true,
                });
            }
        }
    }

    fn finish(self) -> (Users, Vec<String>) {
        let mut counts: BTreeMap<Cost, usize> = BTreeMap::new();
        for user in self.users.values() {
            *counts.entry(user.hash.cost()).or_default() += 1;
        }
        // Of two that are as common, the costlier one.
        let common = counts.iter().max_by_key(|(cost, count)| (**count, **cost));
        let nobody = common.map(|(cost, _)| User {
            name: "".into(),
            hash: Arc::new(Hash::unmatched(*cost)),
            exists: false,
        });
        let mut faults = self.faults;
        faults.retain(|name, _| !self.users.contains_key(name));
        let known = Known {
            by_name: self.users,
            faults,
            nobody,
        };
        (Users(Arc::new(known)), self.messages)
    }
}

/// What is wrong with a name. A name with spaces around it would be another user's when an origin reads it in a
/// header, where they do not count.
fn fault_of(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("the name is empty"),
        _ if name.len() > LONGEST_NAME => Some("the name has more than 255 bytes"),
        _ if name.contains(':') => Some("a name cannot have a colon"),
        _ if name.chars().any(char::is_control) => Some("the name has a control character"),
        _ if name.trim() != name => Some("the name begins or ends with a space"),
        _ => None,
    }
}

/// A name for people: what is long or cannot be seen does not spoil the message.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    format!("{short:?}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
