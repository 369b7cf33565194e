//! What is remembered of one request until its response is complete: the one place from which it is
//! logged and counted, however it ends.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header, request::Parts};
use tokio::time::Instant;

use crate::{
    access_log::{Attempt, Record},
    admission::Seat,
    auth,
    balance::Wish,
    body::Progress,
    config::ObjectRef,
    cors,
    listen::Conn,
    metrics::{self, Outcome},
    rate_limit,
    reason::Reason,
    reject,
    retry::Permit,
    route::Found,
    sanitize::{self, Authority},
    session,
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
    /// Whether every server reads the path alike.
    pub(crate) plain_path: bool,
    /// How often it passed Hale before.
    pub(crate) passes: usize,
    pub(crate) request_id: HeaderValue,
    pub(crate) form: reject::Form,
    pub(crate) taken: Taken,
    pub(crate) attempts: Vec<Attempt>,
    /// The peer that is being asked.
    pub(crate) asking: Option<SocketAddr>,
    pub(crate) in_flight: Option<Seat>,
    /// Held while an attempt that the retry budget allowed is under way.
    pub(crate) permit: Option<Permit>,
    pub(crate) progress: Option<Rc<Progress>>,
    /// What it asks of picks.
    pub(crate) wish: Wish,
    /// The key of the peer whose answer was the last.
    pub(crate) served_by: Option<u64>,
    /// 0 until a response head is there.
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    /// Who sent it, where the route asks.
    pub(crate) auth: Option<Box<auth::Note>>,
    /// The page that sent it, where the route shares its answers with pages.
    pub(crate) page: cors::Page,
    /// What its answer says of the route's limit.
    pub(crate) limit: rate_limit::Said,
    /// What the service that was asked about it gives the client.
    pub(crate) cookies: Vec<HeaderValue>,
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
            plain_path: true,
            passes: sanitize::passes(headers),
            request_id: sanitize::request_id(headers, &conn.client),
            form: reject::Form::of(headers),
            taken: Taken::Nothing,
            attempts: Vec::new(),
            asking: None,
            in_flight: None,
            permit: None,
            progress: None,
            wish: Wish::default(),
            served_by: None,
            status: 0,
            reason: None,
            auth: None,
            page: cors::Page::None,
            limit: Vec::new(),
            cookies: Vec::new(),
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
        self.asking = None;
        if let Some(upstream) = self.upstream() {
            upstream.metrics.attempt(attempt.outcome);
            if !self.attempts.is_empty() {
                upstream.metrics.retry();
            }
        }
        self.attempts.push(attempt);
    }

    /// When it began, in seconds of Unix time.
    pub(crate) fn unix_time(&self) -> u64 {
        let wall = self.conn.worker.wall(self.started);
        let since = wall.duration_since(std::time::SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    /// The cookie that keeps the client with the peer that served it, where it has none that does.
    pub(crate) fn session_cookie(&self) -> Option<HeaderValue> {
        let config = self.upstream()?.config.session.as_ref()?;
        let Wish { session, https, .. } = self.wish;
        session::set_cookie(config, session, self.served_by?, https, self.unix_time())
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

    /// Counts what the route's policies decided.
    fn count_decisions(&self) {
        let Some(counters) = self.route().map(|route| &route.counters) else {
            return;
        };
        if let (Some(note), Some(auth)) = (&self.auth, &counters.auth) {
            auth.decided(note.kind, note.outcome);
        }
        match (self.reason, &counters.access, &counters.limit) {
            (Some(Reason::AddressDenied), Some(access), _) => access.denied(),
            (Some(Reason::RateLimited), _, Some(limit)) => limit.limited(),
            _ => {}
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
            auth: self.auth.as_deref(),
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
        if let Some(progress) = &self.progress {
            progress.answer_is_over();
        }
        // The client went away while the peer had its request.
        if let Some(peer) = self.asking {
            self.attempted(Attempt {
                peer,
                outcome: metrics::Outcome::Cancelled,
            });
        }
        let duration = self.started.elapsed();
        let status = (self.status != 0).then_some(self.status);
        if let Some(upstream) = self.upstream() {
            upstream.metrics.request(status, duration);
        }
        if let Some(reason) = self.reason {
            self.conn.worker.shared.metrics.reject(reason);
        }
        self.count_decisions();
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
        Reason::Overloaded => Outcome::Overloaded,
        // Given up while it was waited for.
        Reason::NoEligiblePeer => Outcome::PeerFailed,
        _ => Outcome::UpstreamReset,
    }
}
