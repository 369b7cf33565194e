//! Who sends a request, and may they? The one place that makes an `Authorized`, which is the only key to
//! `forward`: a route cannot forget its policy, because without one nothing is sent.
//!
//! Methods are asked in the order of the policy, and the first whose credential the request has decides. What a
//! method cannot judge (its Secret is gone, its keys cannot be fetched) is refused with 503, never passed. Whom
//! nobody identifies is told one thing, 401 with the challenges of all methods; which part of a credential was
//! wrong goes to the operator's log and metrics, and to `hale why`.
//!
//! Identity goes upstream in headers that clients cannot set: every name that any method of the policy may set is
//! removed from what the client sent, whichever method decides, on exempt paths, too.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, Response, Uri, header};

use crate::{
    body::{Unmet, Upload},
    config::{AuthRules, Problem},
    dataplane::Shared,
    exchange::Exchange,
    reason::Reason,
    reject::Reject,
    sanitize::{
        self,
        names::{X_HALE_AUTH, X_HALE_CONSUMER},
    },
    table::{CompiledRoute, Upstream},
    worker::Worker,
};

pub(crate) mod access_key;
mod api_key;
mod basic;
mod exempt;
pub(crate) mod explain;
mod external;
pub mod jwt;
mod method;
pub mod names;
mod outcome;
pub mod password;
mod places;

use access_key::BodyCheck;
use method::Method;
pub(crate) use outcome::{Kind, Outcome};
use places::Places;

/// What protects a route, compiled.
pub(crate) enum Protection {
    /// Nothing: no policy says that it is protected.
    Open,
    /// These methods.
    AnyOf(Arc<AuthGuard>),
    /// It is protected, and nobody can be let in.
    Unavailable(Problem),
}

/// The methods of one policy, compiled. Goes from table to table while the policy stays as it is.
pub(crate) struct AuthGuard {
    pub(crate) rules: Arc<AuthRules>,
    methods: Vec<Method>,
    /// `WWW-Authenticate`, one for each method that has one.
    challenges: Vec<HeaderValue>,
    /// What methods set upstream, and clients may not.
    ours: Vec<HeaderName>,
    /// Where its methods look for credentials, unless those go upstream.
    hidden: Places,
}

/// What methods have learnt that outlives the policies. Goes from table to table.
#[derive(Default)]
pub(crate) struct Memory {
    /// Signatures that were taken.
    pub(crate) signatures: access_key::Memory,
    /// Passwords that were right.
    pub(crate) passwords: basic::Memory,
}

impl Memory {
    /// Forgets what no policy asks for and what is too old to matter. `now` is in seconds of Unix time.
    pub(crate) fn sweep(&self, now: i64) {
        self.signatures.sweep(now);
        self.passwords.sweep();
    }
}

/// What methods read. Nothing in it was changed since it arrived, but for `path`.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a HttpMethod,
    /// The target, as received.
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    /// Host and port, normalised, as the client wrote them in `Host` or `:authority`.
    pub(crate) authority: &'a str,
    /// The canonical path.
    pub(crate) path: &'a str,
    pub(crate) client: IpAddr,
    /// Whether the client speaks https, to us or to a proxy that we trust.
    pub(crate) https: bool,
    /// Whether such a proxy sent it, and `X-Forwarded-*` are its words.
    pub(crate) trusted: bool,
    pub(crate) now: SystemTime,
    /// Whether a body follows.
    pub(crate) has_body: bool,
    pub(crate) shared: &'a Arc<Shared>,
    /// The thread that the request is on; `None` where `hale why` asks.
    pub(crate) worker: Option<&'a Worker>,
    /// The upstream of the policy's external method.
    pub(crate) authority_service: Option<&'a Arc<Upstream>>,
    /// What its log lines carry; `None` where `hale why` asks.
    pub(crate) request_id: Option<&'a HeaderValue>,
}

/// What a method says of a request.
pub(crate) enum Decision {
    /// Its credential is not there: the next method is asked.
    Absent,
    /// The request is let in.
    Granted(Granted),
    /// The request is let in with the body that was signed, and with no other.
    IfBody(Granted, BodyCheck),
    /// The credential is there, and refused.
    Denied(Outcome),
    /// It cannot be judged; with the reason for people who may be explained to.
    Unavailable(Outcome, String),
    /// This goes to the client: the external service's 401 or 403 with its challenges, the way to its sign-in page, or
    /// what is wrong with the request.
    Answer(Outcome, Box<Refused>),
    /// Nobody can judge it now, and the policy lets it pass all the same: unnamed, as on exempt paths.
    Passed(Outcome),
}

/// What a method found out.
pub(crate) struct Granted {
    /// Who it is; `None` where nobody can be named.
    pub(crate) consumer: Option<Arc<str>>,
    /// What goes upstream beside consumer and method; but `Set-Cookie` goes to the client.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// The key to `forward`: whoever has one has been let in.
pub(crate) struct Authorized(Option<Box<Pass>>);

struct Pass {
    guard: Arc<AuthGuard>,
    by: Option<(Kind, Granted)>,
}

/// What is remembered of a decision.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) kind: Option<Kind>,
    pub(crate) consumer: Option<Arc<str>>,
    pub(crate) outcome: Outcome,
}

/// Why a request is not let in.
pub(crate) enum Refused {
    Reject(Reject),
    Answer(Response<()>),
}

/// Decides, and notes in the exchange what was decided.
pub(crate) async fn check(
    exchange: &mut Exchange,
    route: &CompiledRoute,
    headers: &HeaderMap,
    upload: &mut Upload,
) -> Result<Authorized, Refused> {
    let guard = match &route.protection {
        Protection::Open => return Ok(Authorized(None)),
        Protection::Unavailable(problem) => {
            exchange.auth = Some(Box::new(Note {
                kind: None,
                consumer: None,
                outcome: Outcome::Unavailable,
            }));
            return Err(Refused::Reject(Reject::from(problem)));
        }
        Protection::AnyOf(guard) => guard,
    };
    // Servers may merge trailers into the headers.
    upload.guarded_by(guard);
    let conn = &exchange.conn;
    let asked = Asked {
        method: &exchange.method,
        uri: &exchange.uri,
        headers,
        authority: exchange
            .authority
            .as_ref()
            .and_then(|authority| authority.value().to_str().ok())
            .unwrap_or_default(),
        path: exchange.path(),
        client: exchange.client,
        https: sanitize::is_https(headers, &conn.client),
        trusted: conn.client.trusted,
        now: conn.worker.wall(exchange.started),
        has_body: !upload.is_empty(),
        shared: &conn.worker.shared,
        worker: Some(&conn.worker),
        authority_service: route.authority_service.as_ref(),
        request_id: Some(&exchange.request_id),
    };
    let (kind, decision) = guard.decide(&asked).await;
    let (note, verdict) = match decision {
        Decision::IfBody(granted, check) => match upload.meet(check, exchange.client).await {
            Ok(()) => guard.verdict(kind, Decision::Granted(granted)),
            Err(Unmet::Refused(outcome)) => guard.verdict(kind, Decision::Denied(outcome)),
            Err(Unmet::Unread(outcome, reason)) => {
                let consumer = granted.consumer;
                let note = Note {
                    kind,
                    consumer,
                    outcome,
                };
                (note, Err(Refused::Reject(Reject::new(reason))))
            }
        },
        decision => guard.verdict(kind, decision),
    };
    exchange.auth = Some(Box::new(note));
    if let Ok(authorized) = &verdict {
        exchange.cookies = authorized.cookies();
    }
    verdict
}

impl AuthGuard {
    /// Compiles the rules; what `old` has learnt is kept where the method is the same.
    pub(crate) fn compile(rules: &Arc<AuthRules>, memory: &Memory, old: Option<&Self>) -> Self {
        let methods: Vec<Method> = rules
            .methods
            .iter()
            .enumerate()
            .map(|(index, method)| {
                let old = old.and_then(|old| old.methods.get(index));
                Method::compile(method, &rules.source.namespace, memory, old)
            })
            .collect();
        let mut ours: Vec<HeaderName> = vec![X_HALE_CONSUMER, X_HALE_AUTH];
        ours.extend(methods.iter().flat_map(Method::sets));
        // Spelled with other signs a name does not come through; with hyphens it does, and is the same to some.
        let plain = |name: &HeaderName| HeaderName::try_from(names::plain(name.as_str())).ok();
        let plain: Vec<HeaderName> = ours.iter().filter_map(plain).collect();
        ours.extend(plain);
        ours.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        ours.dedup();
        let hidden = match rules.forward_credential {
            true => Places::default(),
            false => (methods.iter().map(Method::places)).fold(Places::default(), Places::and),
        };
        Self {
            hidden,
            challenges: methods.iter().filter_map(Method::challenge).collect(),
            ours,
            methods,
            rules: Arc::clone(rules),
        }
    }

    /// Removes what only we may say.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        for name in &self.ours {
            headers.remove(name);
        }
    }

    /// Where its methods fetch keys.
    pub(crate) fn key_endpoints(&self) -> impl Iterator<Item = &Arc<jwt::Endpoint>> {
        self.methods.iter().filter_map(|method| match method {
            Method::Jwt(method) => method.endpoint(),
            _ => None,
        })
    }

    /// Asks the methods, one after another.
    pub(crate) async fn decide(&self, asked: &Asked<'_>) -> (Option<Kind>, Decision) {
        if exempt::is_exempt(&self.rules.exempt_paths, asked.path) {
            return (
                None,
                Decision::Granted(Granted {
                    consumer: None,
                    headers: Vec::new(),
                }),
            );
        }
        for method in &self.methods {
            match method.decide(asked).await {
                Decision::Absent => {}
                decision => return (Some(method.kind()), decision),
            }
        }
        (None, Decision::Absent)
    }

    fn verdict(
        self: &Arc<Self>,
        kind: Option<Kind>,
        decision: Decision,
    ) -> (Note, Result<Authorized, Refused>) {
        let note = |outcome, consumer| Note {
            kind,
            consumer,
            outcome,
        };
        match decision {
            Decision::Granted(granted) => {
                let outcome = match kind {
                    Some(_) => Outcome::Allowed,
                    None => Outcome::Exempt,
                };
                let note = note(outcome, granted.consumer.clone());
                let pass = Pass {
                    guard: Arc::clone(self),
                    by: kind.map(|kind| (kind, granted)),
                };
                (note, Ok(Authorized(Some(Box::new(pass)))))
            }
            // Only who has the body can tell; here nobody has.
            Decision::IfBody(..) => (
                note(Outcome::BodyMismatch, None),
                Err(Refused::Reject(self.challenge())),
            ),
            Decision::Absent if self.methods.iter().all(Method::is_unavailable) => {
                let reject =
                    Reject::new(Reason::AuthUnavailable).explaining(self.why_unavailable());
                (
                    note(Outcome::Unavailable, None),
                    Err(Refused::Reject(reject)),
                )
            }
            Decision::Absent => (
                note(Outcome::NoCredential, None),
                Err(Refused::Reject(self.challenge())),
            ),
            Decision::Denied(Outcome::Forbidden) => (
                note(Outcome::Forbidden, None),
                Err(Refused::Reject(forbidden(kind))),
            ),
            Decision::Denied(outcome) => {
                (note(outcome, None), Err(Refused::Reject(self.challenge())))
            }
            Decision::Unavailable(outcome, why) => {
                let reason = match outcome {
                    Outcome::Overloaded => Reason::Overloaded,
                    _ => Reason::AuthUnavailable,
                };
                let why = format!("{}: {why}", self.rules.source);
                let reject = Reject::new(reason).explaining(why);
                (note(outcome, None), Err(Refused::Reject(reject)))
            }
            Decision::Answer(outcome, answer) => {
                let refused = match *answer {
                    Refused::Reject(reject) if reject.reason() == Reason::AuthRequired => {
                        Refused::Reject(self.challenging(reject))
                    }
                    refused => refused,
                };
                (note(outcome, None), Err(refused))
            }
            Decision::Passed(outcome) => {
                let pass = Pass {
                    guard: Arc::clone(self),
                    by: None,
                };
                (note(outcome, None), Ok(Authorized(Some(Box::new(pass)))))
            }
        }
    }

    /// 401, the same for everybody.
    fn challenge(&self) -> Reject {
        self.challenging(Reject::new(Reason::AuthRequired))
    }

    fn challenging(&self, mut reject: Reject) -> Reject {
        for challenge in &self.challenges {
            reject = reject.with(header::WWW_AUTHENTICATE, challenge.clone());
        }
        reject
    }

    fn why_unavailable(&self) -> String {
        let mut why: Vec<Cow<'_, str>> = self
            .methods
            .iter()
            .filter_map(Method::unavailable)
            .collect();
        why.dedup();
        format!("{}: {}", self.rules.source, why.join("; "))
    }
}

/// 403, to somebody who is known.
fn forbidden(kind: Option<Kind>) -> Reject {
    let reject = Reject::new(Reason::AuthDenied);
    match kind {
        Some(Kind::Jwt) => reject.with(header::WWW_AUTHENTICATE, jwt::Jwt::forbidden()),
        _ => reject,
    }
}

impl Authorized {
    /// For the questions that authorization itself asks.
    fn ourselves() -> Self {
        Self(None)
    }

    /// Makes the headers that go upstream tell who it is, and takes the credential out.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let Some(pass) = &self.0 else { return };
        pass.guard.strip(headers);
        let Some((kind, granted)) = &pass.by else {
            return;
        };
        pass.guard.hidden.empty(headers);
        for (name, value) in &granted.headers {
            if name != header::SET_COOKIE {
                headers.append(name, value.clone());
            }
        }
        headers.insert(X_HALE_AUTH, HeaderValue::from_static(kind.as_str()));
        if let Some(consumer) = &granted.consumer
            && let Ok(value) = HeaderValue::from_bytes(consumer.as_bytes())
        {
            headers.insert(X_HALE_CONSUMER, value);
        }
    }

    /// Cookies that go to the client, whatever the upstream answers.
    fn cookies(&self) -> Vec<HeaderValue> {
        let granted = self.0.as_ref().and_then(|pass| pass.by.as_ref());
        let headers = granted.map_or(&[][..], |(_, granted)| &granted.headers);
        let cookies = headers
            .iter()
            .filter(|(name, _)| name == header::SET_COOKIE);
        cookies.map(|(_, value)| value.clone()).collect()
    }

    /// What a client is told whose body was not the one that it had signed.
    pub(crate) fn wrong_body(&self) -> Reject {
        match &self.0 {
            Some(pass) => pass.guard.challenge(),
            None => Reject::new(Reason::AuthRequired),
        }
    }

    /// The parameters of the query that must not go upstream.
    pub(crate) fn hidden_parameters(&self) -> &[String] {
        match &self.0 {
            Some(pass) if pass.by.is_some() => pass.guard.hidden.parameters(),
            _ => &[],
        }
    }
}
