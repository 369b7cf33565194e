//! Lines, and their way to the writer.

use std::sync::{Mutex, MutexGuard};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn record<'a>(path: &'a str, agent: &'a [u8], attempts: &'a [Attempt]) -> Record<'a> {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_792_664_000_007),
        client: "192.0.2.1".parse().unwrap(),
        method: &Method::GET,
        host: "shop.example.com",
        path,
        query_len: 0,
        version: Version::HTTP_11,
        sni: None,
        https: false,
        status: 200,
        bytes_in: 0,
        bytes_out: 12,
        duration: Duration::from_micros(1_042),
        request_id: "id-1",
        route: None,
        upstream: None,
        reason: None,
        auth: None,
        user_agent: Some(agent),
        attempts,
    }
}

fn line(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_json(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_line_says_what_happened() {
    let attempts = [
        Attempt {
            peer: "10.0.0.1:80".parse().unwrap(),
            outcome: Outcome::ConnectRefused,
        },
        Attempt {
            peer: "[fd00::2]:80".parse().unwrap(),
            outcome: Outcome::Answered(200),
        },
    ];
    let source = ObjectRef {
        kind: "Ingress",
        namespace: "shop".into(),
        name: "web".into(),
    };
    let upstream = UpstreamId {
        namespace: "shop".into(),
        service: "cart".into(),
        port: "http".into(),
    };
    let record = Record {
        query_len: 17,
        sni: Some("shop.example.com"),
        https: true,
        version: Version::HTTP_2,
        route: Some(&source),
        upstream: Some(&upstream),
        reason: Some(Reason::UpstreamReset),
        ..record("/cart", b"curl/8", &attempts)
    };
    let wanted = concat!(
        r#"{"time":"2026-10-22T10:13:20.007Z","client":"192.0.2.1","method":"GET","host":"shop.example.com","#,
        r#""path":"/cart","query_len":17,"protocol":"HTTP/2","tls":true,"sni":"shop.example.com","status":200,"#,
        r#""bytes_in":0,"bytes_out":12,"duration_ms":1.042,"request_id":"id-1","route":"Ingress shop/web","#,
        r#""upstream":"shop/cart:http","reason":"UpstreamReset","user_agent":"curl/8","#,
        r#""attempts":[{"peer":"10.0.0.1:80","outcome":"ConnectRefused"},{"peer":"[fd00::2]:80","status":200}]}"#,
        "\n"
    );
    assert_eq!(line(&record), wanted);
}

#[test]
fn who_sent_it_is_told_where_the_route_asks() {
    use crate::auth::{Kind, Outcome};
    let mut note = Note {
        kind: Some(Kind::ApiKey),
        consumer: Some("a\"\n\u{e4}".into()),
        outcome: Outcome::Allowed,
    };
    let auth = |note: Option<&Note>| -> Value {
        let record = Record {
            auth: note,
            ..record("/", b"", &[])
        };
        let line: Value = serde_json::from_str(&line(&record)).unwrap();
        ["consumer", "authMethod", "authOutcome"]
            .map(|key| line.get(key).cloned())
            .into_iter()
            .flatten()
            .collect()
    };
    assert_eq!(
        auth(Some(&note)),
        json!(["a\"\n\u{e4}", "apiKey", "Allowed"])
    );
    note.consumer = None;
    note.kind = None;
    note.outcome = Outcome::NoCredential;
    assert_eq!(auth(Some(&note)), json!(["NoCredential"]));
    assert_eq!(auth(None), json!([]));
}

#[test]
fn nothing_can_break_out_of_a_line() {
    let agent = b"a\"b\\c\nd\x1b[31m\x7f\xff\xe2\x80\xa8\xc3\xa4\r\t";
    let line = line(&record("/\"}\n{", agent, &[]));
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.chars().all(|char| char == '\n' || !char.is_control()));
    let parsed: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(parsed["path"], json!("/\"}\n{"));
    assert_eq!(
        parsed["user_agent"],
        json!("a\"b\\c\nd\u{1b}[31m\u{7f}\u{fffd}\u{2028}ä\r\t")
    );
}

proptest! {
    #[test]
    fn every_line_is_json_with_what_went_in(
        path in "\\PC{0,40}",
        agent in prop::collection::vec(any::<u8>(), 0..40),
        millis in 0_u64..4_102_444_800_000,
        micros in 0_u64..10_000_000,
    ) {
        let record = Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(millis),
            duration: Duration::from_micros(micros),
            ..record(&path, &agent, &[])
        };
        let parsed: Value = serde_json::from_str(&line(&record)).unwrap();
        prop_assert_eq!(parsed["path"].as_str().unwrap(), path);
        prop_assert_eq!(parsed["user_agent"].as_str().unwrap(), String::from_utf8_lossy(&agent));
        let time: jiff::Timestamp = parsed["time"].as_str().unwrap().parse().unwrap();
        prop_assert_eq!(u64::try_from(time.as_millisecond()).unwrap(), millis);
        prop_assert!((parsed["duration_ms"].as_f64().unwrap() * 1e3 - micros as f64).abs() < 0.1);
    }
}

/// A target whose writes wait while a test holds the lock.
#[derive(Clone, Default)]
struct Target(Arc<Mutex<Vec<u8>>>);

impl Target {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }
}

impl Write for Target {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.lock().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn buffers_reach_the_writer_in_order() {
    let target = Target::default();
    let log = Log::to(Box::new(target.clone())).unwrap();
    let mut buffer = log.buffer();
    for at in 0..1_000 {
        buffer.push(&record(&format!("/{at}"), b"", &[]));
    }
    drop(buffer);
    log.close();
    let text = String::from_utf8(target.lock().clone()).unwrap();
    let paths: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["path"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        paths,
        (0..1_000).map(|at| format!("/{at}")).collect::<Vec<_>>()
    );
    assert_eq!(log.dropped_counter().load(Ordering::Relaxed), 0);
}

#[test]
fn a_writer_that_is_stuck_costs_lines_and_no_time() {
    let target = Target::default();
    let log = Log::to(Box::new(target.clone())).unwrap();
    let stuck = target.lock();
    let mut buffer = log.buffer();
    let sent = WAITING + 20;
    for _ in 0..sent {
        buffer.push(&record("/", b"", &[]));
        buffer.flush();
    }
    let dropped = usize::try_from(log.dropped_counter().load(Ordering::Relaxed)).unwrap();
    // The writer may or may not have taken one buffer out before it got stuck.
    assert!((19..=20).contains(&dropped), "{dropped}");
    drop(stuck);
    log.close();
    assert_eq!(
        target.lock().iter().filter(|byte| **byte == b'\n').count(),
        sent - dropped
    );
}

#[test]
fn a_file_is_appended_to_and_off_is_nothing() {
    let path = std::env::temp_dir().join(format!("hale-access-log-{}", std::process::id()));
    for _ in 0..2 {
        let log = Log::open(&AccessLog::File(path.clone())).unwrap().unwrap();
        log.buffer().push(&record("/", b"", &[]));
        log.close();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    std::fs::remove_file(&path).unwrap();
    assert!(Log::open(&AccessLog::Off).unwrap().is_none());
    assert!(Log::open(&AccessLog::File("/".into())).is_err());
}
