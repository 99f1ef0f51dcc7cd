//! What the agent was started with and does not want: descriptors, signals that are ignored or blocked.

use std::os::fd::{BorrowedFd, RawFd};

use libc::{SIG_DFL, SIG_SETMASK, SIGCHLD};
use rustix::io::FdFlags;

use super::signals::is_ignored;

/// Has signals do again what they do by default. With SIGCHLD ignored a child's status is lost (sigaction(2)), with
/// SIGTERM blocked nobody could stop us, and the collector would inherit both. To be called while there is only one
/// thread.
pub fn default_signals() {
    hold(&[]);
}

/// The same, but SIGHUP waits until it is read (`signals`): it must not end an agent that is still starting. One that
/// was ignored for us stays ignored, since a signal that is held is kept whether it is ignored or not.
pub fn hold_hangup() {
    hold(if is_ignored(libc::SIGHUP) { &[] } else { &[libc::SIGHUP] });
}

/// Nothing but these is blocked.
fn hold(held: &[libc::c_int]) {
    // SAFETY: zero is a valid signal set, which sigemptyset(3) fills in; no handler of ours is installed yet, and no
    // other thread depends on the mask.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in held {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(SIG_SETMASK, &set, std::ptr::null_mut());
        libc::signal(SIGCHLD, SIG_DFL);
    }
}

/// For a child: nothing is blocked, as several are in the agent (`signals`), and nothing is ignored because its
/// agent was started by nohup(1) or as a shell's background job, which are to ignore SIGHUP, or SIGINT and SIGQUIT, for
/// themselves. It is async-signal-safe; what cannot be changed is left: SIGKILL, SIGSTOP, and what the C library keeps
/// to itself.
pub(super) fn hold_back_nothing() {
    // SAFETY: as above; this copy of the process has one thread.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(SIG_SETMASK, &none, std::ptr::null_mut());
    }
    for signal in 1..=64 {
        // SAFETY: the default is no handler that could be called.
        unsafe { libc::signal(signal, SIG_DFL) };
    }
}

/// Keeps the descriptors that this process was started with, but for the standard streams, from its children: a lock
/// that a script holds would stay held for as long as a collector lives. To be called while there is only one thread.
pub fn keep_from_children() {
    for entry in fs_err::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number: Option<RawFd> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| *number > 2) else { continue };
        // SAFETY: it was open when it was listed, and there is no other thread to close it since; it is neither read
        // nor closed here.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}
