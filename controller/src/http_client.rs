//! One plain HTTP request: what `hale status`, `hale why` and `hale probe` need, and no more.

use std::time::Duration;

use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Enough for the status of a hundred thousand peers.
const MAX_BODY: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL cannot be asked for.
    #[error("{0:?} is not a URL that can be asked for: {1}")]
    Url(String, &'static str),
    /// Nobody answers there.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The answer is no HTTP, or ended early.
    #[error("no HTTP answer from {authority}")]
    Http {
        /// Host and port.
        authority: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer took too long.
    #[error("no answer from {0} within {1:?}")]
    Timeout(String, Duration),
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// GETs `url`, which is plain HTTP, within `timeout`; `host` replaces the URL's own in the Host header.
pub async fn get(url: &str, host: Option<&str>, timeout: Duration) -> Result<Answer, AskError> {
    ask(url, host, None, timeout).await
}

/// POSTs JSON to `url`, which is plain HTTP, within `timeout`.
pub async fn post(url: &str, json: Vec<u8>, timeout: Duration) -> Result<Answer, AskError> {
    ask(url, None, Some(json.into()), timeout).await
}

async fn ask(
    url: &str,
    host: Option<&str>,
    json: Option<Bytes>,
    timeout: Duration,
) -> Result<Answer, AskError> {
    let uri: Uri = url
        .parse()
        .map_err(|_| AskError::Url(url.to_owned(), "it cannot be parsed"))?;
    if uri.scheme_str() != Some("http") {
        return Err(AskError::Url(url.to_owned(), "it must begin with http://"));
    }
    let Some(authority) = uri.authority().cloned() else {
        return Err(AskError::Url(url.to_owned(), "it has no host"));
    };
    let target = format!(
        "{}:{}",
        authority.host(),
        authority.port_u16().unwrap_or(80)
    );
    let host = host.unwrap_or(authority.as_str());
    match tokio::time::timeout(timeout, exchange(&uri, &target, host, json)).await {
        Ok(answer) => answer,
        Err(_) => Err(AskError::Timeout(target, timeout)),
    }
}

async fn exchange(
    uri: &Uri,
    target: &str,
    host: &str,
    json: Option<Bytes>,
) -> Result<Answer, AskError> {
    let no_http = |source: Box<dyn std::error::Error + Send + Sync>| AskError::Http {
        authority: target.to_owned(),
        source,
    };
    let stream = TcpStream::connect(target)
        .await
        .map_err(|source| AskError::Connect {
            authority: target.to_owned(),
            source,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| no_http(error.into()))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(
            header::USER_AGENT,
            concat!("hale/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONNECTION, "close")
        .body(Full::default())
        .map_err(|error| no_http(error.into()))?;
    if let Some(json) = json {
        let kind = header::HeaderValue::from_static("application/json");
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        *request.body_mut() = Full::new(json);
    }
    let driver = tokio::spawn(connection);
    let answer = async {
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(|error| no_http(error.into()))?
            .into_parts();
        let body = Limited::new(body, MAX_BODY)
            .collect()
            .await
            .map_err(no_http)?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    };
    let answer = answer.await;
    driver.abort();
    answer
}
