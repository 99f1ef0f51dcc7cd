//! What a child does between fork and exec: its parent-death signal, signals that it is not to ignore and, if asked,
//! its rank when memory runs out and a filter that reports each bind(2).
//!
//! Everything here runs in a copy of a process with several threads, so it may only do what is async-signal-safe: plain
//! system calls, no allocation, no lock.

use std::io;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{
    DumpableBehavior, Pid, Signal, getpid, getppid, set_dumpable_behavior, set_parent_process_death_signal,
};

use super::inherited::ignore_nothing;

/// This architecture as a filter sees it (linux/audit.h: the ELF machine, 64 bit, little endian); `None` where bind(2)
/// may also arrive as socketcall(2), whose arguments a filter cannot see.
const AUDIT_ARCH: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xC000_003E)
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some(0xC000_00B7)
} else {
    None
};

/// Whether this architecture has such a filter at all.
pub const CAN_FILTER: bool = AUDIT_ARCH.is_some();

/// The child gets `on_parent_death` when the thread that spawns it ends, however it ends (PR_SET_PDEATHSIG, prctl(2)).
///
/// With `report_to`, its bind(2) calls are reported: one byte is sent there before the exec, with the descriptor of the
/// notifications, or the byte is the reason (errno) that there is none, and the child goes on without the filter.
pub fn before_exec(command: &mut Command, on_parent_death: Signal, report_to: Option<OwnedFd>) {
    let parent = getpid();
    // SAFETY: the closure does only what is async-signal-safe: it makes system calls and allocates nothing
    // (`from_raw_os_error` holds a number), as does what it calls.
    unsafe {
        command.pre_exec(move || {
            die_with(parent, on_parent_death)?;
            ignore_nothing();
            if let Some(channel) = &report_to {
                report_binds(channel.as_fd())?;
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

/// For the child: `signal` when `parent`'s thread ends.
pub(super) fn die_with(parent: Pid, signal: Signal) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal))?;
    // The parent may have died before the signal was set; then nobody would send it.
    match getppid() == Some(parent) {
        true => Ok(()),
        false => Err(Errno::SRCH.into()),
    }
}

/// For the child: installs the filter and sends its descriptor. Fails only when a filter is active whose descriptor
/// cannot be sent: each bind(2) would fail with ENOSYS then.
pub(super) fn report_binds(channel: BorrowedFd<'_>) -> io::Result<()> {
    let listener = match install_filter() {
        Ok(listener) => listener,
        Err(errno) => {
            // The parent takes silence for an unknown reason.
            let _ = send(channel, errno.raw_os_error().to_le_bytes()[0], &[]);
            return Ok(());
        }
    };
    send(channel, 0, &[listener.as_fd()])?;
    Ok(())
}

/// bind(2) notifies, everything else passes. `no_new_privs` is set only where the kernel insists (not root,
/// seccomp(2)).
fn install_filter() -> Result<OwnedFd, Errno> {
    match load_filter() {
        Err(Errno::ACCESS) => {
            rustix::thread::set_no_new_privs(true)?;
            load_filter()
        }
        other => other,
    }
}

fn load_filter() -> Result<OwnedFd, Errno> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // Offsets in `struct seccomp_data`, linux/seccomp.h.
    const NR: u32 = 0;
    const ARCH: u32 = 4;
    let arch = AUDIT_ARCH.ok_or(Errno::OPNOTSUPP)?;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD, ARCH, 0, 0),
        step(EQUAL, arch, 0, 3),
        step(LOAD, NR, 0, 0),
        step(EQUAL, libc::SYS_bind as u32, 0, 1),
        step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // Without the second flag (Linux 5.19) a signal would interrupt a bind(2) that we have begun to look at; Go's
    // runtime sends itself signals all the time.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the kernel reads the program, whose pointer and length are those of the array above, and keeps no
    // pointer.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) };
    match i32::try_from(fd) {
        // SAFETY: the call has made this descriptor (close-on-exec) and nobody else knows of it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

fn send(channel: BorrowedFd<'_>, byte: u8, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::net::sendmsg(channel, &[IoSlice::new(&[byte])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
