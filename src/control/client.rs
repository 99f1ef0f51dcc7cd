//! Asking the agent that runs: one connection, one request, one reply.
//!
//! It knows where the agent listens and how to tell that none does, or that another user listens; what a reply means
//! is the caller's business. Nothing that the other end does takes more memory than a reply or more time than was
//! given.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{REPLY_LIMIT, Reply, Request, Waiting, socket_path};
use crate::error::{Error, Exit, Result};
use crate::os::control::Connection;
use crate::os::files;
use crate::os::lock;
use crate::os::user::User;
use crate::os::wait::{self, Waitable};
use crate::settings::AgentPaths;

/// Who has said nothing for longest has to go when too many come at once (`server`), and that may be us, between two
/// instructions.
const ATTEMPTS: u32 = 20;
/// For the others to have said what they want.
const PAUSE: Duration = Duration::from_millis(50);

/// Seconds: who says more is no agent of ours.
const LONGEST: u64 = 24 * 3600;
/// For what the agent does not count, on a host that swaps.
const SLACK: Duration = Duration::from_secs(10);

/// What came of a request.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Reply(Reply),
    /// The agent ended without giving one.
    Ended,
    /// It was not asked: the one that listens is not the agent's user, which these words say. Whatever it answered
    /// could be made up.
    Stranger(String),
    /// It was not asked: its socket's path leads through what another user may have created, which these words name.
    Refused(String),
}

/// The agent's answer.
///
/// # Errors
/// 69 when no agent runs, 77 when it is another user's, 75 when it has not answered in whole within `timeout`, however
/// often it has to be asked.
pub fn ask(paths: &AgentPaths, request: Request, timeout: Duration) -> Result<Answer> {
    wait(paths, request, timeout, &mut |_| {})
}

/// As `ask`; when the agent says how long the answer may take, it has that long.
///
/// # Errors
/// As of `ask`.
pub fn wait(paths: &AgentPaths, request: Request, timeout: Duration, heard: &mut dyn FnMut(Waiting)) -> Result<Answer> {
    let path = socket_path(&paths.run_dir);
    let mut deadline = Instant::now() + timeout;
    let mut longest = timeout;
    let mut attempts = 1..ATTEMPTS;
    loop {
        let stream = match Connection::connect(&path, deadline) {
            Ok(stream) => stream,
            // It has ended meanwhile.
            Err(error) if attempts.start > 1 && is_nobody(&error) => return Ok(Answer::Ended),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(not_answered(&path, longest, error)),
            Err(error) if files::is_planted(&error) => {
                return Ok(Answer::Refused(format!("cannot reach the agent: {error}")));
            }
            Err(error) => return Err(refused(&path, error, paths)),
        };
        let peer = stream.peer().map_err(|error| not_answered(&path, longest, error))?;
        if !is_trusted(peer, paths) {
            let what = format!("the process that listens on {} is not the agent's: it is {peer}", path.display());
            return Ok(Answer::Stranger(format!("{what}, who owns neither its settings nor its state")));
        }
        let answered = exchange(stream, request, &mut deadline, &mut |waiting| {
            longest = Duration::from_secs(waiting.seconds.min(LONGEST)) + SLACK;
            heard(waiting);
            Instant::now() + longest
        });
        let is_lost = match &answered {
            // Not once more for what may have been heard: the next agent would get it.
            Ok(None) => matches!(request, Request::Status | Request::Check),
            Ok(Some(reply)) => *reply == Reply::Busy,
            Err(error) => matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
        };
        if !is_lost || attempts.next().is_none() {
            return match answered {
                Ok(Some(Reply::Busy)) => Err(Error::new(Exit::TryAgain, "agent is busy with other clients: try again")),
                Ok(Some(reply)) => Ok(Answer::Reply(reply)),
                Ok(None) => Ok(Answer::Ended),
                Err(error) => Err(not_answered(&path, longest, error)),
            };
        }
        std::thread::sleep(PAUSE);
    }
}

/// Root, we ourselves, and the agent's user.
fn is_trusted(peer: User, paths: &AgentPaths) -> bool {
    let owns = |path: &Path| User::owner_of(path) == Some(peer);
    peer.is_root() || peer == User::current() || owns(&paths.settings_file) || owns(&paths.state_dir)
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

fn exchange(
    mut stream: Connection,
    request: Request,
    deadline: &mut Instant,
    heard: &mut dyn FnMut(Waiting) -> Instant,
) -> io::Result<Option<Reply>> {
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    let mut unsent = line.as_slice();
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(count) => unsent = &unsent[count..],
            Err(error) => wait_unless_failed(error, &stream.writable(), *deadline)?,
        }
    }
    let (mut reply, mut answer) = (Vec::new(), None);
    let mut buffer = [0u8; 4096];
    loop {
        let count = match stream.read(&mut buffer) {
            // A reset is an end too: the agent did not read everything that was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => {
                wait_unless_failed(error, &stream.waitable(), *deadline)?;
                continue;
            }
            Ok(count) => count,
        };
        reply.extend_from_slice(&buffer[..count]);
        if reply.len() > REPLY_LIMIT {
            let text = format!("its reply is longer than {REPLY_LIMIT} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        while let Some(end) = reply.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = reply.drain(..=end).collect();
            match serde_json::from_slice(&line)? {
                Reply::Waiting(waiting) => *deadline = heard(waiting),
                // True when its process has ended.
                Reply::Stopped => answer = Some(Reply::Stopped),
                answer => return Ok(Some(answer)),
            }
        }
        if count == 0 {
            return if reply.is_empty() { Ok(answer) } else { Ok(Some(serde_json::from_slice(&reply)?)) };
        }
    }
}

/// Waits if the error says that this is all there is for now.
fn wait_unless_failed(error: io::Error, until: &Waitable<'_>, deadline: Instant) -> io::Result<()> {
    match error.kind() {
        // Of each byte, or who sends one now and then would be waited for without end.
        io::ErrorKind::WouldBlock if Instant::now() >= deadline => Err(io::ErrorKind::TimedOut.into()),
        io::ErrorKind::WouldBlock => {
            // One that fails has taken its time.
            let _ = wait::wait(std::slice::from_ref(until), Some(deadline));
            Ok(())
        }
        io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

fn refused(path: &Path, error: io::Error, paths: &AgentPaths) -> Error {
    // It starts, or its socket was removed.
    if is_nobody(&error)
        && let Some(pid) = lock::agent_in_state(&paths.run_dir, &paths.state_dir)
    {
        let what = format!("the agent (pid {pid}) cannot be reached: nothing listens on {}", path.display());
        let remedy = format!("it comes back soon, or at once by `kill -HUP {pid}`: try again then");
        return Error::new(Exit::TryAgain, format!("{what}; {remedy}"));
    }
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
    use std::io::{BufRead, BufReader};

    use super::*;

    /// What comes of a request when one connection after another is met with these words; the agent has ended then.
    fn asked(request: Request, words: &'static [&'static str]) -> Result<Answer> {
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
        let reply = ask(&paths(&dir), request, Duration::from_secs(20));
        agent.join().unwrap();
        fs_err::remove_dir_all(dir).unwrap();
        reply
    }

    fn paths(dir: &Path) -> AgentPaths {
        let settings_file = dir.join("agent.yaml");
        AgentPaths { run_dir: dir.into(), state_dir: dir.into(), settings_file, stop_timeout: Duration::ZERO }
    }

    #[test]
    fn who_is_sent_away_comes_again() {
        const STOPPED: &str = "\"stopped\"\n";
        const STOP: Request = Request::Stop { progress: true };
        assert_eq!(asked(STOP, &["\"busy\"\n", "\"busy\"\n", STOPPED]).unwrap(), Answer::Reply(Reply::Stopped));
        // Cut off without a word: a stop may have been heard, and the next agent is not to get it.
        assert_eq!(asked(STOP, &[""]).unwrap(), Answer::Ended);
        assert_eq!(asked(Request::Status, &["", "", STOPPED]).unwrap(), Answer::Reply(Reply::Stopped));
        assert_eq!(asked(Request::Check, &["", ""]).unwrap(), Answer::Ended, "it has ended");
        let busy = asked(Request::Status, &["\"busy\"\n"; ATTEMPTS as usize]).unwrap_err();
        assert_eq!(busy.exit(), Exit::TryAgain);
    }
}
