//! What process 1 of a container takes: a second process, and signals that are waited for instead of handled.

use std::io;
use std::mem::MaybeUninit;

use rustix::process::Pid;

/// The signals that a thread does not want now.
pub struct SignalMask(libc::sigset_t);

/// Keeps every signal that can wait for `next_signal`. To be called while there is only one thread; returns what held
/// before.
pub fn hold_signals() -> io::Result<SignalMask> {
    let mut every = MaybeUninit::uninit();
    let mut former = MaybeUninit::uninit();
    // SAFETY: sigfillset(3) makes the set whole, the kernel reads it and writes the other one; both are ours. An
    // ignored SIGCHLD, inherited from our parent, would let our children vanish without a status, so it is not ignored.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::sigfillset(every.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, every.as_ptr(), former.as_mut_ptr()) {
            0 => Ok(SignalMask(former.assume_init())),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Back to what held before `hold_signals`. What has come meanwhile takes effect.
pub fn release_signals(former: &SignalMask) {
    // SAFETY: the kernel reads a whole set of ours. It refuses only an unknown first argument.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &former.0, std::ptr::null_mut()) };
}

/// Makes a copy of this process; `None` in the copy. To be called while there is only one thread.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: there is one thread, so nothing is half done in the copy and it may go on as any process.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        raw => Ok(Some(Pid::from_raw(raw).expect("a child has a positive number"))),
    }
}

/// Sleeps until there is a signal, which must be held, and returns its number.
pub fn next_signal() -> io::Result<i32> {
    let mut every = MaybeUninit::uninit();
    let mut number = 0;
    // SAFETY: as above; the kernel writes one number, which is ours.
    unsafe {
        libc::sigfillset(every.as_mut_ptr());
        match libc::sigwait(every.as_ptr(), &mut number) {
            0 => Ok(number),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
