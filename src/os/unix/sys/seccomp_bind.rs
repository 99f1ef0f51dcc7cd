//! A filter on bind(2) that notifies us (seccomp(2), seccomp_unotify(2)): a child installs it between fork and exec;
//! its parent receives each notification, sees that it still stands, and lets the call go on.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

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
