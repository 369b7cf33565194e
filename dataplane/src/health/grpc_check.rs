//! The gRPC check: `grpc.health.v1.Health/Check`, wanting `SERVING`.
//!
//! Two messages of one field each do not need a protobuf library: a string goes out, an enum comes back.
//! What the peer says is told as gRPC has it, because that is what its people look for in their code.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header,
    uri::{Authority, Parts, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::{
    check::{Deadline, Failure, Keeper, Kept, READ_LIMIT, Signs, Wire, quote},
    prober::ProbeTarget,
};
use crate::config::GrpcCheck;

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// A message is preceded by a flag for compression and its length.
const PREFIX: usize = 5;

/// A check, prepared once for all peers of an upstream.
pub(super) struct GrpcPlan {
    service: String,
    /// The request's message with its prefix.
    message: Bytes,
    interval: Duration,
}

/// Makes the checks of one peer.
pub(super) struct GrpcChecker {
    keeper: Keeper,
}

/// What `HealthCheckResponse` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
    Other(u64),
}

impl GrpcPlan {
    /// Prepares a check made every `interval`.
    pub(super) fn new(check: &GrpcCheck, interval: Duration) -> Self {
        Self {
            service: check.service.clone(),
            message: request_message(&check.service),
            interval,
        }
    }

    fn request(
        &self,
        target: &ProbeTarget,
        deadline: Deadline,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut parts = Parts::default();
        parts.scheme = Some(match target.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        });
        let authority = target.address.to_string();
        parts.authority = Some(Authority::try_from(authority).map_err(|it| it.to_string())?);
        parts.path_and_query = Some(PathAndQuery::from_static(METHOD));
        let mut request = Request::new(Full::new(self.message.clone()));
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        let agent = concat!("hale-check/", env!("CARGO_PKG_VERSION"));
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // At most eight digits; a check lasts an hour at most.
        let timeout = format!("{}m", deadline.timeout.as_millis().min(99_999_999));
        if let Ok(timeout) = HeaderValue::from_str(&timeout) {
            headers.insert("grpc-timeout", timeout);
        }
        Ok(request)
    }

    fn judge(&self, serving: Status) -> Result<String, String> {
        let word = match serving {
            Status::Serving => return Ok("SERVING".into()),
            Status::Unknown => "UNKNOWN".into(),
            Status::NotServing => "NOT_SERVING".into(),
            Status::ServiceUnknown => "SERVICE_UNKNOWN".into(),
            Status::Other(number) => format!("status {number}"),
        };
        Err(format!("{word}, want SERVING"))
    }

    /// A status that is not OK, with the words for the codes that say what to mend.
    fn refusal(&self, status: &str, headers: &HeaderMap) -> String {
        let told = headers
            .get("grpc-message")
            .map(|message| percent_decoded(message.as_bytes()))
            .filter(|message| !message.is_empty())
            .map_or_else(String::new, |message| format!(" ({})", quote(&message)));
        match status {
            "5" => match self.service.as_str() {
                "" => format!("NOT_FOUND: the server tells no health of itself{told}"),
                service => format!("NOT_FOUND: the server knows no service {service}{told}"),
            },
            "12" => format!("UNIMPLEMENTED: the server has no grpc.health.v1.Health{told}"),
            code => match code.parse().ok().and_then(code_name) {
                Some(name) => format!("{name}{told}"),
                None => format!("grpc-status {}{told}", quote(code)),
            },
        }
    }
}

impl GrpcChecker {
    /// Keeps connections as far as there are permits.
    pub(super) fn new(permits: Arc<Semaphore>) -> Self {
        Self {
            keeper: Keeper::new(permits),
        }
    }

    /// Makes one check. The words tell what was found.
    pub(super) async fn check(
        &mut self,
        plan: &GrpcPlan,
        target: &ProbeTarget,
        deadline: Deadline,
        signs: &mut Signs,
    ) -> Result<String, String> {
        if let Some(kept) = self.keeper.take(target) {
            match self.exchange(kept, plan, target, deadline).await {
                Ok(words) => return Ok(words),
                Err(Failure::Final(words)) => return Err(words),
                Err(Failure::Broken(_)) => {}
            }
        }
        let fresh = Keeper::open(target, Wire::Http2, deadline, signs).await?;
        signs.connected = true;
        self.exchange(fresh, plan, target, deadline)
            .await
            .map_err(Failure::words)
    }

    /// Keeps no connection.
    pub(super) fn forget(&mut self) {
        self.keeper.forget();
    }

    async fn exchange(
        &mut self,
        mut kept: Kept,
        plan: &GrpcPlan,
        target: &ProbeTarget,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        let request = plan.request(target, deadline)?;
        let (head, body) = deadline
            .within("answer", kept.connection.send(request))
            .await??
            .into_parts();
        if head.status != StatusCode::OK {
            let code = head.status.as_u16();
            return Err(format!("HTTP {code}, want an answer of gRPC").into());
        }
        let kind = head.headers.get(header::CONTENT_TYPE);
        let kind = kind.map_or(&b""[..], HeaderValue::as_bytes);
        if !kind.starts_with(b"application/grpc") {
            let kind = quote(&String::from_utf8_lossy(kind));
            return Err(format!("the answer's content-type is {kind}, want gRPC").into());
        }
        let (data, trailers) = deadline.within("complete answer", read(body)).await??;
        // An answer without a message may have its trailers for a head.
        let last = trailers.as_ref().unwrap_or(&head.headers);
        let Some(status) = last.get("grpc-status") else {
            return Err("the answer has no grpc-status".to_owned().into());
        };
        self.keeper.keep(kept, plan.interval);
        match status.as_bytes() {
            b"0" => {
                let serving = answer_message(&data)
                    .ok_or_else(|| "the answer's message is no HealthCheckResponse".to_owned())?;
                Ok(plan.judge(serving)?)
            }
            code => Err(plan.refusal(&String::from_utf8_lossy(code), last).into()),
        }
    }
}

/// The body, which is short, and its trailers.
async fn read(mut body: Incoming) -> Result<(Bytes, Option<HeaderMap>), String> {
    let mut data = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "the answer ended early".to_owned())?;
        match frame.into_data() {
            Ok(more) if data.len() + more.len() > READ_LIMIT => {
                return Err("the answer is larger than 4 KiB".into());
            }
            Ok(more) => data.extend_from_slice(&more),
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    Ok((data.freeze(), trailers))
}

/// `HealthCheckRequest {service}`: field 1, a string, left out where it is empty.
fn request_message(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8((length & 0x7f) as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

/// `HealthCheckResponse {status}`: field 1, an enum, 0 where it is left out. `None` for what is no such
/// message.
fn answer_message(framed: &[u8]) -> Option<Status> {
    let (prefix, mut rest) = framed.split_at_checked(PREFIX)?;
    let (flag, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *flag != 0 || usize::try_from(length).ok()? != rest.len() {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(match status {
        0 => Status::Unknown,
        1 => Status::Serving,
        2 => Status::NotServing,
        3 => Status::ServiceUnknown,
        other => Status::Other(other),
    })
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The name of a status, as gRPC's documents have it.
fn code_name(code: usize) -> Option<&'static str> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(code).copied()
}

/// `grpc-message` carries what is not printable ASCII as `%XX`.
fn percent_decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = (*byte == b'%')
            .then(|| std::str::from_utf8(after.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(escaped) => {
                bytes.push(escaped);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
