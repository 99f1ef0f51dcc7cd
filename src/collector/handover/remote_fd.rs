//! Looking into a collector's processes: a copy of a socket, and which process a thread belongs to.

use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::address::Address;
use super::listener::Listener;
use crate::os::files;

/// A copy of a socket that listens now, not to be kept: see `binds`.
pub(super) struct ListenerCopy {
    pub listener: Listener,
    /// `None` of a Unix socket.
    pub address: Option<Address>,
    pub socket: OwnedFd,
    pub bound_at: Instant,
    /// Of the process that we have started, and that ends with us.
    pub is_childs_own: bool,
}

/// pidfd_getfd(2) asks for the right to trace the process, which a parent has over its child unless something takes it
/// away; the copy is close-on-exec.
pub(super) fn copy(process: Pid, fd: RawFd) -> Result<OwnedFd, Errno> {
    copy_from(&open(process)?, fd)
}

pub(super) fn open(process: Pid) -> Result<OwnedFd, Errno> {
    rustix::process::pidfd_open(process, PidfdFlags::empty())
}

pub(super) fn copy_from(pidfd: &OwnedFd, fd: RawFd) -> Result<OwnedFd, Errno> {
    rustix::process::pidfd_getfd(pidfd, fd, PidfdGetfdFlags::empty())
}

/// The process that a thread belongs to (proc_pid_status(5)).
pub(super) fn process_of(thread: u32) -> Option<Pid> {
    let status = files::read_text(&PathBuf::from(format!("/proc/{thread}/status")), files::MAX_KERNEL_FILE).ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    Pid::from_raw(number.trim().parse().ok()?)
}

/// `copy` has failed, in words.
pub(super) fn hidden(process: Pid, errno: Errno) -> String {
    let remedy = match errno {
        Errno::PERM => ": CAP_SYS_PTRACE would allow it, unless ptrace_scope is 3",
        _ => "",
    };
    format!("cannot copy a socket of process {process}: {errno}{remedy}")
}
