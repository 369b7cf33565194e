//! Headers and trailers, in both directions.
//!
//! One pass classifies every name; what has to go is then removed by name, and ours is added last, so that
//! nothing a client sends can take ours away or come after it. Values that tell of the connection were
//! built with it.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, SERVER, TE, UPGRADE, VIA},
};

use super::{Authority, ClientInfo, client, loops, upgrade::tokens};
use names::{
    Class, HopSet, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO,
    X_REAL_IP, X_REQUEST_ID,
};

pub(crate) mod names;

/// What [`request_headers`] needs to know besides the headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarding<'a> {
    /// The connection.
    pub client: &'a ClientInfo,
    /// What [`client_address`](super::client_address) said.
    pub address: IpAddr,
    /// What [`authority`](super::authority) said.
    pub authority: &'a Authority,
    /// What [`request_id`](super::request_id) said.
    pub request_id: &'a HeaderValue,
    /// The request's method.
    pub method: &'a Method,
    /// The version that the request came in.
    pub version: Version,
    /// Whether it is a websocket handshake that goes upstream over HTTP/1.
    pub websocket: bool,
    /// Whether `Via` is added (RFC 9110 §7.6.3).
    pub via: bool,
}

/// Makes a client's headers fit to be sent upstream: removes what concerns its connection alone or is not
/// a client's to say, and adds ours. Sets `Host`; for HTTP/2 upstream take it away again. The request must
/// have passed [`framing`](super::framing).
pub(crate) fn request_headers(headers: &mut HeaderMap, forwarding: &Forwarding<'_>) {
    let trusted = forwarding.client.trusted;
    let mut hops = HopSet::default();
    // Empty for nearly every request, and then it does not allocate.
    let mut others: Vec<HeaderName> = Vec::new();
    let (mut cookie, mut length) = (false, false);
    for name in headers.keys() {
        match names::class(name.as_str()) {
            Class::EndToEnd | Class::Host | Class::Server => {}
            Class::Hop(hop) => hops.add(hop),
            Class::Cookie => cookie = true,
            Class::ContentLength => length = true,
            Class::Forwarded if trusted => {}
            Class::Expect | Class::Forwarded | Class::Hale | Class::Odd => {
                others.push(name.clone());
            }
        }
    }
    let trailers = hops.has(HopSet::TE) && accepts_trailers(headers);
    remove_hops(headers, hops);
    for name in &others {
        headers.remove(name);
    }
    if cookie && forwarding.version >= Version::HTTP_2 {
        join_cookies(headers);
    }
    if length {
        one_length(headers, forwarding.method);
    }
    headers.reserve(10);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if forwarding.websocket {
        switch(headers);
    }
    add_ours(headers, forwarding);
}

/// Removes hop-by-hop headers and whatever `Connection` names.
fn remove_hops(headers: &mut HeaderMap, hops: HopSet) {
    if hops.has(HopSet::CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter(|token| !is_usual(token))
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .filter(|name| !names::is_protected(name.as_str()))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in hops.names() {
        headers.remove(name);
    }
}

/// Whether `Connection` takes away headers of the message, and not of the connection alone.
pub(crate) fn takes_away(headers: &HeaderMap) -> bool {
    headers.contains_key(CONNECTION)
        && tokens(headers, &CONNECTION)
            .filter(|token| !is_usual(token))
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .any(|name| {
                let stays = names::is_protected(name.as_str());
                let hop = matches!(names::class(name.as_str()), Class::Hop(_));
                !stays && !hop && headers.contains_key(name)
            })
}

/// Connection options that name no header, or one that goes anyway.
fn is_usual(token: &[u8]) -> bool {
    token.is_empty()
        || [&b"keep-alive"[..], b"close", b"upgrade"]
            .iter()
            .any(|usual| token.eq_ignore_ascii_case(usual))
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &TE).any(|token| {
        let name = token.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"trailers")
    })
}

/// HTTP/2 clients split cookies to compress them better; HTTP/1 has one line (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let values = headers.get_all(COOKIE);
    if values.iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = values.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Leaves one `Content-Length` of several equal ones, and none that only says that there is no body.
fn one_length(headers: &mut HeaderMap, method: &Method) {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return };
    let idle = first == "0" && matches!(*method, Method::GET | Method::HEAD | Method::DELETE);
    if idle {
        headers.remove(CONTENT_LENGTH);
    } else if values.next().is_some() {
        let first = first.clone();
        headers.insert(CONTENT_LENGTH, first);
    }
}

fn switch(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn add_ours(headers: &mut HeaderMap, forwarding: &Forwarding<'_>) {
    let client = forwarding.client;
    let authority = forwarding.authority.value();
    if headers.get(HOST) != Some(authority) {
        headers.insert(HOST, authority.clone());
    }
    headers.insert(X_REQUEST_ID, forwarding.request_id.clone());
    if client.trusted {
        add_to_trusted(headers, forwarding);
    } else {
        headers.insert(X_FORWARDED_FOR, client.ip_value.clone());
        headers.insert(X_REAL_IP, client.ip_value.clone());
        headers.insert(X_FORWARDED_PROTO, proto(client.https));
        headers.insert(X_FORWARDED_HOST, authority.clone());
        headers.insert(X_FORWARDED_PORT, port(forwarding.authority, client.https));
        headers.insert(FORWARDED, client.forwarded.clone());
    }
    loops::add_pass(headers);
    if forwarding.via {
        headers.append(VIA, via(forwarding.version));
    }
}

/// A trusted proxy's word is kept where it gave one, and appended to where that is a list.
fn add_to_trusted(headers: &mut HeaderMap, forwarding: &Forwarding<'_>) {
    let client = forwarding.client;
    let https = client::is_https(headers, client);
    let mut hops: Vec<&[u8]> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|line| !line.is_empty())
        .collect();
    hops.push(client.ip_value.as_bytes());
    let hops = HeaderValue::from_bytes(&hops.join(&b", "[..]));
    headers.insert(
        X_FORWARDED_FOR,
        hops.unwrap_or_else(|_| client.ip_value.clone()),
    );
    let real = if forwarding.address == client.ip {
        client.ip_value.clone()
    } else {
        client::value(&forwarding.address.to_string())
    };
    headers.insert(X_REAL_IP, real);
    headers.insert(X_FORWARDED_PROTO, proto(https));
    for (name, ours) in [
        (X_FORWARDED_HOST, forwarding.authority.value().clone()),
        (X_FORWARDED_PORT, port(forwarding.authority, https)),
    ] {
        let theirs = client::trusted_first(headers, client, &name);
        let theirs = theirs.and_then(|first| HeaderValue::from_bytes(first).ok());
        headers.insert(name, theirs.unwrap_or(ours));
    }
    let element = match https == client.https {
        true => client.forwarded.clone(),
        false => client::forwarded(client.ip, https),
    };
    headers.append(FORWARDED, element);
}

fn proto(https: bool) -> HeaderValue {
    HeaderValue::from_static(client::scheme(https))
}

/// The port that the client used: the one it wrote, else its scheme's. Not the one that we listen on,
/// which a Service or load balancer maps.
fn port(authority: &Authority, https: bool) -> HeaderValue {
    match authority.port() {
        None | Some(443) if https => HeaderValue::from_static("443"),
        None | Some(80) => HeaderValue::from_static("80"),
        Some(port) => HeaderValue::from(port),
    }
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 hale",
        Version::HTTP_10 => "1.0 hale",
        _ => "1.1 hale",
    })
}

/// Makes a peer's response headers fit to be sent to the client. `switching` keeps what a 101 needs;
/// `version` is the peer's. A peer's `Server` is passed on; `Date` is hyper's.
pub(crate) fn response_headers(headers: &mut HeaderMap, version: Version, switching: bool) {
    let mut hops = HopSet::default();
    let mut others: Vec<HeaderName> = Vec::new();
    let mut server = false;
    for name in headers.keys() {
        match names::class(name.as_str()) {
            Class::Hop(hop) => hops.add(hop),
            Class::Server => server = true,
            Class::Hale => others.push(name.clone()),
            _ => {}
        }
    }
    remove_hops(headers, hops);
    for name in &others {
        headers.remove(name);
    }
    if switching {
        switch(headers);
    }
    if !server {
        headers.insert(SERVER, HeaderValue::from_static("hale"));
    }
    headers.append(VIA, via(version));
}

/// Drops what may not be said in trailers, in either direction.
pub(crate) fn trailers(trailers: &mut HeaderMap) {
    let barred: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| names::is_barred_from_trailers(name.as_str()))
        .cloned()
        .collect();
    for name in barred {
        trailers.remove(name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
