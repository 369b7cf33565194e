//! What the external service is told of a request, and nothing else: no body, nothing that concerns a connection,
//! and what the client says of its way here only as Hale knows it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header,
    uri::{PathAndQuery, Scheme},
};

use super::super::Asked;
use crate::sanitize::{
    self, CDN_LOOP,
    names::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REAL_IP, X_REQUEST_ID},
};

/// Marks a question, on its way to whoever answers it.
pub(super) const MARK: HeaderName = HeaderName::from_static("x-hale-question");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// A GET, without its host.
pub(super) struct Question {
    target: PathAndQuery,
    headers: HeaderMap,
}

impl Question {
    /// The question about a request; `None` if that has what cannot be told. The path is the one that the upstream
    /// would get: what is decided is what is forwarded.
    pub(super) fn about(
        asked: &Asked<'_>,
        target: PathAndQuery,
        sends: &[HeaderName],
    ) -> Option<Self> {
        let uri = path_and_query(asked);
        let scheme = scheme(asked);
        let url = format!("{scheme}://{}{uri}", asked.authority);
        let client = HeaderValue::try_from(asked.client.to_canonical().to_string()).ok()?;
        let method = HeaderValue::from_str(asked.method.as_str()).ok()?;
        let mut headers = HeaderMap::with_capacity(16);
        // By strangers nobody is forwarded.
        let is_said =
            |name: &&HeaderName| asked.trusted || !name.as_str().starts_with("x-forwarded-");
        let sends = sends.iter().filter(is_said);
        for name in [&header::AUTHORIZATION].into_iter().chain(sends) {
            for value in asked.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        if let Some(cookies) = cookies(asked.headers) {
            headers.insert(header::COOKIE, cookies);
        }
        for (name, value) in [
            (X_ORIGINAL_METHOD, method.clone()),
            (X_ORIGINAL_URL, HeaderValue::try_from(url).ok()?),
            (X_FORWARDED_METHOD, method),
            (X_FORWARDED_PROTO, HeaderValue::from_static(scheme)),
            (
                X_FORWARDED_HOST,
                HeaderValue::from_str(asked.authority).ok()?,
            ),
            (X_FORWARDED_URI, HeaderValue::try_from(uri).ok()?),
            (X_FORWARDED_FOR, client.clone()),
            (X_REAL_IP, client),
            (MARK, HeaderValue::from_static("1")),
        ] {
            headers.insert(name, value);
        }
        for value in asked.headers.get_all(CDN_LOOP) {
            headers.append(CDN_LOOP, value.clone());
        }
        sanitize::add_pass(&mut headers);
        if let Some(id) = asked.request_id {
            headers.insert(X_REQUEST_ID, id.clone());
        }
        Some(Self { target, headers })
    }

    /// The question to an origin that is named by `Host`.
    pub(super) fn plain<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::GET;
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The same, to an HTTP/2 peer. `None` for an authority that is none.
    pub(super) fn absolute<B>(
        &self,
        body: B,
        tls: bool,
        authority: &HeaderValue,
    ) -> Option<Request<B>> {
        let mut request = self.plain(body);
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = authority.as_bytes().try_into().ok();
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        Some(request)
    }
}

/// One line, as HTTP/1 has it (RFC 9113 §8.2.3).
fn cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let values = headers.get_all(header::COOKIE).iter();
    let lines: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
    (!lines.is_empty())
        .then(|| HeaderValue::from_bytes(&lines.join(&b"; "[..])).ok())
        .flatten()
}

fn scheme(asked: &Asked<'_>) -> &'static str {
    if asked.https { "https" } else { "http" }
}

fn path_and_query(asked: &Asked<'_>) -> String {
    match asked.uri.query() {
        Some(query) => format!("{}?{query}", asked.path),
        None => asked.path.to_owned(),
    }
}

/// The page, with `rd=` and where the person wanted to go. A page that has an `rd` keeps its own.
pub(super) fn sign_in(page: &str, asked: &Asked<'_>) -> String {
    let (page, fragment) = match page.split_once('#') {
        Some((page, fragment)) => (page, Some(fragment)),
        None => (page, None),
    };
    let query = page.split_once('?').map(|(_, query)| query);
    let mut url = page.to_owned();
    let names_target = |query: &str| query.split('&').any(|pair| pair.starts_with("rd="));
    if !query.is_some_and(names_target) {
        url.push_str(match query {
            None => "?",
            Some("") => "",
            Some(_) => "&",
        });
        url.push_str("rd=");
        escape(&mut url, scheme(asked));
        escape(&mut url, "://");
        escape(&mut url, asked.authority);
        escape(&mut url, &path_and_query(asked));
    }
    if let Some(fragment) = fragment {
        url.push('#');
        url.push_str(fragment);
    }
    url
}

/// Everything but what RFC 3986 §2.3 calls unreserved as `%XX`.
fn escape(out: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}
