//! The notifications of a filter on bind(2): receive one, see that it still stands, let the call go on
//! (seccomp_unotify(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// A thread that is about to bind a socket and waits for us.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    pub id: u64,
    /// As we see it: of the thread, not of its process.
    pub thread: u32,
    /// The first argument of bind(2), a descriptor of that thread.
    pub socket: i32,
    /// The second one, an address in its memory.
    pub address: u64,
    /// The third one, the length of what is there.
    pub length: u64,
}

/// The kernel writes as much as its own idea of the structure is long (80 bytes in 6.18; SECCOMP_GET_NOTIF_SIZES): room
/// for later ones.
#[repr(C)]
struct Roomy<T> {
    known: T,
    spare: [u64; 64],
}

/// Blocks unless poll(2) has just said that there is one. `NOENT` when the caller has died meanwhile.
pub fn receive(fd: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: both are plain numbers, for which zero is a value; the kernel insists on zeroes.
    let mut roomy: Roomy<libc::seccomp_notif> = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `struct seccomp_notif` into memory that is ours and larger than that.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &mut roomy) })?;
    let notif = roomy.known;
    let [socket, address, length, ..] = notif.data.args;
    // A descriptor is an int: the upper half of the register means nothing.
    Ok(Notification { id: notif.id, thread: notif.pid, socket: socket as i32, address, length })
}

/// Whether its thread still waits: if it does, what was looked up under its number was its own.
pub fn still_stands(fd: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one u64, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &id) }).is_ok()
}

/// Lets the call go on as if nobody had looked. `NOENT` when its caller has died meanwhile.
pub fn resume(fd: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    let known = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 };
    let mut roomy = Roomy { known, spare: [0; 64] };
    // SAFETY: the kernel reads one `struct seccomp_notif_resp` from memory that is ours and larger than that.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &mut roomy) })
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    match result {
        0.. => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}
