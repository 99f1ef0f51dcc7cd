//! Signals as something to wait for, and a look at which child has ended that takes no status away.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use libc::c_int;
use rustix::process::Pid;

/// A descriptor that tells of `signals` (signalfd(2)), which interrupt nothing any more. To be called while there is
/// only one thread.
pub fn open(signals: &[c_int]) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) makes the set whole, the other calls change or read it; it is ours.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the call has made this descriptor and nobody else knows of it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Whether whoever started us wants it ignored, as nohup(1) does SIGHUP.
pub fn is_ignored(signal: c_int) -> bool {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the kernel writes one sigaction, which is ours, and changes nothing; zeroes are a value of it.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), present.as_mut_ptr()) == 0
            && present.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// A child that has ended and is not reaped, if there is one. It stays as it is: whoever started it finds its status.
pub fn ended_child() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes at most one siginfo_t, which is ours, and for which zeroes are a value: without such a
    // child the number of its process stays 0. After the call it is one of waitid(2), so it has such a number.
    let pid = unsafe {
        match libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) {
            0 => info.assume_init().si_pid(),
            _ => 0,
        }
    };
    Pid::from_raw(pid)
}
