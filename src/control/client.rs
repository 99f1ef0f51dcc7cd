//! Asking the agent that runs: one connection, one request, one reply.
//!
//! It knows where the agent listens and how to tell that none does; what a reply means is the caller's business.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Reply, Request, socket_path};
use crate::error::{Error, Result};
use crate::exit::Exit;

/// The agent's answer, or `None` when it ended without giving one.
///
/// # Errors
/// 69 when no agent runs, 77 when it is another user's, 75 when it does not answer within `timeout`.
pub fn ask(run_dir: &Path, request: Request, timeout: Duration) -> Result<Option<Reply>> {
    let path = socket_path(run_dir);
    let stream = UnixStream::connect(&path).map_err(|error| refused(&path, error))?;
    exchange(stream, request, timeout).map_err(|error| {
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            return Error::new(Exit::TryAgain, format!("the agent did not answer within {timeout:?}: see its log"));
        }
        Error::because(Exit::TryAgain, format!("cannot talk to the agent at {}", path.display()), error)
    })
}

fn exchange(mut stream: UnixStream, request: Request, timeout: Duration) -> io::Result<Option<Reply>> {
    stream.set_write_timeout(Some(timeout))?;
    stream.set_read_timeout(Some(timeout))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut reply = String::new();
    match BufReader::new(stream).read_line(&mut reply) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(serde_json::from_str(&reply)?)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error),
    }
}

fn refused(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::new(
            Exit::Unavailable,
            format!("no agent is running (nothing listens on {}): start it with `kmagent start`", path.display()),
        ),
        io::ErrorKind::PermissionDenied => Error::because(
            Exit::Denied,
            format!("cannot reach the agent at {}: run this as the agent's user", path.display()),
            error,
        ),
        _ => Error::because(Exit::TryAgain, format!("cannot reach the agent at {}", path.display()), error),
    }
}
