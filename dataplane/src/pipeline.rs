//! One request, top to bottom.
//!
//! 1. [`admit`]: framing, host, method and path are read once; what is ambiguous ends here.
//! 2. [`route`]: the table of this moment says who takes it.
//! 3. [`before_route`]: TLS comes first: a route that asks for it is answered with a redirect.
//! 4. [`admit_to`]: the route's policies, the cheapest first: addresses, pages of other origins (whose preflights
//!    carry no credential), how many, and who. What costs most to check is behind what keeps floods away.
//! 5. [`proxy`]: attempts, one after another, until a peer answers or nothing is left to try.
//! 6. [`pass_on`]: the response is made fit for the client, and its body streams.

use std::{borrow::Cow, convert::Infallible, rc::Rc, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    request::Parts, uri,
};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    access,
    attempts::{Attempts, Head},
    auth::{self, Authorized, Refused},
    balance::Wish,
    body::{self, RequestBody, Upload},
    config::{HostPattern, Protocol},
    cors::Page,
    exchange::{Exchange, Taken, route_of},
    forward::Lease,
    listen::Conn,
    rate_limit::{Counted, Limiter},
    reason::Reason,
    reject::Reject,
    response::ResponseBody,
    retry::Nature,
    sanitize::{self, Forwarding},
    table::{CompiledRoute, Target, Upstream},
    tunnel,
};

mod deadline;
mod respond;

use deadline::deadline;
use respond::{own, pass_on, rejected};

/// The longest request target.
const URI_LIMIT: usize = 16 * 1024;
const METHOD_LIMIT: usize = 32;
/// Header lines of a request. hyper counts those of HTTP/1 alone.
pub(crate) const HEADERS: usize = 100;

/// Answers a request. Never fails: what goes wrong is an answer, too.
pub(crate) async fn serve(
    conn: Rc<Conn>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut exchange = Exchange::begin(&conn, &parts);
    let version = parts.version;
    let answer = match admit(&mut exchange, &parts) {
        Ok(()) => answer(&mut exchange, parts, body).await,
        Err(reject) => {
            discard(body);
            Err(reject)
        }
    };
    let mut response = match answer {
        Ok(Answer::Peer {
            response,
            lease,
            deadline,
        }) => pass_on(exchange, response, lease, deadline),
        Ok(Answer::Own(response)) => own(exchange, response),
        Err(reject) => rejected(exchange, &reject),
    };
    // Who switches has to say so in this header (RFC 6455 §4.1), and its tunnel is no connection that is kept.
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let closes = conn.worker.announced.get() || conn.guard.finishes();
    if closes && version < Version::HTTP_2 && !switches {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// What a request is answered with, when it is not rejected.
pub(crate) enum Answer {
    Peer {
        response: Response<Incoming>,
        lease: Option<Lease>,
        deadline: Option<Instant>,
    },
    Own(Response<()>),
}

/// Reads method, framing, host and path, and refuses what is malformed or ambiguous.
fn admit(exchange: &mut Exchange, parts: &Parts) -> Result<(), Reject> {
    let method = &parts.method;
    if method.as_str().len() > METHOD_LIMIT {
        return Err(Reject::new(Reason::BadRequest).saying("the method is too long"));
    }
    if *method == Method::TRACE {
        return Err(Reject::new(Reason::MethodNotAllowed));
    }
    if *method == Method::CONNECT && !sanitize::is_extended_websocket(parts) {
        // What follows was meant for the other end of a tunnel.
        if parts.version < Version::HTTP_2 {
            exchange.conn.guard.finish();
        }
        return Err(Reject::new(Reason::MethodNotAllowed));
    }
    if parts.headers.len() > HEADERS {
        return Err(Reject::new(Reason::HeadersTooLarge));
    }
    if parts
        .uri
        .path_and_query()
        .is_some_and(|target| target.as_str().len() > URI_LIMIT)
    {
        return Err(Reject::new(Reason::UriTooLong));
    }
    if exchange.conn.guard.is_ambiguous() {
        exchange.conn.guard.finish();
        return Err(Reject::new(Reason::BadRequest)
            .saying("the request has both Content-Length and Transfer-Encoding"));
    }
    sanitize::framing(parts)?;
    exchange.authority = Some(sanitize::authority(parts)?);
    if exchange.passes >= sanitize::MOST_PASSES {
        return Err(Reject::new(Reason::LoopDetected)
            .saying("the request passed Hale before, again and again"));
    }
    let canonical = sanitize::canonical(parts.uri.path())?;
    exchange.plain_path = canonical.plain;
    if let Cow::Owned(path) = canonical.path {
        exchange.path = Some(path.into());
    }
    Ok(())
}

async fn answer(exchange: &mut Exchange, parts: Parts, body: Incoming) -> Result<Answer, Reject> {
    let table = Rc::clone(&exchange.table);
    let decided = route(exchange).and_then(|()| before_route(exchange, &parts.headers));
    let route = match decided {
        Ok(None) => route_of(&table, exchange.taken),
        Ok(Some(response)) => {
            discard(body);
            return Ok(Answer::Own(response));
        }
        Err(reject) => {
            discard(body);
            return Err(reject);
        }
    };
    let Some(route) = route else {
        discard(body);
        return Err(Reject::new(Reason::NoRoute));
    };
    let mut upload = Upload::new(body, true);
    let admitted = admit_to(exchange, route, &parts, &mut upload).await;
    match (admitted, &route.target) {
        (Ok(authorized), Target::Forward(upstream)) => {
            proxy(exchange, &authorized, route, upstream, parts, upload).await
        }
        // What is still uploaded is read a little further by the upload itself.
        (Ok(_), Target::Reject(problem)) => Err(Reject::from(problem)),
        (Err(Refused::Reject(reject)), _) => Err(reject),
        (Err(Refused::Answer(response)), _) => Ok(Answer::Own(response)),
    }
}

/// Asks the route's policies, and gives the key to `forward`.
async fn admit_to(
    exchange: &mut Exchange,
    route: &CompiledRoute,
    parts: &Parts,
    upload: &mut Upload,
) -> Result<Authorized, Refused> {
    if route.cors.is_some() {
        exchange.page = Page::of(&parts.headers);
    }
    access::check(&route.policy.access, exchange.client, || {
        exchange.explains()
    })
    .map_err(Refused::Reject)?;
    if let Some(cors) = &route.cors
        && let Some(response) = cors.preflight(&parts.method, &parts.headers)
    {
        exchange.page = Page::Preflight;
        return Err(Refused::Answer(response));
    }
    let limiter = route.limiter.as_deref();
    if let Some(limiter) = limiter.filter(|limiter| !limiter.counts_consumers()) {
        count(exchange, limiter, &parts.headers, exchange.started)?;
    }
    let authorized = auth::check(exchange, route, &parts.headers, upload).await?;
    if let Some(limiter) = limiter.filter(|limiter| limiter.counts_consumers()) {
        // Authorization may have taken its time.
        count(exchange, limiter, &parts.headers, Instant::now())?;
    }
    Ok(authorized)
}

/// Counts the request against the route's limit.
fn count(
    exchange: &mut Exchange,
    limiter: &Limiter,
    headers: &HeaderMap,
    now: Instant,
) -> Result<(), Refused> {
    let counted = Counted {
        route: match exchange.taken {
            Taken::Route(found) => exchange
                .table
                .config
                .hosts
                .get(found.host)
                .and_then(|host| {
                    let route = host.routes.get(found.route)?;
                    Some((&host.host, route))
                }),
            Taken::Default | Taken::Nothing => None,
        },
        client: exchange.client,
        headers,
        consumer: exchange
            .auth
            .as_ref()
            .and_then(|note| Some((note.kind?, note.consumer.as_deref()?))),
    };
    let said = limiter.take(&counted, now);
    exchange.limit = said.map_err(Refused::Reject)?;
    Ok(())
}

/// An upload that nobody wants is read a little further, so that its sender sees the answer.
fn discard(body: Incoming) {
    if !body.is_end_stream() {
        tokio::task::spawn_local(body::discard(body));
    }
}

/// Finds the route.
fn route(exchange: &mut Exchange) -> Result<(), Reject> {
    let table = &exchange.table;
    let found = if exchange.plain_path {
        table.router.find(exchange.host(), exchange.path())
    } else {
        let routed = table
            .resolve(exchange.host(), exchange.path())
            .map_err(|error| Reject::new(Reason::BadRequest).saying(error.as_str()))?;
        if let Some(path) = routed.path {
            exchange.path = Some(path.into());
        }
        routed.found
    };
    exchange.taken = match found {
        Some(found) => Taken::Route(found),
        None if exchange.table.default_route().is_some() => Taken::Default,
        None => return Err(Reject::new(Reason::NoRoute)),
    };
    Ok(())
}

/// What comes before the route's own policy: https where the route's owner asks for it, and the right connection.
fn before_route(exchange: &Exchange, headers: &HeaderMap) -> Result<Option<Response<()>>, Reject> {
    let Taken::Route(found) = exchange.taken else {
        return Ok(None);
    };
    let Some(host) = exchange.table.config.hosts.get(found.host) else {
        return Ok(None);
    };
    let conn = &exchange.conn;
    let route = host.routes.get(found.route);
    if route.is_some_and(|route| route.https_redirect)
        && !sanitize::is_https(headers, &conn.client)
        && !exchange.path().starts_with("/.well-known/acme-challenge/")
    {
        return redirect(exchange).map(Some);
    }
    // A connection that was opened for one certificate does not reach hosts of another (RFC 9110 §15.5.20).
    if let Some(sni) = conn.sni.as_deref()
        && sni != exchange.host()
        && host.host != HostPattern::Any
    {
        let certificates = &exchange.table.certificates;
        if certificates.find(sni) != certificates.find(exchange.host()) {
            return Err(Reject::new(Reason::MisdirectedRequest));
        }
    }
    Ok(None)
}

/// 308 to the same place over https.
fn redirect(exchange: &Exchange) -> Result<Response<()>, Reject> {
    let port = match exchange.conn.worker.shared.options.https_redirect_port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let query = exchange
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = format!(
        "https://{}{port}{}{query}",
        exchange.host(),
        exchange.path()
    );
    let location = HeaderValue::try_from(location).map_err(|_| {
        Reject::new(Reason::BadRequest).saying("the query has a byte that a URL cannot have")
    })?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Makes the client's head into the one that goes upstream.
#[allow(clippy::too_many_arguments)]
fn upstream_head(
    exchange: &Exchange,
    authorized: &Authorized,
    protocol: Protocol,
    tls: bool,
    parts: Parts,
    websocket: bool,
    upload: &Upload,
) -> Result<Head, Reject> {
    let internal = || Reject::new(Reason::BadRequest).saying("the request cannot be forwarded");
    let Some(authority) = &exchange.authority else {
        return Err(internal());
    };
    let mut headers = parts.headers;
    let chunked = !upload.is_empty() && !headers.contains_key(header::CONTENT_LENGTH);
    sanitize::request_headers(
        &mut headers,
        &Forwarding {
            client: &exchange.conn.client,
            address: exchange.client,
            authority,
            request_id: &exchange.request_id,
            method: &parts.method,
            version: parts.version,
            websocket,
            via: exchange.conn.worker.shared.options.via,
        },
    );
    // The client was told to go on, or will be when its body is first read; no peer needs to say it again.
    headers.remove(header::EXPECT);
    authorized.apply(&mut headers);
    let hidden = authorized.hidden_parameters();
    let target = sanitize::target(&parts.uri, exchange.path(), hidden);
    let uri = match protocol {
        Protocol::Http1 => {
            // hyper sends the trailers that this announces. Many servers of HTTP/1 treat them as headers.
            headers.remove(header::TRAILER);
            let bodyless = matches!(parts.method, Method::GET | Method::HEAD);
            if chunked && bodyless && !websocket {
                headers.insert(
                    header::TRANSFER_ENCODING,
                    HeaderValue::from_static("chunked"),
                );
            }
            Uri::from(target)
        }
        Protocol::Http2 => {
            headers.remove(header::HOST);
            let mut absolute = uri::Parts::default();
            absolute.scheme = Some(if tls {
                uri::Scheme::HTTPS
            } else {
                uri::Scheme::HTTP
            });
            absolute.authority = uri::Authority::try_from(authority.value().as_bytes()).ok();
            absolute.path_and_query = Some(target);
            Uri::from_parts(absolute).map_err(|_| internal())?
        }
    };
    let method = if websocket { Method::GET } else { parts.method };
    Ok(Head {
        method,
        uri,
        headers,
    })
}

/// Attempts, until one is answered or nothing is left to try.
async fn proxy(
    exchange: &mut Exchange,
    authorized: &Authorized,
    route: &CompiledRoute,
    upstream: &Arc<Upstream>,
    mut parts: Parts,
    upload: Upload,
) -> Result<Answer, Reject> {
    let policy = &route.policy;
    let extended = sanitize::is_extended_websocket(&parts);
    if extended && upstream.config.protocol == Protocol::Http2 {
        // Without its `:protocol` it would be another request: a CONNECT that has no path.
        return Err(Reject::new(Reason::MethodNotAllowed)
            .saying("websockets go to upstreams of HTTP/1.1 alone"));
    }
    let websocket = upstream.config.protocol == Protocol::Http1
        && (extended || sanitize::is_websocket_upgrade(&parts));
    let deadline = deadline(exchange, policy, &parts.headers);
    let upgrade = websocket.then(|| tunnel::Client::take(&mut parts));
    exchange.wish = Wish::of(upstream, exchange, &parts.headers);
    let nature = Nature::of(
        &parts.method,
        &parts.headers,
        policy.retry.as_ref(),
        upstream.config.protocol,
    );
    // Each pass would multiply the attempts of the next.
    let nature = match exchange.passes {
        0 | 1 => nature,
        _ => nature.sent_once(),
    };
    let tls = upstream.tls.is_some();
    let head = upstream_head(
        exchange,
        authorized,
        upstream.config.protocol,
        tls,
        parts,
        websocket,
        &upload,
    )?;
    if let Some(client) = upgrade {
        if upload.is_bound() {
            // No body goes with a handshake, so not the one that was signed.
            if let Some(note) = &mut exchange.auth {
                note.outcome = auth::Outcome::BodyMismatch;
            }
            return Err(authorized.wrong_body());
        }
        return tunnel::open(
            authorized,
            exchange,
            upstream,
            policy,
            head.with(RequestBody::empty()),
            client,
            deadline,
        )
        .await;
    }
    let body = if upload.is_empty() {
        RequestBody::empty()
    } else {
        let (body, progress) = upload.into_body(nature.kept());
        exchange.progress = Some(progress);
        body
    };
    upstream.budget.deposit();
    Attempts::new(authorized, policy, upstream, nature, deadline)
        .run(exchange, head, body)
        .await
}
