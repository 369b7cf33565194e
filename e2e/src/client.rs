//! An HTTP client that hides nothing: one request, one connection, the whole answer.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

mod trust;

/// No answer takes longer in any scenario.
const LIMIT: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    H2c,
    Https1,
    Https2,
}

/// A request that is still being written.
#[derive(Clone)]
pub struct Ask {
    protocol: Protocol,
    method: Method,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The version it came in.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What followed the body.
    pub trailers: HeaderMap,
    /// The certificate that the server showed, if there was TLS.
    pub certificate: Option<CertificateDer<'static>>,
}

impl Ask {
    /// A GET over HTTP/1.1 in clear text.
    #[must_use]
    pub fn get(host: &str, path: &str) -> Self {
        Self {
            protocol: Protocol::Http1,
            method: Method::GET,
            host: host.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// The same with another method and a body.
    #[must_use]
    pub fn post(mut self, body: impl Into<Bytes>) -> Self {
        self.method = Method::POST;
        self.body = body.into();
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Over HTTP/2 in clear text, by prior knowledge.
    #[must_use]
    pub fn h2c(mut self) -> Self {
        self.protocol = Protocol::H2c;
        self
    }

    /// Over TLS and HTTP/1.1.
    #[must_use]
    pub fn https(mut self) -> Self {
        self.protocol = Protocol::Https1;
        self
    }

    /// Over TLS and HTTP/2.
    #[must_use]
    pub fn https_h2(mut self) -> Self {
        self.protocol = Protocol::Https2;
        self
    }

    /// Whether it goes over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.protocol, Protocol::Https1 | Protocol::Https2)
    }

    /// Sends it, and reads the answer to its end.
    ///
    /// # Errors
    /// When no whole answer came within 15 s.
    pub async fn send(&self, server: SocketAddr) -> anyhow::Result<Answer> {
        let answer = tokio::time::timeout(LIMIT, self.exchange(server)).await;
        answer
            .map_err(anyhow::Error::from)
            .flatten()
            .with_context(|| format!("{} {}{}", self.method, self.host, self.path))
    }

    async fn exchange(&self, server: SocketAddr) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect(server).await.context("connecting")?;
        stream.set_nodelay(true)?;
        match self.protocol {
            Protocol::Http1 => self.http1(stream).await,
            Protocol::H2c => self.http2(stream).await,
            Protocol::Https1 | Protocol::Https2 => {
                let h2 = self.protocol == Protocol::Https2;
                let config = Arc::new(trust::everything(if h2 { b"h2" } else { b"http/1.1" })?);
                let name = ServerName::try_from(self.host.clone())?;
                let stream = TlsConnector::from(config)
                    .connect(name, stream)
                    .await
                    .context("TLS handshake")?;
                let session = stream.get_ref().1;
                let wanted = if h2 {
                    session.alpn_protocol() == Some(b"h2")
                } else {
                    true
                };
                ensure!(wanted, "the server does not speak HTTP/2 over TLS");
                let certificate = session
                    .peer_certificates()
                    .and_then(|chain| chain.first())
                    .map(|c| c.clone().into_owned());
                let answer = if h2 {
                    self.http2(stream).await
                } else {
                    self.http1(stream).await
                }?;
                Ok(Answer {
                    certificate,
                    ..answer
                })
            }
        }
    }

    async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
    ) -> anyhow::Result<Answer> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = self
            .request(&self.path)?
            .header("host", &self.host)
            .body(Full::new(self.body.clone()))?;
        let answer = read(sender.send_request(request).await?).await;
        connection.abort();
        answer
    }

    async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
    ) -> anyhow::Result<Answer> {
        let executor = TokioExecutor::new();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let scheme = if self.protocol == Protocol::H2c {
            "http"
        } else {
            "https"
        };
        let uri = format!("{scheme}://{}{}", self.host, self.path);
        let request = self.request(&uri)?.body(Full::new(self.body.clone()))?;
        let answer = read(sender.send_request(request).await?).await;
        connection.abort();
        answer
    }

    fn request(&self, uri: &str) -> anyhow::Result<http::request::Builder> {
        let mut builder = Request::builder().method(self.method.clone()).uri(uri);
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        Ok(builder)
    }
}

async fn read(response: http::Response<hyper::body::Incoming>) -> anyhow::Result<Answer> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.context("reading the body")?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Answer {
        status: parts.status,
        version: parts.version,
        headers: parts.headers,
        body: body.to_bytes(),
        trailers,
        certificate: None,
    })
}

impl Answer {
    /// A header's text; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.summary()))
    }

    /// The answer in one line, for messages.
    #[must_use]
    pub fn summary(&self) -> String {
        let text: String = self.text().chars().take(600).collect();
        format!(
            "{} {} {}",
            self.status.as_u16(),
            self.header("x-hale-reason"),
            text.trim()
        )
    }

    /// The answer itself if it has this status.
    ///
    /// # Errors
    /// When it has another; the error shows the answer.
    pub fn want(self, status: u16) -> anyhow::Result<Self> {
        ensure!(
            self.status.as_u16() == status,
            "wanted {status}, got {}",
            self.summary()
        );
        Ok(self)
    }
}
