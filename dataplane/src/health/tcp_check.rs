//! The TCP check: a connection, and where the policy says so bytes to send and bytes to want.

use std::net::SocketAddr;

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::check::{Deadline, READ_LIMIT, connect, io_words, quote};
use crate::config::TcpCheck;

/// Makes one check. The words tell what was found.
pub(super) async fn check(
    check: &TcpCheck,
    address: SocketAddr,
    deadline: Deadline,
    connected: &mut bool,
) -> Result<String, String> {
    let mut stream = connect(address, deadline).await?;
    *connected = true;
    if let Some(send) = &check.send {
        deadline
            .within("room for what is sent", stream.write_all(send.as_bytes()))
            .await?
            .map_err(|error| io_words(&error))?;
    }
    match &check.receive {
        None => Ok("connected".into()),
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
async fn receive(stream: &mut TcpStream, wanted: &str) -> Result<(), String> {
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
