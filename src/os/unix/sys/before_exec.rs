//! What a child does between fork and exec: its process group, its parent-death signal, signals that it is not to
//! ignore, the limit on open files and, if asked, its rank when memory runs out, another user's rights, and the filter
//! of `seccomp_bind`.
//!
//! Everything here runs in a copy of a process with several threads, so it may only do what is async-signal-safe: plain
//! system calls, no allocation, no lock.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setpgid, setrlimit, setsid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::super::user::Credentials;
use super::inherited::hold_back_nothing;
use super::seccomp_bind::report_binds;

/// The child is in a process group of its own, and gets `on_parent_death` when the thread that spawns it ends, however
/// it ends (PR_SET_PDEATHSIG, prctl(2)), and the soft one of `open_files` if there is one.
///
/// With `report_to`, its bind(2) calls are reported: one byte is sent there before the exec, with the descriptor of the
/// notifications, or the byte is the reason (errno) that there is none, and the child goes on without the filter.
pub fn arrange(command: &mut Command, on_parent_death: Signal, open_files: Option<Rlimit>, report_to: Option<OwnedFd>) {
    let parent = getpid();
    // SAFETY: the closure does only what is async-signal-safe: it makes system calls and allocates nothing
    // (`from_raw_os_error` holds a number), as does what it calls.
    unsafe {
        command.pre_exec(move || {
            // Who leads a session leads a group, and is refused another. The group is not asked for: in a container it
            // may be one of the host's, for which getpgrp(2) of the library has no value.
            match setpgid(None, None) {
                Ok(()) | Err(Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
            die_with(parent, on_parent_death)?;
            hold_back_nothing();
            if let Some(channel) = &report_to {
                report_binds(channel.as_fd())?;
            }
            // Last, since descriptors beyond it may be open already, and the filter takes one more.
            if let Some(limit) = &open_files {
                lower_open_files(limit);
            }
            Ok(())
        });
    }
}

/// The child's rank among those that the kernel kills when memory runs out (oom_score_adj, proc_pid_oom_score_adj(5)),
/// unless it has a higher one by inheritance; who cannot be ranked is run all the same.
pub fn rank_out_of_memory(command: &mut Command, rank: i32) {
    // SAFETY: the closure makes system calls and allocates nothing, as does what it calls.
    unsafe {
        command.pre_exec(move || {
            // This copy of the agent is closed to its own user too (`this_process::leave_no_core`), and so are its
            // files in /proc.
            let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
            let _ = raise_rank(rank);
            let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
            Ok(())
        });
    }
}

/// The child has this user's rights (none: ours), no capabilities and no way to get any, and `inherit` under the
/// numbers that they have here. To be called before `arrange`: the kernel forgets a parent-death signal when rights
/// change.
///
/// The spawn fails with EPERM where this process may not give its rights away, or could not kill the child.
pub fn run_as(command: &mut Command, user: Option<Credentials>, inherit: Vec<File>) {
    // SAFETY: the closure makes system calls and allocates nothing, as does what it calls.
    unsafe {
        command.pre_exec(move || {
            for file in &inherit {
                rustix::io::fcntl_setfd(file, FdFlags::empty())?;
            }
            let Some(user) = &user else { return Ok(()) };
            // In that of root's terminal another process of its user could have it type commands for root's shell
            // (TIOCSTI, ioctl_tty(2)).
            setsid()?;
            give_up_rights(user)?;
            Ok(())
        });
    }
}

/// For the child.
fn give_up_rights(user: &Credentials) -> Result<(), Errno> {
    if !capabilities(None)?.effective.contains(CapabilitySet::KILL) {
        return Err(Errno::PERM);
    }
    set_no_new_privs(true)?;
    // It takes CAP_SETPCAP, and without new privileges there is no way to use what stays.
    for number in 0..u64::BITS {
        let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number));
    }
    // Older kernels have no such set (before 4.3).
    let _ = clear_ambient_capability_set();
    set_thread_groups(&user.groups)?;
    set_thread_res_gid(user.gid, user.gid, user.gid)?;
    set_thread_res_uid(user.uid, user.uid, user.uid)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// For the child. To raise it takes no privilege. A child of vfork(2) would raise its parent's too, but where there is
/// a closure for before the exec, `Command` uses fork(2).
fn raise_rank(rank: i32) -> Result<(), Errno> {
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut digits = [0u8; 8];
    let length = rustix::io::read(&file, &mut digits)?;
    let inherited = std::str::from_utf8(&digits[..length]).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if inherited.is_none_or(|inherited| inherited < rank) {
        let mut text = [0u8; 8];
        let mut rest = &mut text[..];
        write!(rest, "{rank}").map_err(|_| Errno::INVAL)?;
        let left = rest.len();
        rustix::io::write(&file, &text[..text.len() - left])?;
    }
    Ok(())
}

/// For the child, and no failure. The hard limit is what it is, and may be lower than it was.
fn lower_open_files(limit: &Rlimit) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = match (limit.current, maximum) {
        (Some(current), Some(maximum)) => Some(current.min(maximum)),
        (current, maximum) => current.or(maximum),
    };
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

/// For the child: `signal` when `parent`'s thread ends.
pub(super) fn die_with(parent: Pid, signal: Signal) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal))?;
    // The parent may have died before the signal was set; then nobody would send it.
    match getppid() == Some(parent) {
        true => Ok(()),
        false => Err(Errno::SRCH.into()),
    }
}
