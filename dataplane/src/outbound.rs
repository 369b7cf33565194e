//! Questions that Hale itself asks over HTTP: for the keys of tokens, and whether a request may pass.
//!
//! Where they go is written by whoever may write a policy, so it is not trusted: names are looked up once,
//! the addresses found are held against [`Reach`], and the connection goes to an address that was held against
//! it, never to a name. Redirects are not followed, cookies are not kept, and time, head and body have bounds.

mod idle;
mod origin;

use idle::Idle;
pub(crate) use origin::Origin;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header, response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use crate::{
    addresses::Reach,
    config::{Protocol, Trust, UpstreamTls},
    fault::{Fault, overslept},
    tls::{ClientTls, Roots},
};

/// hyper's read buffer is not smaller.
const SMALLEST_HEAD: usize = 8192;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;

/// What a question may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the look-up of the name to the last byte of what is asked for.
    pub(crate) timeout: Duration,
    /// Bytes of the answer's head; at least 8 KiB are taken.
    pub(crate) head: usize,
    /// Bytes of the answer's body.
    pub(crate) body: usize,
}

/// Why there is no answer. Holds nothing of the question, which may be secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    #[error("the URL cannot be used: {0}")]
    Url(&'static str),
    #[error("the name cannot be looked up: {0}")]
    Lookup(io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("address {0} is not one that Hale asks: {1}")]
    Address(IpAddr, &'static str),
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("{0}: TLS: {1}")]
    Tls(SocketAddr, io::Error),
    #[error("no answer that can be read: {0}")]
    Http(hyper::Error),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the look-up of the name took longer than {} ms", .0.as_millis())]
    LookupTimeout(Duration),
    #[error("Hale was too busy to wait for the answer")]
    Late,
}

impl OutboundError {
    /// What it says about the other side; `None` if that was not asked.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Url(_) | Self::NoAddress | Self::Address(..) => None,
            Self::Lookup(_) | Self::LookupTimeout(_) | Self::Late => Some(Fault::Own),
            Self::Connect(_, error) => Some(Fault::of(error)),
            // A handshake that fails was answered.
            Self::Tls(_, error) => Some(match Fault::of(error) {
                Fault::Own => Fault::Own,
                _ => Fault::Broken,
            }),
            Self::Http(error) => Some(Fault::of_http(error)),
            Self::TooLarge(_) => Some(Fault::Broken),
            Self::Timeout(_) => Some(Fault::Silent),
        }
    }
}

/// Asks one origin. Works on whichever runtime it is called on, and keeps a few connections.
pub(crate) struct Client {
    origin: Origin,
    reach: Reach,
    tls: Option<Arc<rustls::ClientConfig>>,
    idle: Arc<Idle>,
}

type Sender = http1::SendRequest<Full<Bytes>>;

impl Client {
    /// Takes the URL apart. `roots` are who may have signed the origin's certificate; `None` is whom the system trusts.
    pub(crate) fn new(
        url: &str,
        roots: Option<&Roots>,
        reach: Reach,
    ) -> Result<Self, OutboundError> {
        let origin = Origin::parse(url).map_err(OutboundError::Url)?;
        if !origin.https && !reach.plain && !reach.loopback {
            return Err(OutboundError::Url("it is not https"));
        }
        let trust = roots.map_or(Trust::System, |roots| Trust::Roots(roots.clone()));
        let tls = origin.https.then(|| {
            let tls = UpstreamTls {
                server_name: None,
                trust,
                client_certificate: None,
            };
            ClientTls::new(&tls, Protocol::Http1).config
        });
        Ok(Self {
            origin,
            reach,
            tls,
            idle: Arc::default(),
        })
    }

    /// What the URL said.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Asks. The question's URI is path and query; `Host` is set here. Any status is an answer.
    pub(crate) async fn ask(
        &self,
        question: Request<Bytes>,
        limits: &Limits,
    ) -> Result<Response<Bytes>, OutboundError> {
        let deadline = Instant::now() + limits.timeout;
        timeout_at(deadline, async {
            let (sender, answer) = self.send(question, limits).await?;
            let (parts, body) = answer.into_parts();
            let body = read(body, limits.body).await?;
            self.idle.keep(sender);
            Ok(Response::from_parts(parts, body))
        })
        .await
        .unwrap_or_else(|_| Err(late(deadline, limits.timeout)))
    }

    /// The same for whom the head says all: nothing that becomes of the body makes it another answer, or none.
    pub(crate) async fn ask_head(
        &self,
        question: Request<Bytes>,
        limits: &Limits,
    ) -> Result<response::Parts, OutboundError> {
        let deadline = Instant::now() + limits.timeout;
        let (sender, answer) = timeout_at(deadline, self.send(question, limits))
            .await
            .unwrap_or_else(|_| Err(late(deadline, limits.timeout)))?;
        let (parts, rest) = answer.into_parts();
        self.idle.keep_after(sender, rest, limits.body);
        Ok(parts)
    }

    /// The head of the answer, and the connection that its body comes on.
    async fn send(
        &self,
        mut question: Request<Bytes>,
        limits: &Limits,
    ) -> Result<(Sender, Response<Incoming>), OutboundError> {
        let host = self.origin.authority.clone();
        question.headers_mut().insert(header::HOST, host);
        let question = question.map(Full::new);
        // An idle connection may have been closed meanwhile: what is safe to ask twice takes one.
        if question.method().is_safe()
            && let Some(mut sender) = self.idle.take()
            && sender.ready().await.is_ok()
            && let Ok(answer) = sender.send_request(question.clone()).await
        {
            return Ok((sender, answer));
        }
        let mut sender = self.connect(limits).await?;
        let answer = sender.send_request(question).await;
        answer
            .map(|answer| (sender, answer))
            .map_err(OutboundError::Http)
    }

    async fn connect(&self, limits: &Limits) -> Result<Sender, OutboundError> {
        // A look-up that is slow, which may be for others' names, leaves the origin half of the time at the least.
        let half = limits.timeout / 2;
        let addresses = timeout_at(Instant::now() + half, self.addresses()).await;
        let addresses = addresses.unwrap_or(Err(OutboundError::LookupTimeout(half)))?;
        let mut worst = None;
        for address in addresses.into_iter().take(ADDRESSES) {
            match self.connect_to(address, limits).await {
                Ok(sender) => return Ok(sender),
                // Only where all addresses are silent, the origin is.
                Err(error) => {
                    let silent = error.fault().is_some_and(Fault::is_silence);
                    if !silent || worst.is_none() {
                        worst = Some(error);
                    }
                }
            }
        }
        Err(worst.unwrap_or(OutboundError::NoAddress))
    }

    /// Those that may be asked; an error if there is none.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, OutboundError> {
        let port = self.origin.port;
        let found: Vec<SocketAddr> = match self.origin.address() {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => tokio::net::lookup_host((self.origin.host.as_str(), port))
                .await
                .map_err(OutboundError::Lookup)?
                .collect(),
        };
        let mut refused = OutboundError::NoAddress;
        let mut allowed = Vec::new();
        for address in found {
            match self.reach.check(address.ip(), self.origin.https) {
                Ok(()) => allowed.push(address),
                Err(why) => refused = OutboundError::Address(address.ip(), why),
            }
        }
        if allowed.is_empty() {
            return Err(refused);
        }
        Ok(allowed)
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        limits: &Limits,
    ) -> Result<Sender, OutboundError> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| OutboundError::Connect(address, error))?;
        // Latency is all that it could cost.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return handshake(stream, limits).await;
        };
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(self.origin.server_name.clone(), stream)
            .await
            .map_err(|error| OutboundError::Tls(address, error))?;
        handshake(stream, limits).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.origin)
    }
}

async fn handshake<S>(stream: S, limits: &Limits) -> Result<Sender, OutboundError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(limits.head.max(SMALLEST_HEAD))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(OutboundError::Http)?;
    // Ends with the sender; what goes wrong is told to whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// The deadline passed.
fn late(deadline: Instant, timeout: Duration) -> OutboundError {
    match overslept(deadline) {
        true => OutboundError::Late,
        false => OutboundError::Timeout(timeout),
    }
}

async fn read(body: Incoming, most: usize) -> Result<Bytes, OutboundError> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(OutboundError::TooLarge(most)),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(OutboundError::Http(*error)),
            Err(_) => Err(OutboundError::TooLarge(most)),
        },
    }
}

/// A `Host` that can be sent.
fn authority(host: &str) -> Result<HeaderValue, &'static str> {
    HeaderValue::try_from(host).map_err(|_| "its host cannot be sent")
}

#[cfg(test)]
mod tests;
