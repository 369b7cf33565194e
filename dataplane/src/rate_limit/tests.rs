use super::*;
use crate::config::{Action, ObjectRef, PathRule, Problem, RequestPolicy};

fn config(key: RateLimitKey) -> config::RateLimit {
    config::RateLimit {
        source: source("limit"),
        requests: 2,
        interval: Duration::from_secs(10),
        burst: 0,
        key,
        replicas: 1,
    }
}

fn source(name: &str) -> ObjectRef {
    ObjectRef {
        kind: "UpstreamPolicy",
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn limiter(key: RateLimitKey) -> Limiter {
    Limiter::compile(&Arc::new(config(key)), None)
}

/// A request of which only this is of interest.
#[derive(Default)]
struct Sent {
    client: Option<&'static str>,
    header: Option<&'static str>,
    consumer: Option<(Kind, &'static str)>,
}

impl Limiter {
    fn count(&self, sent: &Sent, at: u64) -> Result<Said, Reject> {
        let mut headers = HeaderMap::new();
        if let Some(value) = sent.header {
            headers.insert("x-tenant", HeaderValue::from_static(value));
        }
        let counted = Counted {
            route: None,
            client: sent.client.unwrap_or("192.0.2.1").parse().unwrap(),
            headers: &headers,
            consumer: sent.consumer,
        };
        self.take(&counted, self.counters.epoch + Duration::from_secs(at))
    }

    /// Whether what was sent second is counted with what was sent first.
    fn joins(&self, first: Sent, second: Sent) -> bool {
        self.count(&first, 0).unwrap();
        self.count(&first, 0).unwrap();
        self.count(&second, 0).is_err()
    }
}

fn from(client: &'static str) -> Sent {
    Sent {
        client: Some(client),
        ..Sent::default()
    }
}

fn tenant(header: &'static str) -> Sent {
    Sent {
        header: Some(header),
        ..Sent::default()
    }
}

fn consumer(consumer: &'static str) -> Sent {
    Sent {
        consumer: Some((Kind::ApiKey, consumer)),
        ..Sent::default()
    }
}

fn subject(subject: &'static str) -> Sent {
    Sent {
        consumer: Some((Kind::Jwt, subject)),
        ..Sent::default()
    }
}

#[test]
fn keys_are_what_they_say() {
    let by = |key: &RateLimitKey| limiter(key.clone());
    let address = RateLimitKey::Address;
    let header = RateLimitKey::Header("x-tenant".into());
    for (key, first, second, joins) in [
        (
            &RateLimitKey::Route,
            from("192.0.2.1"),
            from("192.0.2.2"),
            true,
        ),
        (&address, from("192.0.2.1"), from("192.0.2.1"), true),
        (&address, from("192.0.2.1"), from("192.0.2.2"), false),
        (&address, from("192.0.2.1"), from("::ffff:192.0.2.1"), true),
        (&address, from("2001:db8::1"), from("2001:db8::2"), true),
        (
            &address,
            from("2001:db8:0:1::1"),
            from("2001:db8:0:2::1"),
            false,
        ),
        (&header, tenant("a"), tenant("a"), true),
        (&header, tenant("a"), tenant("b"), false),
        (&header, Sent::default(), Sent::default(), true),
        (&header, Sent::default(), from("192.0.2.2"), false),
        (&header, Sent::default(), tenant(""), true),
        (&RateLimitKey::Consumer, consumer("a"), consumer("a"), true),
        (&RateLimitKey::Consumer, consumer("a"), consumer("b"), false),
        (&RateLimitKey::Consumer, subject("a"), consumer("a"), false),
        (&RateLimitKey::Consumer, subject("a"), subject("a"), true),
        (
            &RateLimitKey::Consumer,
            Sent::default(),
            Sent::default(),
            true,
        ),
    ] {
        let said = format!("{key:?}");
        assert_eq!(by(key).joins(first, second), joins, "{said}");
    }
}

#[test]
fn routes_are_known_by_name_and_not_by_place() {
    let route = |path: &str, name| Route {
        https_redirect: false,
        path: PathRule::prefix(path).unwrap(),
        source: source(name),
        action: Action::Reject(Problem {
            reason: Reason::NotAccepted,
            message: String::new(),
        }),
        policy: RequestPolicy::default(),
    };
    let limiter = limiter(RateLimitKey::Route);
    let headers = HeaderMap::new();
    let host = HostPattern::Any;
    let take = |route| {
        let counted = Counted {
            route: Some((&host, route)),
            client: "192.0.2.1".parse().unwrap(),
            headers: &headers,
            consumer: None,
        };
        limiter.take(&counted, limiter.counters.epoch)
    };
    let (a, b, other) = (route("/a", "one"), route("/b", "one"), route("/a", "two"));
    let again = route("/a", "one");
    assert!(take(&a).is_ok() && take(&a).is_ok() && take(&a).is_err());
    assert!(take(&b).is_ok() && take(&other).is_ok());
    assert!(take(&again).is_err(), "the next table's");
}

#[test]
fn answers_say_what_is_left() {
    let limiter = limiter(RateLimitKey::Route);
    let said = |at| match limiter.count(&Sent::default(), at) {
        Ok(said) => said
            .iter()
            .map(|(_, value)| value.to_str().unwrap().to_owned())
            .collect(),
        Err(reject) => {
            let response = reject.respond(&crate::reject::Audience {
                form: crate::reject::Form::Json,
                explain: false,
                request_id: None,
            });
            assert_eq!(response.status(), 429);
            ["ratelimit", "ratelimit-policy", "retry-after"]
                .map(|name| response.headers()[name].to_str().unwrap().to_owned())
                .to_vec()
        }
    };
    let policy = "\"default\";q=2;w=10";
    assert_eq!(said(0), ["\"default\";r=1;t=5", policy]);
    assert_eq!(said(0), ["\"default\";r=0;t=10", policy]);
    assert_eq!(said(1), ["\"default\";r=0;t=9", policy, "4"]);
    assert_eq!(said(5), ["\"default\";r=0;t=10", policy]);
    assert_eq!(said(60), ["\"default\";r=1;t=5", policy]);
}

#[test]
fn each_replica_takes_its_share_rounded_up() {
    for (requests, burst, replicas, quota, at_once) in [
        (100, 0, 1, 100, 100),
        (100, 10, 3, 34, 38),
        (1, 0, 5, 1, 1),
        (10, 1, 0, 10, 11),
    ] {
        let config = config::RateLimit {
            requests,
            burst,
            replicas,
            ..config(RateLimitKey::Route)
        };
        let limiter = Limiter::compile(&Arc::new(config), None);
        assert_eq!(limiter.policy, format!("\"default\";q={quota};w=10"));
        let taken = (0..1_000).take_while(|_| limiter.count(&Sent::default(), 0).is_ok());
        assert_eq!(taken.count(), at_once);
    }
}

#[test]
fn counters_outlive_a_change_of_the_limit_but_not_of_what_is_counted() {
    let old = limiter(RateLimitKey::Address);
    old.count(&Sent::default(), 0).unwrap();
    old.count(&Sent::default(), 0).unwrap();
    let change = |change: fn(&mut config::RateLimit)| {
        let mut config = config(RateLimitKey::Address);
        change(&mut config);
        Limiter::compile(&Arc::new(config), Some(&old))
    };
    let replicas = change(|config| config.replicas = 2);
    assert!(replicas.count(&Sent::default(), 0).is_err());
    let other = change(|config| config.key = RateLimitKey::Header("x-tenant".into()));
    assert!(other.count(&Sent::default(), 0).is_ok());
}
