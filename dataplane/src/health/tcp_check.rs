//! The TCP check: a connection, and where the policy says so bytes to send and bytes to want. Over TLS
//! where the upstream has it: a port whose handshakes fail serves no request.

use std::sync::Arc;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    check::{Deadline, READ_LIMIT, Signs, connect, io_words, quote, shake_hands},
    prober::ProbeTarget,
};
use crate::config::TcpCheck;

/// Makes one check. The words tell what was found.
pub(super) async fn check(
    check: &TcpCheck,
    target: &ProbeTarget,
    deadline: Deadline,
    signs: &mut Signs,
) -> Result<String, String> {
    let stream = connect(target.address, deadline, signs).await?;
    match &target.tls {
        None => {
            signs.connected = true;
            converse(check, stream, deadline, "connected").await
        }
        Some(config) => {
            let stream = shake_hands(target, Arc::clone(config), stream, deadline, signs).await?;
            signs.connected = true;
            converse(check, stream, deadline, "TLS handshake made").await
        }
    }
}

async fn converse(
    check: &TcpCheck,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    deadline: Deadline,
    enough: &str,
) -> Result<String, String> {
    if let Some(send) = &check.send {
        deadline
            .within("room for what is sent", async {
                stream.write_all(send.as_bytes()).await?;
                stream.flush().await
            })
            .await?
            .map_err(|error| io_words(&error))?;
    }
    match &check.receive {
        None => Ok(enough.into()),
        Some(wanted) => {
            let what = format!("{} received", quote(wanted));
            deadline
                .within(&what, receive(&mut stream, wanted))
                .await??;
            Ok(format!("received {}", quote(wanted)))
        }
    }
}

/// Reads until `wanted` has come.
async fn receive(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> Result<(), String> {
    let mut buffer = vec![0; READ_LIMIT];
    let mut length = 0;
    loop {
        let came = buffer.get(..length).unwrap_or_default();
        if memmem::find(came, wanted.as_bytes()).is_some() {
            return Ok(());
        }
        let room = buffer.get_mut(length..).unwrap_or_default();
        if room.is_empty() {
            return Err(format!("no {} in the first 4 KiB", quote(wanted)));
        }
        match stream.read(room).await {
            Ok(0) => {
                return Err(format!(
                    "connection closed after {length} bytes without {}",
                    quote(wanted)
                ));
            }
            Ok(more) => length += more,
            Err(error) => return Err(io_words(&error)),
        }
    }
}

#[cfg(test)]
mod tests;
