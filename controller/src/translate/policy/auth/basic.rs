//! `auth.anyOf[].basic`.

use hale_crds::{BasicAuth, BasicFormat};
use hale_dataplane::{auth::password::Users, config::Basic};

use crate::{cluster::Cluster, settings::ObjectKey};

use super::{
    super::sections::{Judged, Place},
    Told, credentials,
};

/// The key of an htpasswd file.
const FILE_KEY: &str = "auth";
/// Characters of a realm.
const LONGEST_REALM: usize = 64;

pub(super) fn read(
    section: &BasicAuth,
    field: &str,
    place: &Place<'_>,
    told: &mut Told,
) -> Judged<Basic> {
    let shown = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    let realm = &section.realm;
    if realm.is_empty() || realm.len() > LONGEST_REALM || !realm.bytes().all(shown) {
        return Err(format!(
            "{field}.realm: {realm:?} is not 1 to {LONGEST_REALM} printable ASCII characters without \" and \\"
        ));
    }
    let key = place.own(&section.secret_ref.name);
    let users = users(section.format, &key, place.cluster).map(|(users, notes)| {
        told.notes(field, notes);
        users
    });
    Ok(Basic {
        realm: realm.clone(),
        users: told.resolved(field, users),
    })
}

fn users(format: BasicFormat, key: &ObjectKey, cluster: &Cluster) -> Judged<(Users, Vec<String>)> {
    let (users, messages) = match format {
        BasicFormat::AuthFile => {
            Users::from_htpasswd(credentials::of_secret(key, FILE_KEY, cluster)?)
        }
        BasicFormat::AuthMap => {
            let secret = credentials::secret(key, cluster)?;
            Users::from_map(credentials::entries(secret))
        }
    };
    let messages = credentials::first_few(messages);
    if !users.is_empty() {
        let place = |message| format!("Secret {key}: {message}");
        return Ok((users, messages.into_iter().map(place).collect()));
    }
    if messages.is_empty() {
        Err(format!("Secret {key} names no user"))
    } else {
        let messages = messages.join("; ");
        Err(format!(
            "Secret {key} has no user that can be used: {messages}"
        ))
    }
}
