//! What the API server says to the CRD, and to policies.

use crate::stage::Stage;
use anyhow::{Context as _, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;

/// The CRD's name in the API.
pub(crate) const NAME: &str = "upstreampolicies.hale-ingress.io";

pub(crate) async fn the_api_server_takes_the_crd_without_a_warning(
    stage: &Stage,
) -> anyhow::Result<()> {
    let crds = Api::<CustomResourceDefinition>::all(stage.world.cluster.client());
    let conditions = crds
        .get(NAME)
        .await?
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    for wanted in ["Established", "NamesAccepted"] {
        let found = conditions
            .iter()
            .find(|condition| condition.type_ == wanted);
        ensure!(
            found.is_some_and(|condition| condition.status == "True"),
            "{wanted}: {conditions:?}"
        );
    }
    let bad = conditions
        .iter()
        .find(|condition| condition.type_ == "NonStructuralSchema");
    ensure!(bad.is_none(), "{bad:?}");

    // What is installed is sent again as it is in the chart: warnings are on kubectl's standard error.
    let file = hale_e2e::cache::repository().join("charts/hale/crd/upstreampolicies.yaml");
    let manifest =
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
        "-",
    ];
    let printed = stage.world.cluster.kubectl_with(&args, &manifest).await?;
    ensure!(
        printed.success && printed.err.is_empty(),
        "{}{}",
        printed.out,
        printed.err
    );
    Ok(())
}

pub(crate) async fn kubectl_explain_reads_like_documentation(stage: &Stage) -> anyhow::Result<()> {
    for (field, wanted) in [
        ("upol", &["UpstreamPolicy says how Hale treats"][..]),
        (
            "upol.spec.healthCheck.active",
            &["interval", "default 5s", "unhealthyThreshold", "default 3"],
        ),
        (
            "upol.spec.healthCheck.passive",
            &["consecutiveErrors", "default 5", "maxEjectedPercent"],
        ),
        ("upol.spec.targetRefs", &["sectionName"]),
        (
            "upol.spec.auth",
            &["503; it never lets them through", "exemptPaths"],
        ),
        (
            "upol.spec.auth.anyOf.accessKey",
            &["secretSelector", "accessKeyId", "default 300s"],
        ),
        (
            "upol.spec.auth.anyOf.jwt.jwks",
            &["jwks.json", "default 5m"],
        ),
        ("upol.spec.rateLimit", &["Retry-After", "default 1s"]),
        ("upol.spec.cors", &["preflights", "default 5s"]),
        ("upol.spec.access", &["AddressDenied"]),
        ("upol.status.unhealthyPeers", &["reason", "since"]),
    ] {
        // The short name goes through discovery, which a client caches; the API server's own copy is slow, too.
        let text = hale_e2e::wait::until(
            &format!("kubectl explain {field}"),
            crate::stage::SOON,
            || async { stage.world.cluster.kubectl(&["explain", field]).await },
        )
        .await?;
        // kubectl breaks lines wherever they get long.
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for wanted in wanted {
            ensure!(
                words.contains(wanted),
                "kubectl explain {field} does not say {wanted:?}:\n{text}"
            );
        }
    }
    Ok(())
}

/// A policy with this `spec`, in flow style.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: hale-ingress.io/v1alpha1\nkind: UpstreamPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

const SERVICE: &str = "targetRefs: [{group: '', kind: Service, name: a}]";
const INGRESS: &str = "targetRefs: [{group: networking.k8s.io, kind: Ingress, name: a}]";

/// A policy that balances by a hash of this.
fn hash(key: &str) -> String {
    format!("{SERVICE}, loadBalancer: {{type: ConsistentHash, consistentHash: {{{key}}}}}")
}

/// What is wrong, the spec, and what the message must say.
type Wrong = (&'static str, String, &'static str);

/// Targets, and sections that they cannot have.
fn wrong_targets() -> Vec<Wrong> {
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
fn wrong_active_checks() -> Vec<Wrong> {
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
fn wrong_http_checks() -> Vec<Wrong> {
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
fn wrong_passive_checks() -> Vec<Wrong> {
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
fn wrong_load_balancers() -> Vec<Wrong> {
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
fn wrong_peers() -> Vec<Wrong> {
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
fn wrong_requests() -> Vec<Wrong> {
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

/// An `auth` section with this method.
fn auth(method: &str) -> String {
    format!("{INGRESS}, auth: {{anyOf: [{{{method}}}]}}")
}

const BASIC: &str = "basic: {secretRef: {name: a}}";

/// `auth` as a whole.
fn wrong_auth() -> Vec<Wrong> {
    let section = |rest: &str| format!("{SERVICE}, auth: {{anyOf: [{{{BASIC}}}], {rest}}}");
    vec![
        (
            "no method",
            format!("{SERVICE}, auth: {{anyOf: []}}"),
            "should have at least 1 items",
        ),
        (
            "auth without anyOf",
            format!("{SERVICE}, auth: {{}}"),
            "Required value",
        ),
        (
            "a method of no kind",
            auth(""),
            "set exactly one of basic, jwt, accessKey, apiKey and external",
        ),
        (
            "a method of two kinds",
            auth(&format!("{BASIC}, external: {{url: 'http://a.test'}}")),
            "set exactly one of basic, jwt, accessKey, apiKey and external",
        ),
        (
            "something after external",
            format!(
                "{SERVICE}, auth: {{anyOf: [{{external: {{url: 'http://a.test'}}}}, {{{BASIC}}}]}}"
            ),
            "it can only be the last method",
        ),
        (
            "everything exempt",
            section("exemptPaths: [{type: Prefix, path: /}]"),
            "this exempts every path",
        ),
        (
            "a relative exempt path",
            section("exemptPaths: [{path: healthz}]"),
            "should match",
        ),
        (
            "a realm with a quote",
            auth("basic: {secretRef: {name: a}, realm: 'a\"b'}"),
            "should match",
        ),
    ]
}

/// What single methods of `auth` ask for, but tokens.
fn wrong_methods() -> Vec<Wrong> {
    vec![
        ("users of no Secret", auth("basic: {}"), "Required value"),
        (
            "an API key nowhere",
            auth("apiKey: {secretRef: {name: a}}"),
            "set exactly one of header, query and cookie",
        ),
        (
            "an API key in a header of ours",
            auth("apiKey: {header: X-Hale-Consumer, secretRef: {name: a}}"),
            "is not for an API key",
        ),
        (
            "an API key in a header with an underscore",
            auth("apiKey: {header: x_key, secretRef: {name: a}}"),
            "should match",
        ),
        (
            "access keys of all Secrets",
            auth("accessKey: {profile: AWS4, secretSelector: {matchLabels: {}}}"),
            "should have at least 1 properties",
        ),
        (
            "an unknown way to sign",
            auth("accessKey: {profile: AWS2, secretSelector: {matchLabels: {app: a}}}"),
            "supported values: \"AWS4\", \"SDK\", \"HTTPSignature\", \"Cavage\"",
        ),
        (
            "a clock that is a day off",
            auth(
                "accessKey: {profile: AWS4, secretSelector: {matchLabels: {app: a}}, clockSkew: 24h}",
            ),
            "clockSkew must be 1s to 1h",
        ),
        (
            "nobody asked",
            auth("external: {}"),
            "set exactly one of service and url",
        ),
        (
            "a URL with a path asked",
            auth("external: {url: 'https://a.test/b'}"),
            "should match",
        ),
        (
            "a minute to answer",
            auth("external: {url: 'https://a.test', timeout: 1m}"),
            "timeout must be 10ms to 30s",
        ),
        (
            "a header of the message from who is asked",
            auth("external: {url: 'https://a.test', responseHeaders: [Content-Length]}"),
            "Hale or the message itself has",
        ),
        (
            "a script to sign in",
            auth("external: {url: 'https://a.test', signIn: 'javascript:a'}"),
            "should match",
        ),
    ]
}

/// `auth.anyOf[].jwt`.
fn wrong_tokens() -> Vec<Wrong> {
    let jwt = |rest: &str| auth(&format!("jwt: {{issuer: a, {rest}}}"));
    vec![
        (
            "keys from nowhere",
            jwt("jwks: {}"),
            "set exactly one of uri, secretRef and configMapRef",
        ),
        (
            "keys from two places",
            jwt("jwks: {secretRef: {name: a}, configMapRef: {name: a}}"),
            "set exactly one of uri, secretRef and configMapRef",
        ),
        (
            "keys in plain text",
            jwt("jwks: {uri: 'http://a.test'}"),
            "should match",
        ),
        (
            "keys with a user",
            jwt("jwks: {uri: 'https://a@b.test/'}"),
            "should match",
        ),
        (
            "a refresh of a Secret",
            jwt("jwks: {secretRef: {name: a}, refreshInterval: 1m}"),
            "go with uri alone",
        ),
        (
            "a refresh each second",
            jwt("jwks: {uri: 'https://a.test', refreshInterval: 1s}"),
            "refreshInterval must be 10s to 24h",
        ),
        (
            "no signature",
            jwt("jwks: {secretRef: {name: a}}, algorithms: [none]"),
            "supported values",
        ),
        (
            "a symmetric key for all to read",
            jwt("jwks: {configMapRef: {name: a}}, algorithms: [HS256]"),
            "which only jwks.secretRef can hold",
        ),
        (
            "a claim as a header of ours",
            jwt(
                "jwks: {secretRef: {name: a}}, claimsToHeaders: [{claim: sub, header: X-Hale-Consumer}]",
            ),
            "is not for a claim",
        ),
        (
            "a claim as the credential",
            jwt(
                "jwks: {secretRef: {name: a}}, claimsToHeaders: [{claim: sub, header: authorization}]",
            ),
            "is not for a claim",
        ),
        (
            "a clock that is an hour off",
            jwt("jwks: {secretRef: {name: a}}, clockSkew: 1h"),
            "clockSkew must be at most 10m",
        ),
    ]
}

fn on_ingress(rest: &str) -> String {
    format!("{INGRESS}, {rest}")
}

/// `access`.
fn wrong_access() -> Vec<Wrong> {
    vec![
        (
            "access of nobody in particular",
            on_ingress("access: {}"),
            "set allow, deny or both",
        ),
        (
            "an address for a network",
            on_ingress("access: {allow: ['10.0.0.1']}"),
            "should match",
        ),
        (
            "a mask of 33 bits",
            on_ingress("access: {deny: ['10.0.0.0/33']}"),
            "should match",
        ),
        (
            "an octet of 256",
            on_ingress("access: {deny: ['256.0.0.0/8']}"),
            "should match",
        ),
        (
            "a host for a network",
            on_ingress("access: {allow: [a.test]}"),
            "should match",
        ),
    ]
}

/// `rateLimit` and `cors`.
fn wrong_traffic() -> Vec<Wrong> {
    vec![
        (
            "no requests",
            on_ingress("rateLimit: {requests: 0}"),
            "should be greater than or equal to 1",
        ),
        (
            "a limit of nothing",
            on_ingress("rateLimit: {}"),
            "Required value",
        ),
        (
            "a limit for a day",
            on_ingress("rateLimit: {requests: 1, interval: 24h}"),
            "interval must be 1s to 1h",
        ),
        (
            "two keys of a limit",
            on_ingress("rateLimit: {requests: 1, key: {route: {}, consumer: {}}}"),
            "set exactly one of route, clientAddress, header and consumer",
        ),
        (
            "no origin",
            on_ingress("cors: {allowOrigins: []}"),
            "should have at least 1 items",
        ),
        (
            "an origin with a path",
            on_ingress("cors: {allowOrigins: ['https://a.test/']}"),
            "should match",
        ),
        (
            "everybody's pages with credentials",
            on_ingress("cors: {allowOrigins: ['*'], allowCredentials: true}"),
            "name the origins",
        ),
        (
            "all headers with credentials",
            on_ingress(
                "cors: {allowOrigins: ['https://a.test'], exposeHeaders: ['*'], allowCredentials: true}",
            ),
            "name the headers",
        ),
        (
            "all methods and one",
            on_ingress("cors: {allowOrigins: ['*'], allowMethods: ['*', GET]}"),
            "remove the others",
        ),
    ]
}

pub(crate) async fn wrong_policies_are_refused_with_understandable_messages(
    stage: &Stage,
) -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    let wrong = [
        wrong_targets(),
        wrong_active_checks(),
        wrong_http_checks(),
        wrong_passive_checks(),
        wrong_load_balancers(),
        wrong_peers(),
        wrong_requests(),
        wrong_auth(),
        wrong_methods(),
        wrong_tokens(),
        wrong_access(),
        wrong_traffic(),
    ];
    for (what, spec, message) in wrong.into_iter().flatten() {
        let printed = stage
            .world
            .cluster
            .try_apply(&stage.namespace, &policy("wrong", &spec))
            .await?;
        if printed.success {
            complaints.push(format!("{what} was accepted"));
            stage
                .kubectl(&["delete", "upstreampolicy", "wrong"])
                .await?;
        } else if !printed.err.contains(message) {
            complaints.push(format!(
                "{what}: {message:?} is not said in {}",
                printed.err.trim()
            ));
        }
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

/// A spec with every method of `auth`.
fn protected() -> String {
    format!(
        "{INGRESS}, auth: {{anyOf: [{{basic: {{secretRef: {{name: a}}, format: AuthMap, realm: A b}}}}, \
         {{jwt: {{issuer: 'https://a.test', audiences: [a], jwks: {{uri: 'https://a.test/keys?a=b', caCertificateRefs: [{{kind: ConfigMap, name: ca}}], \
         refreshInterval: 10s}}, algorithms: [EdDSA, PS512], requiredClaims: [{{name: a.b, values: [c]}}], requiredScopes: [d], \
         claimsToHeaders: [{{claim: email, header: X-User}}], consumerClaim: email, clockSkew: 0s}}}}, \
         {{jwt: {{issuer: a, jwks: {{secretRef: {{name: a}}}}, algorithms: [HS256]}}}}, \
         {{accessKey: {{profile: HTTPSignature, secretSelector: {{matchLabels: {{app.kubernetes.io/name: a, b: ''}}}}, clockSkew: 1s, \
         signedBody: Optional, replayWindow: 1h}}}}, \
         {{apiKey: {{header: X-API-Key, secretRef: {{name: a}}}}}}, {{apiKey: {{query: key, secretRef: {{name: a}}}}}}, \
         {{apiKey: {{cookie: api_key, secretRef: {{name: a}}}}}}, \
         {{external: {{service: {{name: a, port: http}}, path: '/auth?a=b', timeout: 30s, requestHeaders: [X-Tenant], \
         responseHeaders: [Authorization, X-Forwarded-User], signIn: 'https://a.test/start', failOpen: true}}}}], \
         exemptPaths: [{{path: /healthz}}, {{type: Prefix, path: /.well-known/acme-challenge/}}], forwardCredential: true}}"
    )
}

/// A spec with everything about peers, and timeouts and retries.
fn everything() -> String {
    format!(
        "{SERVICE}, healthCheck: {{readiness: Ignore, terminating: Never, panicThreshold: 50, active: {{\
         http: {{method: HEAD, path: '/a?b=c', host: a.test, headers: [{{name: X-A, value: b}}], \
         expectedStatuses: ['200', '300-399'], expectedBody: {{regex: 'o.'}}}}, port: admin, interval: 1m30s, \
         timeout: 500ms, jitterPercent: 0, unhealthyThreshold: 1, healthyThreshold: 1, initial: Healthy}}, \
         passive: {{consecutiveErrors: 0, consecutive5xx: 3, errorPercent: {{threshold: 100, minRequests: 1, window: 1m}}, \
         baseEjection: 1s, maxEjection: 1s, maxEjectedPercent: 0}}}}, \
         loadBalancer: {{type: RoundRobin, slowStart: {{window: 1h}}}}, \
         sessionPersistence: {{type: Cookie, sessionName: HALE_1.a-b, absoluteTimeout: 9600h}}, \
         circuitBreaker: {{maxConnections: 1000000, maxParallelRequests: 1, \
         perPeer: {{maxConnections: 1, maxParallelRequests: 1}}, queue: {{max: 0, timeout: 1m}}}}, retry: {{attempts: 0, codes: [502], \
         grpcCodes: [UNAVAILABLE, RESOURCE_EXHAUSTED], failures: [Reset], backoff: 0s, \
         perTryTimeout: 1s, nonIdempotent: WithIdempotencyKey, samePeer: Never, \
         budget: {{percent: 10, interval: 5s, minRetries: 0}}}}, \
         timeouts: {{connect: 500ms, request: 10s, backendRequest: 5s, idle: 0s}}, \
         tls: {{hostname: a.test, caCertificateRefs: [{{kind: ConfigMap, name: ca}}], clientCertificateRef: {{name: own}}}}"
    )
}

pub(crate) async fn right_policies_are_accepted(stage: &Stage) -> anyhow::Result<()> {
    for (name, spec) in [
        ("everything", everything().as_str()),
        ("nothing", SERVICE),
        ("protected", &protected()),
        (
            "limits",
            &format!(
                "{INGRESS}, access: {{allow: ['10.0.0.0/8', '2001:db8::/32', '::/0'], deny: ['192.0.2.7/32']}}, \
                 rateLimit: {{requests: 1000000, interval: 1h, burst: 0, key: {{header: X-Tenant}}}}, \
                 cors: {{allowOrigins: ['https://*.example.com', 'http://localhost:3000', 'https://[::1]'], allowMethods: ['*'], \
                 allowHeaders: ['*'], exposeHeaders: [X-Total], maxAge: 24h, allowCredentials: true}}"
            ),
        ),
        (
            "on-ingress",
            &format!("{INGRESS}, retry: {{}}, timeouts: {{request: 1s}}"),
        ),
        (
            "grpc",
            &format!("{SERVICE}, healthCheck: {{active: {{grpc: {{}}}}}}"),
        ),
        (
            "grpc-service",
            &format!("{SERVICE}, healthCheck: {{active: {{grpc: {{service: shop.v1.Cart}}}}}}"),
        ),
        (
            "ewma",
            &format!("{SERVICE}, loadBalancer: {{type: PeakEwma, slowStart: {{}}}}"),
        ),
        ("session", &format!("{SERVICE}, sessionPersistence: {{}}")),
        ("hash-header", &hash("header: X-User")),
        ("hash-cookie", &hash("cookie: session_id")),
        ("hash-source", &hash("sourceIP: {}")),
        ("hash-uri", &hash("uri: {}")),
        (
            "passive",
            &format!("{SERVICE}, healthCheck: {{passive: {{errorPercent: {{}}}}}}"),
        ),
        (
            "passive-long",
            &format!("{SERVICE}, healthCheck: {{passive: {{baseEjection: 10m}}}}"),
        ),
        (
            "tcp",
            &format!(
                "{SERVICE}, healthCheck: {{active: {{tcp: {{send: PING, receive: PONG}}, interval: 100ms}}}}"
            ),
        ),
    ] {
        stage
            .apply(&policy(name, spec))
            .await
            .with_context(|| name.to_owned())?;
    }
    Ok(())
}
