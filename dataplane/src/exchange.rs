//! What is remembered of one request until its response is complete: the one place from which it is
//! logged and counted, however it ends.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header, request::Parts};
use tokio::time::Instant;

use crate::{
    access_log::{Attempt, Record},
    admission::Seat,
    body::Progress,
    config::ObjectRef,
    listen::Conn,
    metrics::Outcome,
    reason::Reason,
    reject,
    route::Found,
    sanitize::{self, Authority},
    table::{CompiledRoute, PeerTable, Target, Upstream},
    worker::Snapshot,
};

/// Which route took the request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    Nothing,
    Route(Found),
    Default,
}

/// One request and its response.
pub(crate) struct Exchange {
    pub(crate) conn: Rc<Conn>,
    pub(crate) table: Rc<Snapshot>,
    pub(crate) started: Instant,
    pub(crate) client: IpAddr,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) authority: Option<Authority>,
    /// The canonical path, where it is not the one in `uri`.
    pub(crate) path: Option<Box<str>>,
    pub(crate) request_id: HeaderValue,
    pub(crate) form: reject::Form,
    pub(crate) taken: Taken,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) in_flight: Option<Seat>,
    pub(crate) progress: Option<Rc<Progress>>,
    /// 0 until a response head is there.
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    pub(crate) bytes_out: u64,
    user_agent: Option<HeaderValue>,
}

impl Exchange {
    pub(crate) fn begin(conn: &Rc<Conn>, parts: &Parts) -> Box<Self> {
        conn.guard.begin_request();
        let headers: &HeaderMap = &parts.headers;
        let trusted = &conn.worker.shared.options.trusted_proxies;
        Box::new(Self {
            conn: Rc::clone(conn),
            table: conn.worker.table(),
            started: Instant::now(),
            client: sanitize::client_address(headers, &conn.client, trusted),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            authority: None,
            path: None,
            request_id: sanitize::request_id(headers, &conn.client),
            form: reject::Form::of(headers),
            taken: Taken::Nothing,
            attempts: Vec::new(),
            in_flight: None,
            progress: None,
            status: 0,
            reason: None,
            bytes_out: 0,
            user_agent: headers.get(header::USER_AGENT).cloned(),
        })
    }

    /// The canonical path; as sent before it was made canonical.
    pub(crate) fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_else(|| self.uri.path())
    }

    /// The host, empty before it was read.
    pub(crate) fn host(&self) -> &str {
        self.authority.as_ref().map_or("", Authority::host)
    }

    /// The route that took the request.
    pub(crate) fn route(&self) -> Option<&CompiledRoute> {
        route_of(&self.table, self.taken)
    }

    /// The upstream of that route.
    pub(crate) fn upstream(&self) -> Option<&Arc<Upstream>> {
        match &self.route()?.target {
            Target::Forward(upstream) => Some(upstream),
            Target::Reject(_) => None,
        }
    }

    /// Notes what came of an attempt.
    pub(crate) fn attempted(&mut self, attempt: Attempt) {
        if let Some(upstream) = self.upstream() {
            upstream.metrics.attempt(attempt.outcome);
            if !self.attempts.is_empty() {
                upstream.metrics.retry();
            }
        }
        self.attempts.push(attempt);
    }

    /// Whether names and addresses of peers may be told to this client.
    pub(crate) fn explains(&self) -> bool {
        sanitize::contains(&self.conn.worker.shared.options.explain, self.client)
    }

    fn source(&self) -> Option<&ObjectRef> {
        match self.taken {
            Taken::Nothing => None,
            Taken::Default => self
                .table
                .config
                .default_route
                .as_ref()
                .map(|route| &route.source),
            Taken::Route(Found { host, route }) => {
                Some(&self.table.config.hosts.get(host)?.routes.get(route)?.source)
            }
        }
    }

    fn log(&self, duration: Duration) {
        let worker = &self.conn.worker;
        if !worker.logs() {
            return;
        }
        let upstream = self.upstream();
        worker.log(&Record {
            time: worker.wall(self.started),
            client: self.client,
            method: &self.method,
            host: self.host(),
            path: self.path(),
            query_len: self.uri.query().map_or(0, str::len),
            version: self.version,
            sni: self.conn.sni.as_deref(),
            https: self.conn.client.https,
            status: self.status,
            bytes_in: self
                .progress
                .as_ref()
                .map_or(0, |progress| progress.bytes.get()),
            bytes_out: self.bytes_out,
            duration,
            request_id: self.request_id.to_str().unwrap_or_default(),
            route: self.source(),
            upstream: upstream.map(|upstream| &upstream.config.id),
            reason: self.reason,
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            attempts: &self.attempts,
        });
    }
}

/// The route in a table.
pub(crate) fn route_of(table: &PeerTable, taken: Taken) -> Option<&CompiledRoute> {
    match taken {
        Taken::Nothing => None,
        Taken::Default => table.default_route(),
        Taken::Route(Found { host, route }) => table.route(host, route),
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.conn.guard.end_request();
        let duration = self.started.elapsed();
        let status = (self.status != 0).then_some(self.status);
        if let Some(upstream) = self.upstream() {
            upstream.metrics.request(status, duration);
        }
        if let Some(reason) = self.reason {
            self.conn.worker.shared.metrics.reject(reason);
        }
        self.log(duration);
    }
}

/// What an attempt that gave no response is called in log and metrics.
pub(crate) fn outcome_of(reason: Reason) -> Outcome {
    match reason {
        Reason::ConnectRefused => Outcome::ConnectRefused,
        Reason::ConnectTimeout => Outcome::ConnectTimeout,
        Reason::TlsError => Outcome::TlsError,
        Reason::UpstreamTimeout => Outcome::UpstreamTimeout,
        Reason::ProtocolError => Outcome::ProtocolError,
        Reason::Saturated => Outcome::Saturated,
        _ => Outcome::UpstreamReset,
    }
}
