//! Users and their hashed passwords, as `htpasswd` writes them.

use serde::{Serialize, Serializer};

/// Who there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Users {}

impl Serialize for Users {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("0 users")
    }
}
