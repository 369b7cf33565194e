//! Another service is asked about each request, as `auth_request` of nginx asks it.
//!
//! Its word decides: 2xx lets the request in, 401 and 403 refuse it. Everything else is no word, and refused with
//! 503. Where the policy says that requests pass while the service does not answer, only a service that cannot be
//! reached, or a gateway that says so, lets them pass: no status that a request could be made to provoke does.
//!
//! A question carries a mark, and a request with that mark is not asked about: a service whose own route asks it
//! again ends there, and not when everything is used up. Questions under way are bounded, too.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, response, uri};

use super::{
    Asked, Decision, Granted, Outcome, Refused,
    names::{self, Use},
};
use crate::{
    config::{self, ExternalService},
    outbound::Client,
    reason::Reason,
    reject::{Form, Reject},
};

mod peers;
mod question;
mod url;

use question::{MARK, Question};

/// Questions that one policy may have under way in this process.
const MOST: usize = 1_024;

/// A [`config::External`], compiled.
pub(super) struct External {
    config: config::External,
    /// Path and query of the question; an error is why there can be none.
    target: Result<uri::PathAndQuery, String>,
    /// Headers of the request that go with the question.
    sends: Vec<HeaderName>,
    /// Headers of the answer that go upstream.
    takes: Vec<HeaderName>,
    under_way: AtomicUsize,
    /// Made for the first question to a URL.
    client: OnceLock<Result<Client, String>>,
}

/// Why there is no answer.
enum NoAnswer {
    /// Nobody was there, or nobody spoke in time.
    Silent(String),
    /// The question cannot be asked, or what came of it is no answer.
    Impossible(String),
    /// It has more questions than it may.
    Overloaded(String),
}

/// Counts a question while it is under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Option<Self> {
        let begun = Self(count);
        (count.fetch_add(1, Relaxed) < MOST).then_some(begun)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl External {
    pub(super) fn compile(config: &config::External) -> Self {
        // Those that are barred were refused with the policy.
        let named = |list: &[String], what: Use| -> Vec<HeaderName> {
            let named = list.iter().filter_map(|name| name.parse().ok());
            let fits = |name: &HeaderName| !names::is_barred(name.as_str(), what);
            named.filter(fits).collect()
        };
        let mut sends = named(&config.request_headers, Use::Question);
        sends.retain(|name| !names::is_always_told(name.as_str()));
        let target = match config.path.as_str() {
            path if path.starts_with('/') => path
                .parse()
                .map_err(|_| format!("the path {path} cannot be sent")),
            path => Err(format!("the path {path} does not begin with /")),
        };
        Self {
            target,
            sends,
            takes: named(&config.response_headers, Use::Answer),
            under_way: AtomicUsize::new(0),
            client: OnceLock::new(),
            config: config.clone(),
        }
    }

    pub(super) async fn decide(&self, asked: &Asked<'_>) -> Decision {
        if asked.headers.contains_key(MARK) {
            let why = "the request is itself a question about a request";
            return Decision::Unavailable(Outcome::Unavailable, why.to_owned());
        }
        let Some(_under_way) = UnderWay::begin(&self.under_way) else {
            let why = format!("{MOST} questions to the external service are under way");
            return Decision::Unavailable(Outcome::Overloaded, why);
        };
        // Boxed: most routes ask nobody, and need not carry the state of it.
        match Box::pin(self.ask(asked)).await {
            Ok(answer) => self.judge(asked, &answer),
            Err(NoAnswer::Silent(why)) => self.without_answer(why),
            Err(NoAnswer::Impossible(why)) => Decision::Unavailable(Outcome::Unavailable, why),
            Err(NoAnswer::Overloaded(why)) => Decision::Unavailable(Outcome::Overloaded, why),
        }
    }

    async fn ask(&self, asked: &Asked<'_>) -> Result<response::Parts, NoAnswer> {
        let target = self.target.clone().map_err(NoAnswer::Impossible)?;
        let question = Question::about(asked, target, &self.sends)
            .ok_or_else(|| NoAnswer::Impossible("the request cannot be asked about".to_owned()))?;
        let limit = self.config.timeout;
        match &self.config.service {
            ExternalService::Unavailable(why) => Err(NoAnswer::Impossible(why.clone())),
            ExternalService::Upstream(id) => {
                let (Some(worker), Some(upstream)) = (asked.worker, asked.authority_service) else {
                    return Err(NoAnswer::Impossible(format!("{id} is not known")));
                };
                peers::ask(worker, upstream, &question, limit).await
            }
            ExternalService::Url(origin) => {
                let client = self.client.get_or_init(|| {
                    let reach = asked.shared.options.reach(true);
                    Client::new(origin, None, reach).map_err(|error| format!("{origin}: {error}"))
                });
                let client = client
                    .as_ref()
                    .map_err(|why| NoAnswer::Impossible(why.clone()))?;
                url::ask(client, &question, limit).await
            }
        }
    }

    fn judge(&self, asked: &Asked<'_>, answer: &response::Parts) -> Decision {
        match answer.status {
            status if status.is_success() => Decision::Granted(self.granted(answer)),
            StatusCode::UNAUTHORIZED => {
                let tried = [header::AUTHORIZATION, header::COOKIE]
                    .iter()
                    .any(|name| asked.headers.contains_key(name));
                let outcome = if tried {
                    Outcome::WrongCredential
                } else {
                    Outcome::NoCredential
                };
                let refused = self
                    .sign_in(asked)
                    .unwrap_or_else(|| refused(Reason::AuthRequired, answer));
                Decision::Answer(outcome, Box::new(refused))
            }
            StatusCode::FORBIDDEN => {
                let refused = refused(Reason::AuthDenied, answer);
                Decision::Answer(Outcome::Forbidden, Box::new(refused))
            }
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                self.without_answer(format!("the external service answered {}", answer.status))
            }
            status => {
                let why = format!("the external service answered {status}");
                Decision::Unavailable(Outcome::Unavailable, why)
            }
        }
    }

    /// What the policy lists goes upstream, and all cookies go to the client, as they do with ingress-nginx: sign-in
    /// services prolong their sessions with them.
    fn granted(&self, answer: &response::Parts) -> Granted {
        let taken = self.takes.iter().chain([&header::SET_COOKIE]);
        let headers = taken.flat_map(|name| {
            let values = answer.headers.get_all(name).iter();
            values.map(|value| (name.clone(), value.clone()))
        });
        Granted {
            consumer: None,
            headers: headers.collect(),
        }
    }

    fn without_answer(&self, why: String) -> Decision {
        if self.config.fail_open {
            Decision::Passed(Outcome::Unavailable)
        } else {
            Decision::Unavailable(Outcome::Unavailable, why)
        }
    }

    /// The way to the sign-in page, for a person before a browser.
    fn sign_in(&self, asked: &Asked<'_>) -> Option<Refused> {
        let page = self.config.sign_in.as_deref()?;
        let fits = *asked.method == Method::GET && Form::of(asked.headers) == Form::Html;
        fits.then_some(())?;
        let location = HeaderValue::try_from(question::sign_in(page, asked)).ok()?;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::FOUND;
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, location);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(Refused::Answer(response))
    }

    pub(super) fn unavailable(&self) -> Option<&str> {
        match (&self.config.service, &self.target) {
            (ExternalService::Unavailable(why), _) | (_, Err(why)) => Some(why),
            _ => None,
        }
    }

    /// Headers that it may set upstream: all that were named.
    pub(super) fn sets(&self) -> Vec<HeaderName> {
        self.takes.clone()
    }
}

/// Hale's own answer, with the challenges of the service.
fn refused(reason: Reason, answer: &response::Parts) -> Refused {
    let challenges = answer.headers.get_all(header::WWW_AUTHENTICATE);
    let reject = Reject::new(reason);
    Refused::Reject(challenges.iter().fold(reject, |reject, challenge| {
        reject.with(header::WWW_AUTHENTICATE, challenge.clone())
    }))
}
