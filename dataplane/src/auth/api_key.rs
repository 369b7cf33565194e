//! A secret that is sent as it is.
//!
//! Only digests of the keys are here. What was sent is looked up by its digest, which nobody can choose, so that the
//! time to find it or not tells nothing of the keys.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::digest;
use http::{HeaderName, HeaderValue, header};

pub(super) use self::place::remove_cookie;
use self::place::{Found, Place};
use super::{Asked, Decision, Granted, Outcome, Places};
use crate::config::{self, CredentialPlace, Resolved};

mod place;

/// A [`config::ApiKey`], compiled.
pub(super) struct ApiKey {
    place: Result<Place, String>,
    consumers: Resolved<HashMap<[u8; 32], Arc<str>>>,
}

impl ApiKey {
    pub(super) fn compile(config: &config::ApiKey) -> Self {
        let consumers = match &config.keys {
            Resolved::Known(keys) if keys.0.is_empty() => {
                Resolved::Unavailable("the Secret has no key".to_owned())
            }
            Resolved::Known(keys) => {
                let mut consumers = HashMap::with_capacity(keys.0.len());
                for key in &keys.0 {
                    let consumer = consumers.entry(key.digest);
                    consumer.or_insert_with(|| Arc::clone(&key.consumer));
                }
                Resolved::Known(consumers)
            }
            Resolved::Unavailable(why) => Resolved::Unavailable(why.clone()),
        };
        Self {
            place: place(&config.location),
            consumers,
        }
    }

    pub(super) fn decide(&self, asked: &Asked<'_>) -> Decision {
        let (place, consumers) = match (&self.place, &self.consumers) {
            (Ok(place), Resolved::Known(consumers)) => (place, consumers),
            (Ok(place), Resolved::Unavailable(why)) => {
                return match place.find(asked.headers, asked.uri.query()) {
                    Found::None => Decision::Absent,
                    _ => Decision::Unavailable(Outcome::Unavailable, why.clone()),
                };
            }
            (Err(why), _) => return Decision::Unavailable(Outcome::Unavailable, why.clone()),
        };
        let digest = match place.find(asked.headers, asked.uri.query()) {
            Found::None => return Decision::Absent,
            Found::Unreadable => return Decision::Denied(Outcome::Malformed),
            Found::Key(key) => digest::digest(&digest::SHA256, &key),
        };
        match consumers.get(digest.as_ref()) {
            None => Decision::Denied(Outcome::UnknownConsumer),
            Some(consumer) => Decision::Granted(Granted {
                consumer: Some(Arc::clone(consumer)),
                headers: Vec::new(),
            }),
        }
    }

    pub(super) fn unavailable(&self) -> Option<&str> {
        match (&self.place, &self.consumers) {
            (Err(why), _) | (_, Resolved::Unavailable(why)) => Some(why),
            _ => None,
        }
    }

    pub(super) fn places(&self) -> Places {
        match &self.place {
            Ok(Place::Authorization) => Places::headers(&[header::AUTHORIZATION]),
            Ok(Place::Header(name)) => Places::headers(std::slice::from_ref(name)),
            Ok(Place::Query(name)) => Places::parameter(name),
            Ok(Place::Cookie(name)) => Places::cookie(name),
            Err(_) => Places::default(),
        }
    }

    /// No scheme is registered for API keys, but a 401 has to name one (RFC 9110 §15.5.2).
    pub(super) fn challenge() -> HeaderValue {
        HeaderValue::from_static("ApiKey")
    }
}

fn place(location: &CredentialPlace) -> Result<Place, String> {
    Ok(match location {
        CredentialPlace::Query(name) => Place::Query(name.clone()),
        CredentialPlace::Cookie(name) => Place::Cookie(name.clone()),
        CredentialPlace::Header(name) => match HeaderName::try_from(name) {
            Ok(header::AUTHORIZATION) => Place::Authorization,
            Ok(name) => Place::Header(name),
            Err(_) => return Err(format!("{name:?} is not the name of a header")),
        },
    })
}
