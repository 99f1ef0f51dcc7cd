//! Processes that are nobody's children any more, found by a variable in their environment (proc_pid_environ(5)).
//!
//! It finds, signals and watches them; who is an orphan, and how long one is waited for, is the caller's business.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Instant;

use fs_err as fs;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::wait::{Waitable, wait};
use crate::os::files;

/// A process that bears the mark.
#[derive(Debug)]
pub struct Orphan {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Orphan {
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// SIGTERM. One that has ended meanwhile is no failure.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
        // One that was suspended could not act on it.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::CONT);
    }

    /// Ready when it has ended.
    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.pidfd)
    }

    /// False also when the system cannot say.
    pub fn has_ended(&self) -> bool {
        wait(&[self.waitable()], Some(Instant::now())).unwrap_or(false)
    }
}

/// Every other process with this value of this variable.
pub fn find(variable: &str, value: &OsStr) -> Vec<Orphan> {
    let mark = mark(variable, value);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let own = rustix::process::getpid();
    pids.filter(|pid| *pid != own && has_mark(*pid, &mark))
        .filter_map(|pid| {
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // Again, since the number may have become another's.
            has_mark(pid, &mark).then_some(Orphan { pid, pidfd })
        })
        .collect()
}

/// A process that cannot be read is another user's; one without an environment is a zombie or the kernel's.
fn has_mark(pid: Pid, mark: &OsStr) -> bool {
    let environment =
        files::read(&PathBuf::from(format!("/proc/{}/environ", pid.as_raw_nonzero())), files::MAX_KERNEL_FILE)
            .unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
}

fn mark(variable: &str, value: &OsStr) -> OsString {
    let mut mark = format!("{variable}=").into_bytes();
    mark.extend_from_slice(value.as_bytes());
    OsString::from_vec(mark)
}
