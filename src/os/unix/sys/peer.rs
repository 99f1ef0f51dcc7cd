//! Who is at the other end of a Unix socket (SO_PEERCRED, unix(7)).
//!
//! Not rustix's, which has no value for the process id 0, as that of a peer in another pid namespace is.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The effective user id of the process that connected it, or that began to listen.
pub fn user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let value = std::ptr::from_mut(&mut found).cast();
    // SAFETY: the kernel writes at most `length` bytes to `value`, which is that large and outlives the call, and any
    // bytes are a value of its integers.
    let outcome =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut length) };
    if outcome == 0 { Ok(found.uid) } else { Err(io::Error::last_os_error()) }
}
