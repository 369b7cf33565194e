//! Which web pages of other origins may read answers (Fetch standard, "CORS protocol").
//!
//! Hale answers preflights itself, before anybody is asked who they are: browsers send none of their credentials
//! with them. It owns the `Access-Control-*` headers of every answer of a route that has this section, its own
//! refusals included, so that a page can read why.
//!
//! Lists are compiled into what is sent, or into sets: a request costs a few look-ups, however long they are.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::config;

mod explain;
mod origins;

pub(crate) use explain::Judged;
use origins::Origins;

/// Everything that only Hale says on these routes.
static OURS: [HeaderName; 7] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    HeaderName::from_static("access-control-allow-private-network"),
];

/// The page that sent a request.
#[derive(Clone, Debug, Default)]
pub(crate) enum Page {
    /// None that is known of.
    #[default]
    None,
    /// One of this origin.
    Of(HeaderValue),
    /// A browser asks for one: its answer says all that there is to say.
    Preflight,
}

impl Page {
    /// What sent a request with these headers; whoever names two origins has none.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        one(headers, &header::ORIGIN).map_or(Self::None, |origin| Self::Of(origin.clone()))
    }
}

/// A [`config::Cors`], compiled.
pub(crate) struct Cors {
    origins: Origins,
    credentials: bool,
    methods: Names,
    headers: Names,
    /// Headers that pages may read; `None` if there are none.
    expose: Option<HeaderValue>,
    /// Whether it is all of them, and has to be spelt out.
    expose_all: bool,
    max_age: HeaderValue,
}

/// What is not allowed of a preflight.
enum Objection {
    /// There is more than one origin.
    Origins,
    /// The method.
    Method,
    /// A header; `None` is no name of one.
    Header(Option<String>),
}

/// A list of names, and how it is told.
struct Names {
    /// Whether it has all.
    any: bool,
    /// Sorted; for headers in lower case.
    names: Vec<String>,
    /// `None` if it is empty.
    told: Option<HeaderValue>,
}

impl Names {
    fn compile(list: &[String], normal: impl Fn(&str) -> String) -> Self {
        let mut names: Vec<String> = list.iter().map(|name| normal(name)).collect();
        names.sort_unstable();
        names.dedup();
        Self {
            any: names.iter().any(|name| name == "*"),
            told: joined(list),
            names,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.any || self.names_it(name)
    }

    /// Whether it has this one by its name.
    fn names_it(&self, name: &str) -> bool {
        let found = self
            .names
            .binary_search_by(|known| known.as_str().cmp(name));
        found.is_ok()
    }
}

/// `None` of nothing, and of what cannot be in a header.
fn joined(list: &[String]) -> Option<HeaderValue> {
    let text = list.join(", ");
    (!text.is_empty())
        .then(|| HeaderValue::try_from(text).ok())
        .flatten()
}

impl Cors {
    pub(crate) fn compile(config: &Arc<config::Cors>) -> Self {
        let credentials = config.allow_credentials;
        Self {
            origins: Origins::compile(&config.allow_origins),
            credentials,
            methods: Names::compile(&config.allow_methods, str::to_owned),
            headers: Names::compile(&config.allow_headers, str::to_ascii_lowercase),
            expose: joined(&config.expose_headers),
            expose_all: credentials && config.expose_headers.iter().any(|name| name == "*"),
            max_age: HeaderValue::from(config.max_age.as_secs()),
        }
    }

    /// The answer to a preflight; `None` if the request is none. One that is not allowed is told nothing.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<()>> {
        if *method != Method::OPTIONS {
            return None;
        }
        let (origin, wanted) = (
            headers.get(header::ORIGIN)?,
            headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?,
        );
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        let names = &header::ACCESS_CONTROL_REQUEST_HEADERS;
        let allowed = self
            .allowed_origin(Some(origin))
            .filter(|_| self.objection(headers, wanted).is_none());
        answer.append(
            header::VARY,
            HeaderValue::from_static(
                "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            ),
        );
        if let Some(allowed) = allowed {
            self.allow(answer, allowed);
            let methods = self.told(&self.methods, Some(wanted));
            let headers = self.told(&self.headers, one(headers, names));
            for (name, value) in [
                (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, headers),
            ] {
                if let Some(value) = value {
                    answer.insert(name, value);
                }
            }
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        Some(response)
    }

    /// What is not allowed of a preflight, but for its origin.
    fn objection(&self, headers: &HeaderMap, wanted: &HeaderValue) -> Option<Objection> {
        if one(headers, &header::ORIGIN).is_none() {
            return Some(Objection::Origins);
        }
        if !self.allows_method(wanted) {
            return Some(Objection::Method);
        }
        let lists = headers.get_all(&header::ACCESS_CONTROL_REQUEST_HEADERS);
        let mut names = lists.iter().flat_map(names_in);
        let other = |name: &Option<String>| !name.as_ref().is_some_and(|it| self.allows_header(it));
        names.find(other).map(Objection::Header)
    }

    /// Says on an answer to a request of this page who may read it.
    pub(crate) fn decorate(&self, page: &Page, headers: &mut HeaderMap) {
        let origin = match page {
            Page::Preflight => return,
            Page::Of(origin) => Some(origin),
            Page::None => None,
        };
        for name in &OURS {
            headers.remove(name);
        }
        // What is the same for every origin does not depend on it.
        if self.credentials || !self.origins.any() {
            vary_by_origin(headers);
        }
        let Some(allowed) = self.allowed_origin(origin) else {
            return;
        };
        self.allow(headers, allowed);
        let exposed = if self.expose_all {
            all_names(headers)
        } else {
            self.expose.clone()
        };
        if let Some(exposed) = exposed {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// What `Access-Control-Allow-Origin` is for this origin. Beside credentials there is no `*`.
    fn allowed_origin(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.origins.any() && !self.credentials {
            return Some(HeaderValue::from_static("*"));
        }
        origin
            .filter(|origin| self.origins.has(origin.as_bytes()))
            .cloned()
    }

    /// What every page may send (Fetch standard, "CORS-safelisted method") needs no permission.
    fn allows_method(&self, wanted: &HeaderValue) -> bool {
        let Ok(wanted) = wanted.to_str() else {
            return false;
        };
        matches!(wanted, "GET" | "HEAD" | "POST")
            || (Method::from_bytes(wanted.as_bytes()).is_ok() && self.methods.has(wanted))
    }

    /// A star does not stand for `Authorization`, as it does not for browsers (Fetch standard, "CORS non-wildcard
    /// request-header name"); with credentials they would not know of the star.
    fn allows_header(&self, name: &str) -> bool {
        if name == header::AUTHORIZATION.as_str() {
            return self.headers.names_it(name);
        }
        self.headers.has(name)
    }

    fn allow(&self, headers: &mut HeaderMap, origin: HeaderValue) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
    }

    /// The list, or where it has all, and browsers would take `*` for a name, what was asked for.
    fn told(&self, names: &Names, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        if names.any && self.credentials {
            return asked.cloned();
        }
        names.told.clone()
    }
}

/// The value of a header that is there once.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// The names of a list, in lower case; `None` for what is no name.
fn names_in(list: &HeaderValue) -> impl Iterator<Item = Option<String>> + '_ {
    list.as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .map(|name| Some(HeaderName::from_bytes(name).ok()?.as_str().to_owned()))
}

/// Keeps caches from giving one origin's answer to another.
fn vary_by_origin(headers: &mut HeaderMap) {
    let mut told = headers
        .get_all(header::VARY)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    if !told.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin")) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// The names of all headers that scripts may ever read.
fn all_names(headers: &HeaderMap) -> Option<HeaderValue> {
    let secret = |name: &HeaderName| *name == header::SET_COOKIE || OURS.contains(name);
    let names: Vec<&str> = headers
        .keys()
        .filter(|name| !secret(name))
        .map(HeaderName::as_str)
        .collect();
    (!names.is_empty())
        .then(|| HeaderValue::try_from(names.join(", ")).ok())
        .flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
