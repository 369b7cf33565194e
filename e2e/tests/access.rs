//! Who is let in: what a user of the cluster declares, rotates, breaks and mends.

use crate::origin::{Origin, ingress};
use crate::stage::{HALE_NAMESPACE, SOON, Stage};
use anyhow::{Context as _, ensure};
use hale_e2e::client::Ask;
use hale_e2e::wait::until;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::process::Command;

/// What `htpasswd -nbBC 5 ann 'correct horse'` printed.
const USERS: &str = "ann:$2y$05$5EAc1LJN8tPIsOrSkPAzGehXl1ZzzgHd6H1cqnS1xwjnN3TuZdz0O";
/// `ann:correct horse`, and with another password.
const RIGHT: &str = "Basic YW5uOmNvcnJlY3QgaG9yc2U=";
const WRONG: &str = "Basic YW5uOndyb25nIGhvcnNl";

/// A key that signed [`TOKEN`], and was thrown away.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"shop-1","x":"qo_x_xwx0PpcDBMH0VAsZ8a1z0ZuxmMMwIAsUh1yjGA","y":"uJJtGro_wOdmvZ6PaP8loFjPRIgKp15K5ox4AAbLmRU"}]}"#;
/// Of `https://id.example`, for `shop`, subject `ann`, valid until 2100.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InNob3AtMSJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJzaG9wIiwic3ViIjoiYW5uIiwiaWF0IjoxNzYzODU2MDAwLCJleHAiOjQxMDI0NDQ4MDB9.IPQXsE9l7R6o03QhCV7dLOtvSnkQKGtg8o2-0M9zOCLwr0qaOZvqhkfc8hK7PhpW5-fuV3RPSD0CIBeUydt9Tw";

/// A policy for an Ingress of the same name.
fn policy(name: &str, sections: &str) -> String {
    format!(
        "\n---\napiVersion: hale-ingress.io/v1alpha1\nkind: UpstreamPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         targetRefs: [{{group: networking.k8s.io, kind: Ingress, name: {name}}}]\n  {sections}\n"
    )
}

fn secret(name: &str, labels: &str, entries: &[(&str, &str)]) -> String {
    let data: serde_json::Map<_, _> = entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    let data = serde_json::Value::Object(data);
    format!(
        "\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, labels: {{{labels}}}}}\nstringData: {data}\n"
    )
}

fn access_key(name: &str, id: &str, key: &str) -> String {
    let entries = [
        ("accessKeyId", id),
        ("secretAccessKey", key),
        ("consumer", "robot"),
    ];
    secret(name, "keys: robots", &entries)
}

/// An Ingress and its policy, on a host of that label.
async fn protect(stage: &Stage, name: &str, sections: &str) -> anyhow::Result<String> {
    let host = stage.host(name);
    stage.apply(&policy(name, sections)).await?;
    stage.apply(&ingress(name, &host, "checkout")).await?;
    Ok(host)
}

/// Waits until every replica gives a request this status and reason.
async fn answers(stage: &Stage, ask: &Ask, status: u16, reason: &str) -> anyhow::Result<()> {
    stage
        .every_hale(&format!("{status} {reason}"), ask, |answer| {
            let answer = answer.want(status)?;
            let told = answer.header("x-hale-reason");
            ensure!(told == reason, "{}", answer.summary());
            Ok(())
        })
        .await
}

/// Waits until every replica lets a request through, as this consumer, without its credential.
async fn lets_in(stage: &Stage, ask: &Ask, method: &str, consumer: &str) -> anyhow::Result<()> {
    stage
        .every_hale(&format!("{method} to let {consumer} in"), ask, |answer| {
            let seen = answer.want(200)?.json()?["headers"].to_string();
            let told = |name: &str, value: &str| seen.contains(&format!(r#"["{name}","{value}"]"#));
            ensure!(
                told("x-hale-auth", method) && told("x-hale-consumer", consumer),
                "{seen}"
            );
            ensure!(
                !["\"authorization\"", "\"x-api-key\""]
                    .iter()
                    .any(|name| seen.contains(name)),
                "the credential went on: {seen}"
            );
            Ok(())
        })
        .await
}

/// The status that curl is answered with, which signs the request itself.
async fn curl(server: SocketAddr, host: &str, user: &str) -> anyhow::Result<String> {
    let printed = Command::new("curl")
        .args([
            "-sS",
            "--max-time",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ])
        .args([
            "--aws-sigv4",
            "aws:amz:eu-central-1:execute-api",
            "--user",
            user,
        ])
        .args(["--connect-to", &format!("{host}:80:{server}")])
        .arg(format!("http://{host}/orders?a=1&b=2"))
        .kill_on_drop(true)
        .output()
        .await
        .context("running curl")?;
    let status = String::from_utf8_lossy(&printed.stdout).into_owned();
    let errors = String::from_utf8_lossy(&printed.stderr);
    ensure!(printed.status.success(), "curl: {status} {errors}");
    Ok(status)
}

/// Waits until every replica gives curl this status.
async fn curl_gets(stage: &Stage, host: &str, user: &str, wanted: &str) -> anyhow::Result<()> {
    until(&format!("curl to get {wanted}"), SOON, || async {
        for (pod, ip) in stage.world.hale_pods().await? {
            let status = curl((ip, 8080).into(), host, user).await?;
            ensure!(status == wanted, "{pod} answers {status}, wanted {wanted}");
        }
        Ok(())
    })
    .await
}

pub(crate) async fn each_method_lets_its_own_credentials_in(stage: &Stage) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 1);
    stage
        .apply(&secret("users", "", &[("auth", USERS)]))
        .await?;
    stage
        .apply(&secret("partners", "", &[("acme", "k-4711-acme")]))
        .await?;
    stage
        .apply(&access_key("robot-1", "AKROBOT1", "first secret"))
        .await?;
    let jwks = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuer"}, "data": {"jwks.json": JWKS},
    });
    stage.apply(&jwks.to_string()).await?;
    let basic = protect(
        stage,
        "members",
        "auth: {anyOf: [{basic: {secretRef: {name: users}, realm: Members}}], \
         exemptPaths: [{type: Exact, path: /health}]}",
    )
    .await?;
    let keyed = protect(
        stage,
        "partners",
        "auth: {anyOf: [{apiKey: {header: X-Api-Key, secretRef: {name: partners}}}]}",
    )
    .await?;
    let tokens = protect(
        stage,
        "tokens",
        "auth: {anyOf: [{jwt: {issuer: 'https://id.example', audiences: [shop], algorithms: [ES256], \
         jwks: {configMapRef: {name: issuer}}}}]}",
    )
    .await?;
    let signed = protect(
        stage,
        "robots",
        "auth: {anyOf: [{accessKey: {profile: AWS4, secretSelector: {matchLabels: {keys: robots}}}}]}",
    )
    .await?;
    stage.start(&[&origin]).await?;
    for name in ["members", "partners", "tokens", "robots"] {
        stage.condition(name, "Accepted", "True", SOON).await?;
    }

    of_headers(stage, &basic, &keyed).await?;
    let bearer =
        |token: &str| Ask::get(&tokens, "/").header("authorization", &format!("Bearer {token}"));
    lets_in(stage, &bearer(TOKEN), "jwt", "ann").await?;
    let (unsigned, _) = TOKEN.rsplit_once('.').unwrap_or_default();
    for token in [
        &TOKEN.replace("9.eyJpc", "9.eyJqc"),
        &format!("{unsigned}."),
        "x",
    ] {
        answers(stage, &bearer(token), 401, "AuthRequired").await?;
    }
    curl_gets(stage, &signed, "AKROBOT1:first secret", "200").await?;
    curl_gets(stage, &signed, "AKROBOT1:another secret", "401").await?;
    curl_gets(stage, &signed, "AKROBOT9:first secret", "401").await?;
    stage.get(&basic, "/health").await?.want(200)?;
    stage.get(&basic, "/health/../orders").await?.want(401)?;
    why_names(stage, &keyed, "partners").await
}

/// Passwords and API keys open their own host, and no other.
async fn of_headers(stage: &Stage, basic: &str, keyed: &str) -> anyhow::Result<()> {
    let credentials = [
        (basic, "authorization", RIGHT, WRONG, "basic", "ann"),
        (
            keyed,
            "x-api-key",
            "k-4711-acme",
            "k-4711-acm",
            "apiKey",
            "acme",
        ),
    ];
    for (host, header, right, wrong, method, consumer) in credentials {
        let ask = Ask::get(host, "/orders");
        lets_in(stage, &ask.clone().header(header, right), method, consumer).await?;
        answers(
            stage,
            &ask.clone().header(header, wrong),
            401,
            "AuthRequired",
        )
        .await?;
        answers(stage, &ask, 401, "AuthRequired").await?;
        // Who is let in here is a stranger there.
        let elsewhere = if host == basic { keyed } else { basic };
        let stranger = Ask::get(elsewhere, "/orders").header(header, right);
        answers(stage, &stranger, 401, "AuthRequired").await?;
        let forged = ask
            .header("x-hale-consumer", consumer)
            .header("x-hale-auth", method);
        answers(stage, &forged, 401, "AuthRequired").await?;
    }
    Ok(())
}

/// `hale why`, asked in a pod of Hale, names the policy that decides.
async fn why_names(stage: &Stage, host: &str, policy: &str) -> anyhow::Result<()> {
    let (pod, _) = stage.world.hale_pods().await?.pop().context("no Hale")?;
    let url = format!("http://{host}/orders");
    let command = [
        "-n",
        HALE_NAMESPACE,
        "exec",
        &pod,
        "--",
        "hale",
        "why",
        &url,
    ];
    until("hale why to name the policy", SOON, || async {
        // What is refused ends `hale why` with a status of its own; what it prints is what counts.
        let printed = stage.world.cluster.kubectl_with(&command, "").await?;
        let wanted = format!("{}/{policy}", stage.namespace);
        ensure!(
            printed.out.contains(&wanted),
            "{}{}",
            printed.out,
            printed.err
        );
        Ok(())
    })
    .await
}

/// Signed requests, one after another, until they are told to stop.
struct Robot {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Robot {
    fn start(server: SocketAddr, host: &str, user: &'static str) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (host, ends, count) = (host.to_owned(), stop.clone(), sent.clone());
        let task = tokio::spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                let status = curl(server, &host, user).await?;
                ensure!(status == "200", "{user} got {status}");
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { stop, sent, task }
    }

    async fn has_sent(&self, more: usize) -> anyhow::Result<()> {
        let wanted = self.sent.load(Ordering::Relaxed) + more;
        until("more requests", SOON, || async {
            ensure!(self.task.is_finished() || self.sent.load(Ordering::Relaxed) >= wanted);
            Ok(())
        })
        .await
    }

    async fn none_failed(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

pub(crate) async fn an_access_key_is_rotated_without_a_failed_request(
    stage: &Stage,
) -> anyhow::Result<()> {
    const OLD: &str = "AKOLD:old secret";
    const NEW: &str = "AKNEW:new secret";
    let origin = Origin::new("checkout", 1);
    stage
        .apply(&access_key("robot-old", "AKOLD", "old secret"))
        .await?;
    let host = protect(
        stage,
        "robots",
        "auth: {anyOf: [{accessKey: {profile: AWS4, secretSelector: {matchLabels: {keys: robots}}}}]}",
    )
    .await?;
    stage.start(&[&origin]).await?;
    curl_gets(stage, &host, OLD, "200").await?;
    curl_gets(stage, &host, NEW, "401").await?;
    let server = stage.world.hale(80).await?;
    let old = Robot::start(server, &host, OLD);
    old.has_sent(5).await?;
    // Two keys at a time.
    stage
        .apply(&access_key("robot-new", "AKNEW", "new secret"))
        .await?;
    curl_gets(stage, &host, NEW, "200").await?;
    let new = Robot::start(server, &host, NEW);
    old.has_sent(5).await?;
    old.none_failed().await?;
    stage.kubectl(&["delete", "secret", "robot-old"]).await?;
    curl_gets(stage, &host, OLD, "401").await?;
    new.has_sent(5).await?;
    new.none_failed().await
}

pub(crate) async fn a_broken_secret_denies_on_its_route_alone_and_is_named(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 1);
    let good = secret("users", "", &[("auth", USERS)]);
    stage.apply(&good).await?;
    stage
        .apply(&secret("partners", "", &[("acme", "k-4711-acme")]))
        .await?;
    let basic = protect(
        stage,
        "members",
        "auth: {anyOf: [{basic: {secretRef: {name: users}}}]}",
    )
    .await?;
    let keyed = protect(
        stage,
        "partners",
        "auth: {anyOf: [{apiKey: {header: X-Api-Key, secretRef: {name: partners}}}]}",
    )
    .await?;
    let open = stage.host("open");
    stage.apply(&ingress("open", &open, "checkout")).await?;
    stage.start(&[&origin]).await?;
    let member = Ask::get(&basic, "/").header("authorization", RIGHT);
    let partner = Ask::get(&keyed, "/").header("x-api-key", "k-4711-acme");
    lets_in(stage, &member, "basic", "ann").await?;
    lets_in(stage, &partner, "apiKey", "acme").await?;

    let plain = secret("users", "", &[("auth", "ann:correct horse")]);
    let empty = secret("users", "", &[("auth", "")]);
    let other = secret("users", "", &[("tls.crt", "x"), ("tls.key", "y")]);
    for (what, broken) in [
        ("deleted", None),
        ("with a password in clear", Some(plain)),
        ("emptied", Some(empty)),
        ("with other keys", Some(other)),
    ] {
        stage
            .kubectl(&["delete", "secret", "users", "--ignore-not-found"])
            .await?;
        if let Some(broken) = broken {
            stage.apply(&broken).await?;
        }
        answers(stage, &member, 503, "AuthUnavailable")
            .await
            .context(what)?;
        answers(stage, &Ask::get(&basic, "/"), 503, "AuthUnavailable")
            .await
            .context(what)?;
        lets_in(stage, &partner, "apiKey", "acme")
            .await
            .context(what)?;
        stage.serves(&open, "/", &origin).await.context(what)?;
        until("kubectl describe to name the Secret", SOON, || async {
            let text = stage.kubectl(&["describe", "upol", "members"]).await?;
            ensure!(text.contains("users") && text.contains("Secret"), "{text}");
            ensure!(
                !text.contains("correct horse") && !text.contains("$2y$"),
                "{text}"
            );
            Ok(())
        })
        .await
        .context(what)?;
    }
    stage
        .kubectl(&["delete", "secret", "users", "--ignore-not-found"])
        .await?;
    stage.apply(&good).await?;
    lets_in(stage, &member, "basic", "ann").await
}

pub(crate) async fn another_service_decides_and_limits_are_kept(
    stage: &Stage,
) -> anyhow::Result<()> {
    let (origin, gate) = (Origin::new("checkout", 1), Origin::new("gate", 1));
    let asked = protect(
        stage,
        "asked",
        "auth: {anyOf: [{external: {service: {name: gate, port: 80}, path: /check}}]}",
    )
    .await?;
    let limited = protect(
        stage,
        "limited",
        "rateLimit: {requests: 2, interval: 1h, key: {header: X-Tenant}}",
    )
    .await?;
    let near = protect(stage, "near", "access: {deny: [0.0.0.0/0]}").await?;
    stage.start(&[&origin, &gate]).await?;
    stage.serves(&asked, "/", &origin).await?;
    let doorman = gate.pods(stage).await?.pop().context("no gate")?;
    let ask = Ask::get(&asked, "/orders");
    for (word, status, reason) in [("403", 403, "AuthDenied"), ("500", 503, "AuthUnavailable")] {
        doorman.set(&format!("traffic={word}")).await?;
        stage
            .every_hale(&format!("the gate's {word}"), &ask, |answer| {
                let answer = answer.want(status)?;
                let told = answer.header("x-hale-reason");
                ensure!(told.is_empty() || told == reason, "{}", answer.summary());
                Ok(())
            })
            .await?;
    }
    doorman.set("traffic=200").await?;
    stage.serves(&asked, "/", &origin).await?;
    answers(stage, &Ask::get(&near, "/"), 403, "AddressDenied").await?;

    // Each of the two replicas has one of the two requests.
    for (pod, ip) in stage.world.hale_pods().await? {
        let ask = Ask::get(&limited, "/").header("x-tenant", &pod);
        let mut refused = None;
        for _ in 0..3 {
            let answer = ask.send(SocketAddr::new(ip, 8080)).await?;
            if answer.status == 429 {
                refused = Some(answer);
            }
        }
        let refused = refused.with_context(|| format!("{pod} takes three requests"))?;
        let wait: u64 = refused
            .header("retry-after")
            .parse()
            .context("no Retry-After")?;
        ensure!((1..=3600).contains(&wait), "Retry-After: {wait}");
        let other = Ask::get(&limited, "/").header("x-tenant", &format!("{pod}-other"));
        other.send(SocketAddr::new(ip, 8080)).await?.want(200)?;
    }
    Ok(())
}
