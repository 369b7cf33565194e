//! What a policy may not say of targets, peers and requests.

use super::{INGRESS, SERVICE, Wrong, hash};

/// Targets, and sections that they cannot have.
pub(super) fn wrong_targets() -> Vec<Wrong> {
    vec![
        ("no target", "targetRefs: []".into(), "should have at least 1 items"),
        ("no targetRefs", "retry: {}".into(), "Required value"),
        (
            "17 targets",
            format!(
                "targetRefs: [{}]",
                (0..17).map(|n| format!("{{group: '', kind: Service, name: a{n}}}")).collect::<Vec<_>>().join(", ")
            ),
            "must have at most 16 items",
        ),
        (
            "a target of another kind",
            "targetRefs: [{group: '', kind: Pod, name: a}]".into(),
            "supported values: \"Service\", \"Ingress\"",
        ),
        (
            "the wrong group",
            "targetRefs: [{group: networking.k8s.io, kind: Service, name: a}]".into(),
            "group must be \"\" for kind Service",
        ),
        (
            "a port of an Ingress",
            "targetRefs: [{group: networking.k8s.io, kind: Ingress, name: a, sectionName: http}]".into(),
            "an Ingress has none",
        ),
        (
            "the same target twice",
            "targetRefs: [{group: '', kind: Service, name: a}, {group: '', kind: Service, name: a}]".into(),
            "the same target is named twice",
        ),
        (
            "a health check for an Ingress",
            format!("{INGRESS}, healthCheck: {{active: {{tcp: {{}}}}}}"),
            "every targetRef must be a Service",
        ),
        (
            "a load balancer for an Ingress",
            format!("{INGRESS}, loadBalancer: {{type: RoundRobin}}"),
            "every targetRef must be a Service",
        ),
        ("outlier detection for an Ingress", format!("{INGRESS}, healthCheck: {{passive: {{}}}}"), "every targetRef must be a Service"),
        ("sessions for an Ingress", format!("{INGRESS}, sessionPersistence: {{}}"), "every targetRef must be a Service"),
        ("limits for an Ingress", format!("{INGRESS}, circuitBreaker: {{}}"), "every targetRef must be a Service"),
        ("TLS for an Ingress", format!("{INGRESS}, tls: {{}}"), "every targetRef must be a Service"),
    ]
}

/// `healthCheck.active`.
pub(super) fn wrong_active_checks() -> Vec<Wrong> {
    let check = |rest: &str| format!("{SERVICE}, healthCheck: {{active: {{{rest}}}}}");
    vec![
        (
            "no kind of check",
            check("interval: 1s"),
            "set exactly one of http, grpc, tcp and fromReadinessProbe",
        ),
        (
            "two kinds of checks",
            check("http: {}, tcp: {}"),
            "set exactly one of http, grpc, tcp and fromReadinessProbe",
        ),
        (
            "three kinds of checks",
            check("http: {}, grpc: {}, tcp: {}"),
            "set exactly one of http, grpc, tcp and fromReadinessProbe",
        ),
        (
            "a pace beside the probe's",
            check("fromReadinessProbe: {}, interval: 1s"),
            "are the probe's: leave them out",
        ),
        (
            "a gRPC service with a space",
            check("grpc: {service: 'a b'}"),
            "should match",
        ),
        (
            "a timeout longer than the interval",
            check("tcp: {}, interval: 1s, timeout: 2s"),
            "must not be longer than interval",
        ),
        (
            "an interval of no duration",
            check("tcp: {}, interval: 5"),
            "must be of type string",
        ),
        (
            "an interval without a unit",
            check("tcp: {}, interval: '5'"),
            "should match '^([0-9]{1,5}(h|m|s|ms)){1,4}$'",
        ),
        (
            "an interval that is too short",
            check("tcp: {}, interval: 10ms"),
            "interval must be 100ms to 1h",
        ),
        (
            "a threshold of 0",
            check("tcp: {}, unhealthyThreshold: 0"),
            "should be greater than or equal to 1",
        ),
        (
            "a jitter of 200 %",
            check("tcp: {}, jitterPercent: 200"),
            "should be less than or equal to 100",
        ),
        (
            "a port of 70000",
            check("tcp: {}, port: 70000"),
            "should be less than or equal to 65535",
        ),
    ]
}

/// `healthCheck.active.http`.
pub(super) fn wrong_http_checks() -> Vec<Wrong> {
    let check = |rest: &str| format!("{SERVICE}, healthCheck: {{active: {{{rest}}}}}");
    vec![
        (
            "a path without a slash",
            check("http: {path: healthz}"),
            "should match",
        ),
        (
            "a status of 999",
            check("http: {expectedStatuses: ['999']}"),
            "should match",
        ),
        (
            "a range of statuses backwards",
            check("http: {expectedStatuses: ['299-200']}"),
            "from the lower to the higher",
        ),
        (
            "a Host among the headers",
            check("http: {headers: [{name: Host, value: a}]}"),
            "use the field host",
        ),
        (
            "two expectations of a body",
            check("http: {expectedBody: {contains: a, regex: b}}"),
            "exactly one of contains and regex",
        ),
        (
            "a method of no check",
            check("http: {method: DELETE}"),
            "supported values",
        ),
    ]
}

/// `healthCheck.passive`.
pub(super) fn wrong_passive_checks() -> Vec<Wrong> {
    let passive = |rest: &str| format!("{SERVICE}, healthCheck: {{passive: {{{rest}}}}}");
    vec![
        (
            "outlier detection without a rule",
            passive("consecutiveErrors: 0"),
            "no rule is left that ejects",
        ),
        (
            "a negative number of errors",
            passive("consecutiveErrors: -1"),
            "should be greater than or equal to 0",
        ),
        (
            "an ejection that is too short",
            passive("baseEjection: 10ms"),
            "baseEjection must be 100ms to 24h",
        ),
        (
            "an ejection that is too long",
            passive("maxEjection: 48h"),
            "maxEjection must be at most 24h",
        ),
        (
            "a longest ejection below the first",
            passive("baseEjection: 10s, maxEjection: 5s"),
            "maxEjection must not be shorter than baseEjection",
        ),
        (
            "101 % of ejected peers",
            passive("maxEjectedPercent: 101"),
            "should be less than or equal to 100",
        ),
        (
            "errors of 0 %",
            passive("errorPercent: {threshold: 0}"),
            "should be greater than or equal to 1",
        ),
        (
            "a share of no request",
            passive("errorPercent: {minRequests: 0}"),
            "should be greater than or equal to 1",
        ),
        (
            "a window of an hour",
            passive("errorPercent: {window: 1h}"),
            "window must be 1s to 10m",
        ),
    ]
}

/// `loadBalancer`.
pub(super) fn wrong_load_balancers() -> Vec<Wrong> {
    let on_service = |rest: &str| format!("{SERVICE}, {rest}");
    vec![
        (
            "an unknown balancer",
            on_service("loadBalancer: {type: Random}"),
            "supported values: \"RoundRobin\", \"LeastRequest\", \"PeakEwma\", \"ConsistentHash\"",
        ),
        (
            "a hash of nothing",
            on_service("loadBalancer: {type: ConsistentHash}"),
            "type ConsistentHash needs consistentHash",
        ),
        (
            "a hash without its type",
            on_service("loadBalancer: {consistentHash: {uri: {}}}"),
            "consistentHash is for type ConsistentHash alone",
        ),
        (
            "a hash for another type",
            on_service("loadBalancer: {type: PeakEwma, consistentHash: {uri: {}}}"),
            "consistentHash is for type ConsistentHash alone",
        ),
        (
            "a hash without a key",
            hash(""),
            "set exactly one of header, cookie, sourceIP and uri",
        ),
        (
            "a hash of two keys",
            hash("sourceIP: {}, header: X-User"),
            "set exactly one of header, cookie, sourceIP and uri",
        ),
        (
            "a hash of a header with a space",
            hash("header: 'a b'"),
            "should match",
        ),
        (
            "a hash of a header with an underscore",
            hash("header: x_user"),
            "should match",
        ),
        (
            "a hash of a header of the connection",
            hash("header: Keep-Alive"),
            "tells no client from another",
        ),
        (
            "a hash of a cookie with a value",
            hash("cookie: a=b"),
            "should match",
        ),
        (
            "a slow start of two hours",
            on_service("loadBalancer: {slowStart: {window: 2h}}"),
            "window must be 1s to 1h",
        ),
        (
            "a slow start of what is hashed",
            on_service(
                "loadBalancer: {type: ConsistentHash, consistentHash: {uri: {}}, slowStart: {}}",
            ),
            "slowStart does not go with type ConsistentHash",
        ),
    ]
}

/// The other sections of peers.
pub(super) fn wrong_peers() -> Vec<Wrong> {
    let on_service = |rest: &str| format!("{SERVICE}, {rest}");
    vec![
        (
            "a session by a header",
            on_service("sessionPersistence: {type: Header}"),
            "supported values: \"Cookie\"",
        ),
        (
            "a session without a name",
            on_service("sessionPersistence: {sessionName: ''}"),
            "should be at least 1 chars long",
        ),
        (
            "a session of a host",
            on_service("sessionPersistence: {sessionName: __Host-a}"),
            "should match",
        ),
        (
            "a session without time",
            on_service("sessionPersistence: {absoluteTimeout: 0s}"),
            "absoluteTimeout must be 1s to 9600h",
        ),
        (
            "a session of two years",
            on_service("sessionPersistence: {absoluteTimeout: 17520h}"),
            "absoluteTimeout must be 1s to 9600h",
        ),
        (
            "room for no connection",
            on_service("circuitBreaker: {maxConnections: 0}"),
            "should be greater than or equal to 1",
        ),
        (
            "room for no request of a peer",
            on_service("circuitBreaker: {perPeer: {maxParallelRequests: 0}}"),
            "should be greater than or equal to 1",
        ),
        (
            "a queue of -1",
            on_service("circuitBreaker: {queue: {max: -1}}"),
            "should be greater than or equal to 0",
        ),
        (
            "a queue without time",
            on_service("circuitBreaker: {queue: {timeout: 0s}}"),
            "timeout must be 1ms to 1m",
        ),
        (
            "a queue of an hour",
            on_service("circuitBreaker: {queue: {timeout: 1h}}"),
            "timeout must be 1ms to 1m",
        ),
        (
            "trust in anyone and in someone",
            on_service(
                "tls: {insecureSkipVerify: true, caCertificateRefs: [{kind: Secret, name: a}]}",
            ),
            "insecureSkipVerify trusts anyone",
        ),
    ]
}

/// Sections of requests, and the rest.
pub(super) fn wrong_requests() -> Vec<Wrong> {
    let on_service = |rest: &str| format!("{SERVICE}, {rest}");
    vec![
        (
            "11 tries",
            on_service("retry: {attempts: 11}"),
            "should be less than or equal to 10",
        ),
        (
            "a retry of status 200",
            on_service("retry: {codes: [200]}"),
            "should be greater than or equal to 400",
        ),
        (
            "a retry of gRPC's OK",
            on_service("retry: {grpcCodes: [OK]}"),
            "supported values: \"CANCELLED\"",
        ),
        (
            "a retry of a number of gRPC",
            on_service("retry: {grpcCodes: [14]}"),
            "must be of type string",
        ),
        (
            "the same code of gRPC twice",
            on_service("retry: {grpcCodes: [ABORTED, ABORTED]}"),
            "Duplicate value",
        ),
        (
            "a timeout of two days",
            on_service("timeouts: {request: 48h}"),
            "at most 24h",
        ),
        // The API server drops unknown fields; kubectl asks it to refuse them.
        (
            "a field that does not exist",
            on_service("healthChek: {}"),
            "unknown field \"spec.healthChek\"",
        ),
    ]
}
