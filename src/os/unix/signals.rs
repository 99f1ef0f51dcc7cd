//! The signals that the agent waits for among everything else, so that they interrupt nothing (signalfd(2)).
//!
//! SIGTERM and SIGINT stop it, SIGHUP reloads, and of SIGCHLD comes the reaping of what it has adopted. What each means
//! beyond that is the supervisor's business. SIGUSR1, SIGUSR2 and SIGALRM, by which other programs are told to rotate
//! logs or the like, would end it.

use std::io;
use std::os::fd::OwnedFd;

use libc::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use super::sys::signals;
use super::wait::Waitable;
use super::{child, descendants};

const WATCHED: [i32; 7] = [SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM];

/// Bytes of a `struct signalfd_siginfo`, which begins with the signal's number.
const RECORD: usize = 128;

#[derive(Debug)]
pub struct Signals(OwnedFd);

/// What has arrived.
#[derive(Debug, Default)]
pub struct Arrived {
    pub stop: bool,
    pub reload: bool,
}

impl Signals {
    /// To be called while there is only one thread. What was ignored when we were started stays so: SIGHUP under
    /// nohup(1), SIGINT in the background of a script; but a service manager must always be able to stop us.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn watch() -> io::Result<Signals> {
        let wanted: Vec<_> = WATCHED
            .into_iter()
            .filter(|signal| ![SIGINT, SIGHUP].contains(signal) || !signals::is_ignored(*signal))
            .collect();
        Ok(Signals(signals::open(&wanted)?))
    }

    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.0)
    }

    /// What there is; never blocks. Reaps what was adopted and has ended, and reads nothing in /proc.
    pub fn take(&self) -> Arrived {
        let mut arrived = Arrived::default();
        // Each is there once at most.
        let mut records = [0u8; WATCHED.len() * RECORD];
        let length = rustix::io::read(&self.0, &mut records).unwrap_or(0);
        for record in records[..length].chunks_exact(RECORD) {
            let number = record.first_chunk().map_or(0, |number| u32::from_ne_bytes(*number));
            match number.cast_signed() {
                SIGCHLD => descendants::reap(),
                SIGHUP => arrived.reload = true,
                other @ (SIGUSR1 | SIGUSR2 | SIGALRM) => {
                    log::warn!(signal = child::signal_name(other).as_str(); "signal ignored");
                }
                _ => arrived.stop = true,
            }
        }
        arrived
    }
}
