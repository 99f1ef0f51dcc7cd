//! Asking the agent that runs: one connection, one request, one reply.
//!
//! It knows where the agent listens and how to tell that none does; what a reply means is the caller's business.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use super::{Reply, Request, socket_path};
use crate::error::{Error, Exit, Result};
use crate::os::control::Connection;

/// Who has said nothing for longest has to go when too many come at once (`server`), and that may be us, between two
/// instructions.
const ATTEMPTS: u32 = 20;
/// For the others to have said what they want.
const PAUSE: Duration = Duration::from_millis(50);

/// The agent's answer, or `None` when it ended without giving one.
///
/// # Errors
/// 69 when no agent runs, 77 when it is another user's, 75 when it does not answer within `timeout`.
pub fn ask(run_dir: &Path, request: Request, timeout: Duration) -> Result<Option<Reply>> {
    let path = socket_path(run_dir);
    let mut attempts = 1..ATTEMPTS;
    loop {
        let stream = match Connection::connect(&path, timeout) {
            Ok(stream) => stream,
            // It has ended meanwhile.
            Err(error) if attempts.start > 1 && is_nobody(&error) => return Ok(None),
            Err(error) => return Err(refused(&path, error)),
        };
        let answered = exchange(stream, request);
        let is_lost = match &answered {
            // Not once more for a stop, which may have been heard: the next agent would get it.
            Ok(None) => request != Request::Stop,
            Ok(Some(reply)) => *reply == Reply::Busy,
            Err(error) => matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
        };
        if !is_lost || attempts.next().is_none() {
            return match answered {
                Ok(Some(Reply::Busy)) => Err(Error::new(Exit::TryAgain, "agent is busy with other clients: try again")),
                answered => answered.map_err(|error| not_answered(&path, timeout, error)),
            };
        }
        std::thread::sleep(PAUSE);
    }
}

fn not_answered(path: &Path, timeout: Duration, error: io::Error) -> Error {
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        return Error::new(Exit::TryAgain, format!("the agent did not answer within {timeout:?}: see its log"));
    }
    Error::because(Exit::TryAgain, format!("cannot talk to the agent at {}", path.display()), error)
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn exchange(mut stream: Connection, request: Request) -> io::Result<Option<Reply>> {
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut stream = BufReader::new(stream);
    let mut reply = String::new();
    if or_end(stream.read_line(&mut reply))? == 0 {
        return Ok(None);
    }
    if request == Request::Stop {
        or_end(stream.read_until(b'\n', &mut Vec::new()))?;
    }
    Ok(Some(serde_json::from_str(&reply)?))
}

/// A reset is an end too: the agent did not read everything that was sent.
fn or_end(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
        other => other,
    }
}

fn refused(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        _ if is_nobody(&error) => Error::new(
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

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// What comes of a request when one connection after another is met with these words; the agent has ended then.
    fn asked(request: Request, words: &'static [&'static str]) -> Result<Option<Reply>> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("kmagent-client-{}-{number}", std::process::id()));
        fs_err::create_dir(&dir).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(socket_path(&dir)).unwrap();
        let agent = std::thread::spawn(move || {
            for words in words.iter() {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = BufReader::new(&stream).read_line(&mut String::new());
                stream.write_all(words.as_bytes()).unwrap();
            }
        });
        let reply = ask(&dir, request, Duration::from_secs(20));
        agent.join().unwrap();
        fs_err::remove_dir_all(dir).unwrap();
        reply
    }

    #[test]
    fn who_is_sent_away_comes_again() {
        const STOPPED: &str = "\"stopped\"\n";
        assert_eq!(asked(Request::Stop, &["\"busy\"\n", "\"busy\"\n", STOPPED]).unwrap(), Some(Reply::Stopped));
        // Cut off without a word: a stop may have been heard, and the next agent is not to get it.
        assert_eq!(asked(Request::Stop, &[""]).unwrap(), None);
        assert_eq!(asked(Request::Status, &["", "", STOPPED]).unwrap(), Some(Reply::Stopped));
        assert_eq!(asked(Request::Check, &["", ""]).unwrap(), None, "it has ended");
        let busy = asked(Request::Status, &["\"busy\"\n"; ATTEMPTS as usize]).unwrap_err();
        assert_eq!(busy.exit(), Exit::TryAgain);
    }
}
