//! Asks an origin outside of the config: its addresses are held against what Hale may ask, and nothing is known of
//! its health.

use std::time::Duration;

use bytes::Bytes;
use http::response;

use super::{NoAnswer, question::Question};
use crate::{
    fault::Fault,
    outbound::{Client, Limits},
};

/// Heads are as large as those of peers.
const HEAD: usize = 64 * 1024;
/// A connection whose answer has more is not used again; nobody reads it.
const BODY: usize = 256 * 1024;

/// The head of the answer, or why there is none.
pub(super) async fn ask(
    client: &Client,
    question: &Question,
    timeout: Duration,
) -> Result<response::Parts, NoAnswer> {
    let limits = Limits {
        timeout,
        head: HEAD,
        body: BODY,
    };
    match client.ask_head(question.plain(Bytes::new()), &limits).await {
        Ok(head) => Ok(head),
        Err(error) => Err(match error.fault() {
            Some(fault) if fault.is_silence() => NoAnswer::Silent(error.to_string()),
            Some(Fault::Own) => NoAnswer::Overloaded(error.to_string()),
            _ => NoAnswer::Impossible(error.to_string()),
        }),
    }
}
