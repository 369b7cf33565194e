//! The annotations that are told, by what they ask for. What only details another one (a realm, the name of a cookie) is
//! left out: the one that it details is told.

/// What an annotation would guard requests with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Something that `auth` does.
    Auth,
    /// Something that `access` does.
    Access,
    /// Something that `rateLimit` does.
    RateLimit,
    /// Something that no section does, or nobody knows what.
    Other,
    /// Nothing: it changes how requests are served.
    None,
}

/// Annotations that ask for the same.
pub(super) struct Group {
    pub(super) guard: Guard,
    /// What says the same here.
    pub(super) instead: &'static str,
    pub(super) prefixes: &'static [&'static str],
    pub(super) names: &'static [&'static str],
    /// Values, or parts of a list, with which they ask for nothing, in lower case.
    pub(super) neutral: &'static [&'static str],
}

const NGINX: &str = "nginx.ingress.kubernetes.io";
const F5: &str = "nginx.org";
const F5_PLUS: &str = "nginx.com";
/// Of several controllers, before each had its own.
const OLD: &str = "ingress.kubernetes.io";
const HAPROXY: &str = "haproxy.org";
const HAPROXY_COM: &str = "haproxy.com";
const HAPROXY_INGRESS: &str = "haproxy-ingress.github.io";
const TRAEFIK: &str = "traefik.ingress.kubernetes.io";
const KONG: &str = "konghq.com";
const CONTOUR: &str = "projectcontour.io";
const ALB: &str = "alb.ingress.kubernetes.io";
const APISIX: &str = "k8s.apisix.apache.org";

/// Those with the names of ingress-nginx.
const ALIKE: &[&str] = &[NGINX, OLD, HAPROXY_INGRESS];
const HAPROXIES: &[&str] = &[HAPROXY, HAPROXY_COM, OLD, HAPROXY_INGRESS];
/// All that have one of the names of a group.
const ANY: &[&str] = &[
    NGINX,
    OLD,
    HAPROXY_INGRESS,
    HAPROXY,
    HAPROXY_COM,
    TRAEFIK,
    ALB,
    APISIX,
];

const NO_COUNTERPART: &str = "Hale has nothing like it";
const OFF: &[&str] = &["false", "off", "no", "none"];

const fn group(
    guard: Guard,
    instead: &'static str,
    prefixes: &'static [&'static str],
    names: &'static [&'static str],
    neutral: &'static [&'static str],
) -> Group {
    Group {
        guard,
        instead,
        prefixes,
        names,
        neutral,
    }
}

/// Those that guard first: findings name only so many.
#[rustfmt::skip]
pub(super) const KNOWN: &[Group] = &[
    group(Guard::Auth, "UpstreamPolicy: auth.anyOf[].basic", ANY, &["auth-type", "auth-secret"], OFF),
    group(Guard::Auth, "UpstreamPolicy: auth.anyOf[].basic", &[F5], &["basic-auth-secret"], &[]),
    group(Guard::Auth, "UpstreamPolicy: auth.anyOf[].jwt", &[F5_PLUS], &["jwt-key"], &[]),
    group(Guard::Auth, "UpstreamPolicy: auth.anyOf[].external", ALIKE, &["auth-url", "enable-global-auth", "oauth"], OFF),
    group(Guard::Auth, "UpstreamPolicy: auth and access, and both are asked", ALIKE, &["satisfy"], &["all"]),
    group(Guard::Access, "UpstreamPolicy: access.allow", ANY,
        &["whitelist-source-range", "allowlist-source-range", "whitelist", "allow-list", "inbound-cidrs"],
        &["0.0.0.0/0"]),
    group(Guard::Access, "UpstreamPolicy: access.deny", ANY,
        &["denylist-source-range", "blocklist-source-range", "blacklist", "deny-list"], &[]),
    group(Guard::Other, NO_COUNTERPART, &[NGINX, OLD, HAPROXY_INGRESS, ALB],
        &["auth-tls-secret", "auth-tls-verify-client", "auth-tls-match-cn", "mutual-authentication"], OFF),
    group(Guard::RateLimit, "UpstreamPolicy: rateLimit", ANY,
        &["limit-rps", "limit-rpm", "global-rate-limit", "rate-limit-requests", "rate-limit"], &["0"]),
    group(Guard::RateLimit, "UpstreamPolicy: rateLimit", &[F5], &["limit-req-rate"], &[]),
    group(Guard::RateLimit, "UpstreamPolicy: rateLimit, which counts requests", ALIKE, &["limit-connections"], &["0"]),
    group(Guard::Other, "UpstreamPolicy: auth, access, rateLimit, cors", &[TRAEFIK], &["router.middlewares"], &[]),
    group(Guard::Other, "UpstreamPolicy: auth, access, rateLimit, cors", &[KONG], &["plugins"], &[]),
    group(Guard::Other, "UpstreamPolicy: auth, access, rateLimit, cors", &[APISIX], &["plugin-config-name"], &[]),
    group(Guard::Other, "UpstreamPolicy: auth, access, rateLimit", &[F5], &["policies"], &[]),
    group(Guard::Other, NO_COUNTERPART, &[NGINX, OLD, HAPROXY_INGRESS],
        &["enable-modsecurity", "modsecurity-snippet", "enable-owasp-core-rules", "enable-owasp-modsecurity-crs", "waf"],
        OFF),
    group(Guard::Other, NO_COUNTERPART, &["appprotect.f5.com"], &["app-protect-enable"], OFF),
    group(Guard::Other, NO_COUNTERPART, &[ALB], &["wafv2-acl-arn", "waf-acl-id"], OFF),
    group(Guard::Other, NO_COUNTERPART, &[TRAEFIK], &["router.tls.options"], &[]),
    group(Guard::None, "it may protect something: Hale has nothing like it", &[NGINX, OLD, HAPROXY, HAPROXY_COM, HAPROXY_INGRESS, F5],
        &["server-snippet", "configuration-snippet", "stream-snippet", "backend-config-snippet", "config-backend",
          "server-snippets", "location-snippets"], &[]),
    group(Guard::None, "appProtocol of the Service port", &[NGINX, OLD, HAPROXY_INGRESS, HAPROXY, HAPROXY_COM, ALB],
        &["backend-protocol", "secure-backends", "server-ssl", "server-proto"], &["http", "h1", "auto_http", "false"]),
    group(Guard::None, "appProtocol of the Service port", &[F5], &["ssl-services", "grpc-services"], &[]),
    group(Guard::None, "UpstreamPolicy: tls", &[NGINX, HAPROXY, HAPROXY_COM, HAPROXY_INGRESS],
        &["proxy-ssl-secret", "proxy-ssl-verify", "proxy-ssl-name", "server-ca", "server-crt", "secure-verify-ca-secret",
          "secure-crt-secret"], &["off"]),
    group(Guard::None, "UpstreamPolicy: timeouts", &[NGINX, F5, HAPROXY, HAPROXY_COM, HAPROXY_INGRESS],
        &["proxy-connect-timeout", "proxy-read-timeout", "proxy-send-timeout", "timeout-server", "timeout-connect",
          "timeout-tunnel"], &[]),
    group(Guard::None, "UpstreamPolicy: timeouts", &[KONG], &["connect-timeout", "read-timeout", "write-timeout"], &[]),
    group(Guard::None, "UpstreamPolicy: timeouts", &[CONTOUR], &["response-timeout"], &[]),
    group(Guard::None, "UpstreamPolicy: retry", &[NGINX], 
        &["proxy-next-upstream", "proxy-next-upstream-tries", "proxy-next-upstream-timeout"], &[]),
    group(Guard::None, "UpstreamPolicy: retry", &[CONTOUR], &["retry-on", "num-retries", "per-try-timeout"], &[]),
    group(Guard::None, "UpstreamPolicy: loadBalancer", &[NGINX, HAPROXY, HAPROXY_COM, HAPROXY_INGRESS],
        &["load-balance", "upstream-hash-by", "balance-algorithm"], &[]),
    group(Guard::None, "UpstreamPolicy: sessionPersistence", ALIKE, &["affinity"], &[]),
    group(Guard::None, "UpstreamPolicy: sessionPersistence", &[TRAEFIK], &["service.sticky.cookie", "affinity"], OFF),
    group(Guard::None, "UpstreamPolicy: circuitBreaker", HAPROXIES, &["pod-maxconn", "maxconn-server"], &[]),
    group(Guard::None, "UpstreamPolicy: cors", &[NGINX, OLD, HAPROXY, HAPROXY_COM, HAPROXY_INGRESS, APISIX],
        &["enable-cors", "cors-enable"], OFF),
    group(Guard::None, "flag --ssl-redirect", &[NGINX, OLD, HAPROXY, HAPROXY_COM, HAPROXY_INGRESS], &["ssl-redirect"], &["true"]),
    group(Guard::None, "flag --ssl-redirect, for hosts with tls", &[NGINX, OLD], &["force-ssl-redirect"], OFF),
    group(Guard::None, "TLS 1.2 and 1.3 are served", &[CONTOUR], &["tls-minimum-protocol-version"], &["1.2"]),
    group(Guard::None, NO_COUNTERPART, &[NGINX, OLD, HAPROXY, HAPROXY_COM, HAPROXY_INGRESS],
        &["rewrite-target", "use-regex", "app-root", "path-rewrite", "path-type", "canary", "ssl-passthrough",
          "proxy-body-size", "server-alias", "server-alias-regex", "from-to-www-redirect", "permanent-redirect",
          "temporal-redirect", "redirect-to", "request-redirect", "upstream-vhost", "set-host", "x-forwarded-prefix",
          "custom-http-errors", "default-backend", "custom-headers", "headers", "request-set-header",
          "response-set-header", "proxy-redirect-from", "proxy-cookie-domain", "proxy-cookie-path", "mirror-target",
          "limit-rate", "ssl-ciphers", "blue-green-deploy", "blue-green-balance"], &["false", "off", "0"]),
    group(Guard::None, NO_COUNTERPART, &[F5], &["rewrites", "client-max-body-size", "mergeable-ingress-type"], &[]),
    group(Guard::None, NO_COUNTERPART, &[TRAEFIK], &["router.entrypoints", "router.priority", "router.pathmatcher"], &[]),
    group(Guard::None, NO_COUNTERPART, &[KONG],
        &["strip-path", "protocols", "methods", "rewrite", "headers", "host-aliases"], &["false"]),
];
