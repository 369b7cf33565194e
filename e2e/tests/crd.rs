//! What the API server says to the CRD, and to policies.

mod access;
mod peers;

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

pub(crate) async fn wrong_policies_are_refused_with_understandable_messages(
    stage: &Stage,
) -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    let wrong = [
        peers::wrong_targets(),
        peers::wrong_active_checks(),
        peers::wrong_http_checks(),
        peers::wrong_passive_checks(),
        peers::wrong_load_balancers(),
        peers::wrong_peers(),
        peers::wrong_requests(),
        access::wrong_auth(),
        access::wrong_methods(),
        access::wrong_tokens(),
        access::wrong_access(),
        access::wrong_traffic(),
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
