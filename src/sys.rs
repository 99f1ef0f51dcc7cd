//! The one module with unsafe code: what no safe crate offers. Each block gives its reason.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// The child gets `signal` when the thread that spawns it ends, however it ends (PR_SET_PDEATHSIG, prctl(2)).
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = getpid();
    // SAFETY: the closure runs between fork and exec in a copy of a process with several threads, so it may only do what is
    // async-signal-safe: it makes two system calls and allocates nothing (`from_raw_os_error` holds a number).
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(signal))?;
            // The parent may have died before the signal was set; then nobody would send it.
            if getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
            }
            Ok(())
        });
    }
}

/// Keeps the descriptors that this process was started with, but for the standard streams, from its children: a lock that a script
/// holds would stay held for as long as a collector lives. To be called while there is only one thread.
pub fn keep_descriptors_from_children() {
    for entry in fs_err::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number: Option<RawFd> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| *number > 2) else { continue };
        // SAFETY: it was open when it was listed, and there is no other thread to close it since; it is neither read nor closed here.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}
