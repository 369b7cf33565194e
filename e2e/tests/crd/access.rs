//! What a policy may not say of who is let in, and how often.

use super::{INGRESS, SERVICE, Wrong};

/// An `auth` section with this method.
fn auth(method: &str) -> String {
    format!("{INGRESS}, auth: {{anyOf: [{{{method}}}]}}")
}

const BASIC: &str = "basic: {secretRef: {name: a}}";

/// `auth` as a whole.
pub(super) fn wrong_auth() -> Vec<Wrong> {
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
pub(super) fn wrong_methods() -> Vec<Wrong> {
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
            "another path from who is asked",
            auth("external: {url: 'https://a.test', responseHeaders: [X-Original-URL]}"),
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
pub(super) fn wrong_tokens() -> Vec<Wrong> {
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
pub(super) fn wrong_access() -> Vec<Wrong> {
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
pub(super) fn wrong_traffic() -> Vec<Wrong> {
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
