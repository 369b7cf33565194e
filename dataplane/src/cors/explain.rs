//! What becomes of a preflight, in words, for `hale why`: a browser only says that there was no permission.

use http::{HeaderMap, Method, header};

use super::{Cors, Objection};
use crate::{
    config,
    quoted::{any_of, quoted, quoted_bytes},
};

/// A preflight in words.
pub(crate) struct Judged {
    /// Whether the page may send its request.
    pub(crate) allowed: bool,
    /// Why, or why not.
    pub(crate) message: String,
}

impl Cors {
    /// What [`Cors::preflight`] answers, in words; `config` is what it was compiled from.
    pub(crate) fn explain(
        &self,
        config: &config::Cors,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Judged> {
        let answer = self.preflight(method, headers)?;
        let origin = headers.get(header::ORIGIN)?;
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let policy = &config.source;
        if answer
            .headers()
            .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
        {
            return Some(Judged {
                allowed: true,
                message: format!("origin, method and headers are allowed by cors of {policy}"),
            });
        }
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => any_of(names.iter().map(String::as_str)),
        };
        let message = if self.allowed_origin(Some(origin)).is_none() {
            format!(
                "the origin {} is not one of allowOrigins of {policy} ({})",
                quoted_bytes(origin.as_bytes()),
                list(&config.allow_origins)
            )
        } else {
            match self.objection(headers, wanted)? {
                Objection::Origins => "the request has more than one Origin".to_owned(),
                Objection::Method => format!(
                    "the method {} is not one of allowMethods of {policy} ({})",
                    quoted_bytes(wanted.as_bytes()),
                    list(&config.allow_methods)
                ),
                Objection::Header(Some(name)) => format!(
                    "the header {} is not one of allowHeaders of {policy} ({})",
                    quoted(&name),
                    list(&config.allow_headers)
                ),
                Objection::Header(None) => {
                    "Access-Control-Request-Headers has what is no name of a header".to_owned()
                }
            }
        };
        Some(Judged {
            allowed: false,
            message,
        })
    }
}
