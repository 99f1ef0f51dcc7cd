//! SIGCHLD as something to wait for, and a look at which child has ended that takes no status away.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::process::Pid;

/// A descriptor that is readable when a child has ended (signalfd(2)), and the signal interrupts nothing any more. To
/// be called while there is only one thread.
pub fn open() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) makes the set whole, the other calls read it; it is ours.
    let fd = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the call has made this descriptor and nobody else knows of it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
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
