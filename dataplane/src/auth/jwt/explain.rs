//! What is wrong with a token, in words, for `hale why`.
//!
//! Goes the same way as [`Jwt::read`], by the same functions, and says where it ends. What a token says is told only
//! as far as it is compared with something, and of its claims nothing before its signature was good.

mod inside;

use std::time::SystemTime;

use http::HeaderMap;

use super::{
    Jwt, Keys, algorithm,
    json::Json,
    keys::Signature,
    token::{self, Token},
    unix,
};
use crate::{
    auth::Outcome,
    quoted::{any_of, quoted},
};

/// Members of a token's header that change what the rest means.
const EXTENSIONS: [&str; 4] = ["crit", "b64", "zip", "enc"];

impl Jwt {
    /// What is wrong with the token of a request that was refused; `None` if its outcome says all that there is to say.
    pub(in crate::auth) fn explain(&self, headers: &HeaderMap, now: SystemTime) -> Option<String> {
        let Ok(token) = token::bearer(headers)? else {
            return Some("Authorization is there more than once, and one has a token".to_owned());
        };
        let token = match Token::parse(token) {
            Ok(token) => token,
            Err(outcome) => return self.outside(token, outcome),
        };
        if !self.config.algorithms.contains(&token.algorithm) {
            return Some(self.algorithm(algorithm::name(token.algorithm)));
        }
        let fetched;
        let keys = match &self.keys {
            Keys::Inline(keys) => keys,
            Keys::Unavailable(_) => return None,
            Keys::Remote(endpoint) => {
                (fetched, _) = endpoint.keys()?;
                &fetched
            }
        };
        if keys.is_empty() {
            return Some("the key set has no key that can be used: no token is good".to_owned());
        }
        let kid = token.kid.as_deref();
        match keys.verify(kid, token.algorithm, token.message, &token.signature) {
            Signature::Good => {}
            Signature::Bad { named: true } => return None,
            Signature::Bad { named: false } => {
                let why = "none of the keys that it may be by made the token's signature";
                return Some(format!("{why}; its kid is {}", shown(kid)));
            }
            Signature::NoKey => {
                return Some(format!(
                    "no key of the key set is for a kid of {}",
                    shown(kid)
                ));
            }
            Signature::OtherAlgorithm => {
                return Some(format!(
                    "the key set has no key for alg {:?} and a kid of {}",
                    algorithm::name(token.algorithm),
                    shown(kid)
                ));
            }
        }
        match token.claims() {
            Ok(claims) => inside::of_claims(&self.config, &self.headers, &claims, unix(now)),
            Err(_) => Some(
                "the claims of the token are not base64url of a JSON object that has each name once"
                    .to_owned(),
            ),
        }
    }

    fn algorithm(&self, given: &str) -> String {
        let wanted = self.config.algorithms.iter();
        let wanted = any_of(wanted.map(|algorithm| algorithm::name(*algorithm)));
        format!(
            "the token's alg is {}, and the policy wants {wanted}",
            quoted(given)
        )
    }

    /// Why a token cannot be taken apart.
    fn outside(&self, token: &[u8], outcome: Outcome) -> Option<String> {
        let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
        let words = match parts.as_slice() {
            _ if token.is_empty() => "nothing follows the word Bearer".to_owned(),
            _ if token.len() > token::TOKEN => "the token has more than 16 KiB".to_owned(),
            [head, _, _] => return self.head(head, outcome),
            parts => format!(
                "a token has three parts with points between them, and this one has {}",
                parts.len()
            ),
        };
        Some(words)
    }

    fn head(&self, head: &[u8], outcome: Outcome) -> Option<String> {
        let decoded = std::str::from_utf8(head)
            .ok()
            .and_then(|it| token::decode(it).ok());
        let Some(header) = decoded.and_then(|header| Json::parse(&header).ok()) else {
            return Some(
                "the header of the token is not base64url of JSON that has each name once"
                    .to_owned(),
            );
        };
        if outcome == Outcome::NotForUs {
            return Some(self.algorithm(header.get("alg")?.as_str()?));
        }
        if let Some(name) = EXTENSIONS.iter().find(|name| header.get(name).is_some()) {
            return Some(format!(
                "the header of the token has {name}, which Hale does not read"
            ));
        }
        if let Some(kind) = header.get("typ") {
            let kind = kind.as_str().unwrap_or_default();
            let plain = kind.to_ascii_lowercase();
            let plain = plain.strip_prefix("application/").unwrap_or(&plain);
            if plain != "jwt" && plain != "at+jwt" {
                let wanted = any_of(["JWT", "at+jwt"]);
                return Some(format!("the token's typ is {}, not {wanted}", quoted(kind)));
            }
        }
        if header.get("alg").is_none() {
            return Some("the header of the token has no alg".to_owned());
        }
        None
    }
}

fn shown(kid: Option<&str>) -> String {
    kid.map_or_else(|| "none".to_owned(), quoted)
}
