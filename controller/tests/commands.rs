//! The program as people run it: `hale serve`, `hale demo`, and the commands that ask them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use hale::http_client::{self, Answer};

/// Nothing here takes this long, except on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program, ended with the test.
struct Hale {
    child: Child,
    log: Receiver<String>,
}

impl Drop for Hale {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hale {
    /// Starts a command on ports of the system's choice.
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hale"))
            .args(arguments)
            .args([
                "--http-port=0",
                "--https-port=0",
                "--healthz-port=0",
                "--admin-port=0",
            ])
            .args([
                "--listen-address=127.0.0.1",
                "--log-level=info",
                "--access-log=off",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("hale starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, log) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, log }
    }

    /// The next line of the log that holds `text`.
    fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = String::new();
        while let Ok(line) = self
            .log
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("the log never said {text:?}:\n{seen}");
    }

    /// Addresses from the line that tells them.
    fn listening(&self) -> Addresses {
        let line = self.wait_for("listening");
        let address = |name: &str| {
            let rest = line.split(&format!("{name}=")).nth(1).expect(&line);
            let end = rest.find([' ', ']', ',']).unwrap_or(rest.len());
            rest[..end].trim_start_matches('[').to_owned()
        };
        Addresses {
            http: address("http"),
            healthz: address("healthz"),
            admin: address("admin"),
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let done = Command::new("kill")
            .args([name, &id])
            .status()
            .expect("kill");
        assert!(done.success());
    }
}

struct Addresses {
    http: String,
    healthz: String,
    admin: String,
}

/// Asks until the answer is as wanted.
async fn until(url: &str, host: Option<&str>, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = http_client::get(url, host, Duration::from_secs(5)).await;
        match answer {
            Ok(answer) if wanted(&answer) => return answer,
            other => assert!(Instant::now() < end, "{url}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ask(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_hale");
    Command::new(program)
        .args(arguments)
        .output()
        .expect("hale runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}

const INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: shop, name: web}
spec:
  ingressClassName: hale
  rules:
    - host: shop.example
      http:
        paths:
          - path: PATH
            pathType: Prefix
            backend: {service: {name: none, port: {number: 80}}}
";

fn write(folder: &Path, path: &str) {
    fs::write(folder.join("web.yaml"), INGRESS.replace("PATH", path)).expect("a file");
}

#[tokio::test]
async fn a_folder_is_served_and_followed_and_a_broken_file_changes_nothing() {
    let folder = folder("followed");
    write(&folder, "/a");
    let hale = Hale::start(&["serve", "--manifests", folder.to_str().unwrap()]);
    let at = hale.listening();
    let url = |path: &str| format!("http://{}{path}", at.http);
    let host = Some("shop.example");
    // 503 names the missing Service; 404 is no route at all.
    until(&url("/a"), host, |answer| answer.status == 503).await;
    until(&url("/b"), host, |answer| answer.status == 404).await;

    fs::write(folder.join("broken.yaml"), "kind: [").unwrap();
    let line = hale.wait_for("ManifestsUnreadable");
    assert!(line.contains("broken.yaml, line 1"), "{line}");
    until(&url("/a"), host, |answer| answer.status == 503).await;
    let status = || text(&ask(&["status", "--admin", &at.admin]).stdout);
    let told = status();
    assert!(
        told.contains("ManifestsUnreadable") && told.contains("broken.yaml, line 1"),
        "{told}"
    );

    fs::remove_file(folder.join("broken.yaml")).unwrap();
    write(&folder, "/b");
    hale.wait_for("can be used again");
    until(&url("/b"), host, |answer| answer.status == 503).await;
    until(&url("/a"), host, |answer| answer.status == 404).await;
    let told = status();
    assert!(!told.contains("ManifestsUnreadable"), "{told}");
}

#[tokio::test]
async fn one_file_is_served_as_well() {
    let folder = folder("one-file");
    write(&folder, "/a");
    let file = folder.join("web.yaml");
    let hale = Hale::start(&["serve", "--manifests", file.to_str().unwrap()]);
    let at = hale.listening();
    let url = format!("http://{}/a", at.http);
    until(&url, Some("shop.example"), |answer| answer.status == 503).await;
}

#[tokio::test]
async fn why_names_the_ingress_that_is_not_served() {
    let folder = folder("not-served");
    let lost = INGRESS
        .replace("PATH", "/a")
        .replace("name: web", "name: lost")
        .replace("ingressClassName: hale", "ingressClassName: hail")
        .replace("shop.example", "lost.example");
    fs::write(folder.join("lost.yaml"), lost).unwrap();
    write(&folder, "/a");
    let hale = Hale::start(&["serve", "--manifests", folder.to_str().unwrap()]);
    let at = hale.listening();
    let url = format!("http://{}/a", at.http);
    until(&url, Some("shop.example"), |answer| answer.status == 503).await;

    let output = ask(&["why", "http://lost.example/a", "--admin", &at.admin]);
    assert_eq!(output.status.code(), Some(2));
    let why = text(&output.stdout);
    for wanted in [
        "would be refused: NoRoute",
        "Nearest rules\n  shop.example",
        "Ingress shop/lost IngressNotOurs: there is no IngressClass hail",
    ] {
        assert!(why.contains(wanted), "{wanted} is not in\n{why}");
    }
    let url = "http://shop.example/a";
    let output = ask(&["why", url, "--admin", &at.admin, "-o", "json"]);
    let why: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(why["reason"], "ServiceNotFound");
    assert_eq!(why["findings"][0]["object"], "Ingress shop/web");
    assert_eq!(why["findings"][0]["reason"], "ServiceNotFound");
}

const GUARDED: &str = r#"
apiVersion: hale-ingress.io/v1alpha1
kind: UpstreamPolicy
metadata: {namespace: shop, name: partners}
spec:
  targetRefs: [{group: networking.k8s.io, kind: Ingress, name: web}]
  auth:
    anyOf:
      - apiKey: {header: X-Api-Key, secretRef: {name: partners}}
---
apiVersion: v1
kind: Secret
metadata: {namespace: shop, name: partners}
stringData: {acme: s3cret-of-acme}
"#;

#[tokio::test]
async fn why_says_what_is_wrong_with_a_credential_and_prints_none() {
    let folder = folder("guarded");
    write(&folder, "/a");
    fs::write(folder.join("policy.yaml"), GUARDED).unwrap();
    let hale = Hale::start(&["serve", "--manifests", folder.to_str().unwrap()]);
    let at = hale.listening();
    let url = format!("http://{}/a", at.http);
    until(&url, Some("shop.example"), |answer| answer.status == 401).await;

    let why = |header: &str| {
        let url = "http://shop.example/a?token=s3cret";
        let output = ask(&["why", url, "-H", header, "--admin", &at.admin]);
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!told.contains("s3cret"), "{told}");
        told
    };
    let wrong = why("X-Api-Key: s3cret-of-nobody");
    for wanted in [
        "http://shop.example/a?… would be refused: AuthRequired\n  no consumer of the Secret has this key\n",
        "auth      UpstreamPolicy shop/partners\n            apiKey: an API key in the header x-api-key",
        "tried     apiKey UnknownConsumer\n",
    ] {
        assert!(wrong.contains(wanted), "{wanted} is not in\n{wrong}");
    }
    let right = why("X-Api-Key: s3cret-of-acme");
    let wanted = "tried     apiKey Allowed as \"acme\"";
    assert!(right.contains(wanted), "{right}");
    let userinfo = ask(&[
        "why",
        "http://ann:s3cret@shop.example/a",
        "--admin",
        &at.admin,
    ]);
    let message = text(&userinfo.stderr);
    assert!(message.contains("-u USER:PASSWORD") && !message.contains("s3cret"));
    let url_of = "http://shop.example/a";
    let user = ask(&["why", url_of, "-u", "ann:s3cret", "--admin", &at.admin]);
    let told = text(&user.stdout);
    assert!(told.contains("tried") && !told.contains("s3cret"), "{told}");
    let message = why("s3cret");
    assert!(message.contains("header 1 is not written as"), "{message}");
    let message = why("X-Api-Key: s3cret\u{7f}");
    assert!(message.contains("header 1 has a byte"), "{message}");

    let lost = GUARDED.split("---").next().unwrap();
    fs::write(folder.join("policy.yaml"), lost).unwrap();
    until(&url, Some("shop.example"), |answer| answer.status == 503).await;
    let status = text(&ask(&["status", "--admin", &at.admin]).stdout);
    let wanted = "UpstreamPolicy shop/partners AuthUnavailable: nobody is let in: apiKey: ";
    assert!(status.contains(wanted), "{status}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_at_the_start_is_an_error() {
    let output = ask(&[
        "serve",
        "--manifests",
        "/nowhere",
        "--http-port=0",
        "--healthz-port=0",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("cannot read /nowhere"), "{message}");
}

#[tokio::test]
async fn sigterm_fails_readiness_first_and_exits_with_0() {
    let folder = folder("sigterm");
    write(&folder, "/a");
    let mut hale = Hale::start(&[
        "serve",
        "--manifests",
        folder.to_str().unwrap(),
        // Longer than the test: a second signal ends it.
        "--shutdown-delay=1h",
    ]);
    let at = hale.listening();
    let ready = format!("http://{}/readyz", at.healthz);
    until(&ready, None, |answer| answer.status == 200).await;
    let live = format!("http://{}/livez", at.healthz);
    until(&live, None, |answer| answer.status == 200).await;
    let metrics = format!("http://{}/metrics", at.healthz);
    let metrics = until(&metrics, None, |answer| answer.status == 200).await;
    assert!(text(&metrics.body).contains("hale_findings{reason=\"ServiceNotFound\"} 1"));

    hale.signal("-TERM");
    until(&ready, None, |answer| answer.status == 503).await;
    let url = format!("http://{}/a", at.http);
    until(&url, Some("shop.example"), |answer| answer.status == 503).await;
    hale.signal("-TERM");
    assert!(hale.child.wait().unwrap().success());
}

#[tokio::test]
async fn the_demo_answers_explains_and_tells() {
    let hale = Hale::start(&["demo"]);
    let at = hale.listening();
    let url = |path: &str| format!("http://{}{path}", at.http);
    let works = until(&url("/"), None, |answer| answer.status == 200).await;
    assert!(text(&works.body).starts_with("shop-"), "{works:?}");
    let refused = until(&url("/broken"), None, |answer| answer.status == 503).await;
    assert_eq!(refused.headers["x-hale-reason"], "NoEligiblePeer");
    let explained: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(
        explained["detail"][0]["reason"], "ActiveCheckFailed",
        "{explained}"
    );

    let status = text(&ask(&["status", "--admin", &at.admin]).stdout);
    for wanted in [
        "demo/shop:http",
        "shop-c",
        "NotReady",
        "GET /healthz: HTTP 503",
    ] {
        assert!(status.contains(wanted), "{wanted} is not in\n{status}");
    }
    let output = ask(&["why", &url("/broken"), "--admin", &at.admin]);
    assert_eq!(output.status.code(), Some(2));
    let why = text(&output.stdout);
    for wanted in [
        "would be refused: NoEligiblePeer",
        "Ingress demo/demo",
        "broken-a",
    ] {
        assert!(why.contains(wanted), "{wanted} is not in\n{why}");
    }
    let output = ask(&["why", &url("/"), "--admin", &at.admin, "-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let why: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(why["upstream"]["id"], "demo/shop:http");
    let probe = ask(&["probe", &url("/broken"), "--expect=503"]);
    assert!(probe.status.success(), "{probe:?}");
    assert!(!ask(&["probe", &url("/broken")]).status.success());
}

#[test]
fn without_a_hale_to_ask_the_message_says_what_to_do() {
    // Nobody listens on port 1 of loopback.
    let output = ask(&["status", "--admin", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("no Hale answers at 127.0.0.1:1") && message.contains("kubectl exec"),
        "{message}"
    );
}

#[test]
fn who_has_read_enough_may_go() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hale"))
        .arg("crds")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hale runs");
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_definition_is_printed_as_yaml() {
    let output = ask(&["crds"]);
    let mut yaml = String::new();
    output.stdout.as_slice().read_to_string(&mut yaml).unwrap();
    assert!(
        yaml.contains("kind: CustomResourceDefinition")
            && yaml.contains("upstreampolicies.hale-ingress.io")
    );
}
