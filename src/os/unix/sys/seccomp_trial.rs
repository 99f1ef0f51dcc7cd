//! A child that only tries the filter: it is never anything but a copy of us, and it ends at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::{DumpableBehavior, Pid, Signal, getpid};

use super::{before_exec, seccomp_bind};

/// Forks a child that installs the filter, sends its descriptor to `channel` as `before_exec::arrange` does, calls
/// bind(2) on `socket` and ends. The call has no address, so it fails, but only once it has been let go. The caller
/// reaps.
pub fn fork(channel: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<Pid> {
    let parent = getpid();
    // SAFETY: the child makes plain system calls only, as after any fork of a process with threads, and ends with
    // _exit(2), so it runs nothing that belongs to us.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // We are not dumpable, so neither is a copy of us, and without root nobody may copy its socket then. A real
            // child becomes dumpable by its exec.
            let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
            let filtered =
                before_exec::die_with(parent, Signal::KILL).and_then(|()| seccomp_bind::report_binds(channel));
            if filtered.is_ok() {
                // SAFETY: no address of length 0, which the kernel refuses without looking at it.
                unsafe { libc::bind(socket.as_raw_fd(), std::ptr::null(), 0) };
            }
            // SAFETY: ends this process and nothing else; no destructor of the copy runs.
            unsafe { libc::_exit(0) }
        }
        raw => Ok(Pid::from_raw(raw).expect("a child has a positive number")),
    }
}
