//! What commands print. A reader that has seen enough (`hale crds | head`) is no error.

use std::io::{self, ErrorKind, Write};

/// Prints the text.
///
/// # Errors
/// If stdout takes nothing for another reason than that nobody reads it any more.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}
