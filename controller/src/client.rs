//! The commands that ask a running Hale: `hale status`, `hale why`, and `hale probe`.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use hyper::body::Bytes;

use crate::{
    args::{AdminArgs, Hidden, Output, ProbeArgs, StatusArgs, WhyArgs},
    http_client::{self, Answer, AskError},
    stdout::print,
};

mod status_table;
mod view;
mod why_text;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two questions of `hale probe --wait`.
const PROBE_PAUSE: Duration = Duration::from_millis(200);

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody, or nobody who speaks HTTP, is at the admin port.
    #[error(
        "no Hale answers at {admin}. In a cluster, ask inside of a pod: kubectl exec -n NAMESPACE deploy/hale -- hale status"
    )]
    NoAnswer {
        /// Where it was asked.
        admin: String,
        /// Why.
        #[source]
        source: AskError,
    },
    /// Hale cannot answer this.
    #[error("{0}: {1}")]
    Refused(StatusCode, String),
    /// A header that is none; it is not printed, because it may hold a credential.
    #[error("header {0} is not written as in -H 'Name: value'")]
    Header(usize),
    /// A URL with a user and a password; it is not printed.
    #[error("credentials go into -u USER:PASSWORD or -H 'Name: value', and not into the URL")]
    Userinfo,
    /// Stdout takes nothing.
    #[error("cannot print")]
    Print(#[from] std::io::Error),
    /// Another version, or no Hale at all.
    #[error("the answer is not one that this version of hale understands")]
    Unknown(#[source] serde_json::Error),
    /// The request of `hale probe` had no answer.
    #[error(transparent)]
    Probe(#[from] AskError),
}

/// `hale status`.
pub async fn status(args: &StatusArgs) -> Result<ExitCode, ClientError> {
    let body = ask(&args.admin, "/api/v1/status", None).await?;
    match args.admin.output {
        Output::Json => print(&pretty(&body)?)?,
        Output::Table => {
            let status: view::Status =
                serde_json::from_slice(&body).map_err(ClientError::Unknown)?;
            let now = jiff::Timestamp::now();
            print(&status_table::write(&status, args.filter.as_deref(), now))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `hale why URL`. The exit code is 0 where the request would be served (of a preflight: where it is allowed), and 2
/// where not.
pub async fn why(args: &WhyArgs) -> Result<ExitCode, ClientError> {
    if has_userinfo(&args.url) {
        return Err(ClientError::Userinfo);
    }
    let tries = args.method.is_some() || !args.header.is_empty() || args.client.is_some();
    let body = if !tries && args.user.is_none() {
        let path = format!("/api/v1/why?url={}", crate::admin::encode(&args.url));
        ask(&args.admin, &path, None).await?
    } else {
        let basic = args.user.as_ref().map(|user| basic(user.expose()));
        let question = serde_json::json!({
            "url": args.url,
            "method": args.method,
            "headers": headers(&args.header, basic.as_deref())?,
            "client": args.client,
        });
        ask(&args.admin, "/api/v1/why", Some(&question)).await?
    };
    let why: view::Why = serde_json::from_slice(&body).map_err(ClientError::Unknown)?;
    match args.admin.output {
        Output::Json => print(&pretty(&body)?)?,
        Output::Table => {
            let now = jiff::Timestamp::now();
            print(&why_text::write(&args.url, &why, now))?;
        }
    }
    Ok(if why.is_served() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// Whether a URL has a user before its host (RFC 3986 §3.2.1).
fn has_userinfo(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.contains('@')
}

/// As the header `Authorization` has it (RFC 7617).
fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(user))
}

/// Names and values of `Name: value`, and the user's. What is wrong with one is said without it.
fn headers<'a>(
    given: &'a [Hidden],
    basic: Option<&'a str>,
) -> Result<Vec<(&'a str, &'a str)>, ClientError> {
    let mut headers: Vec<_> = basic
        .map(|basic| ("authorization", basic))
        .into_iter()
        .collect();
    for (number, header) in (1..).zip(given) {
        let header = header.expose();
        if header.is_empty() {
            continue;
        }
        let (name, value) = header.split_once(':').ok_or(ClientError::Header(number))?;
        headers.push((name.trim(), value.trim()));
    }
    Ok(headers)
}

/// `hale probe URL`: exit code 0 when the status is the one that is wanted, 1 when not.
pub async fn probe(args: &ProbeArgs) -> Result<ExitCode, ClientError> {
    let as_wanted = |answer: &Answer| match args.expect {
        Some(wanted) => answer.status.as_u16() == wanted,
        None => answer.status.is_success(),
    };
    let end = Instant::now() + args.wait;
    let answer = loop {
        let answer = http_client::get(&args.url, args.host.as_deref(), args.timeout).await;
        match answer {
            Ok(answer) if as_wanted(&answer) => break answer,
            _ if Instant::now() < end => tokio::time::sleep(PROBE_PAUSE).await,
            last => break last?,
        }
    };
    print(&format!("{}: {}\n", args.url, answer.status))?;
    if let Some(reason) = answer.headers.get("x-hale-reason") {
        let reason = String::from_utf8_lossy(reason.as_bytes());
        print(&format!("x-hale-reason: {reason}\n"))?;
    }
    if as_wanted(&answer) {
        return Ok(ExitCode::SUCCESS);
    }
    match args.expect {
        Some(wanted) => eprintln!("status {wanted} was wanted"),
        None => eprintln!("a status from 200 to 299 was wanted"),
    }
    Ok(ExitCode::FAILURE)
}

/// Asks the admin port: GET, or POST of a question.
async fn ask(
    admin: &AdminArgs,
    path: &str,
    question: Option<&serde_json::Value>,
) -> Result<Bytes, ClientError> {
    let url = format!("http://{}{path}", admin.admin);
    let answer = match question {
        Some(question) => {
            let question = serde_json::to_vec(question).map_err(ClientError::Unknown)?;
            http_client::post(&url, question, TIMEOUT).await
        }
        None => http_client::get(&url, None, TIMEOUT).await,
    };
    let Answer { status, body, .. } = answer.map_err(|source| ClientError::NoAnswer {
        admin: admin.admin.clone(),
        source,
    })?;
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body).trim_end().to_owned();
        return Err(ClientError::Refused(status, text));
    }
    Ok(body)
}

fn pretty(body: &[u8]) -> Result<String, ClientError> {
    serde_json::from_slice::<serde_json::Value>(body)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .map(|text| text + "\n")
        .map_err(ClientError::Unknown)
}
