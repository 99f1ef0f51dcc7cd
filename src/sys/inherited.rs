//! Descriptors that the agent was started with.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::FdFlags;

/// Keeps the descriptors that this process was started with, but for the standard streams, from its children: a lock that a script
/// holds would stay held for as long as a collector lives. To be called while there is only one thread.
pub fn keep_from_children() {
    for entry in fs_err::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number: Option<RawFd> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| *number > 2) else { continue };
        // SAFETY: it was open when it was listed, and there is no other thread to close it since; it is neither read nor closed here.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}
