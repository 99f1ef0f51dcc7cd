//! Standard error, for a writer that must not be held up by its reader.
//!
//! Never by flags on descriptor 2: they are shared with other processes. It waits instead.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::wait::{Waitable, wait};

/// Where the log goes: a descriptor, of our own or not.
pub struct Stderr(Box<dyn AsFd + Send>);

/// Descriptor 2, or for a terminal a non-blocking description of our own: poll(2) calls a terminal writable when a
/// single byte fits, and a write of more would wait for a frozen ssh session. Setting the flag on descriptor 2 would
/// change it for the shell too.
pub fn open() -> Stderr {
    let stderr = rustix::stdio::stderr();
    if rustix::termios::isatty(stderr) {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if let Ok(terminal) = rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()) {
            return Stderr(Box::new(terminal));
        }
    }
    Stderr(Box::new(stderr))
}

/// Whether descriptor 2 leads to the systemd journal, as systemd says of it (systemd.exec(5)): a service may have been
/// given another one since.
pub fn is_journal() -> bool {
    let stat = rustix::fs::fstat(rustix::stdio::stderr());
    let stream = std::env::var("JOURNAL_STREAM");
    stream.is_ok_and(|stream| stat.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino)))
}

impl Stderr {
    /// Another descriptor in its place.
    #[cfg(test)]
    pub fn instead(fd: impl AsFd + Send + 'static) -> Stderr {
        Stderr(Box::new(fd))
    }

    /// Whether it takes `PIPE_BUF` bytes without blocking (pipe(7)), at the latest after `timeout`. An error condition
    /// counts as writable: the write reports it. Where the system cannot say, it errs on the side of dropping.
    pub fn is_writable(&self, timeout: Duration) -> bool {
        wait(&[Waitable::to_write(&self.0)], Some(Instant::now() + timeout)).unwrap_or(false)
    }

    /// A single write(2).
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }
}
