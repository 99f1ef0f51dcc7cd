//! The one module with unsafe code: what no safe crate offers. Each block gives its reason.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

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
