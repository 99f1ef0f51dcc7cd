//! Which socket of a shared port gets the next connection: a program on the port's group (SO_REUSEPORT, socket(7)).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Everything that arrives at the group of `socket` goes to the member at `index`; while there is no such member, the
/// kernel chooses as it does without a program.
pub fn attach(socket: BorrowedFd<'_>, index: u32) -> Result<(), Errno> {
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [libc::sock_filter { code, jt: 0, jf: 0, k: index }];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(socket, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

/// Back to the kernel's own choice. `NOENT` when there is no program.
pub fn detach(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let unused: libc::c_int = 0;
    set(socket, libc::SO_DETACH_REUSEPORT_BPF, &unused)
}

pub(super) fn set<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> Result<(), Errno> {
    let (value, length) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads `length` bytes at `value`, and, for a program, the instructions that it points to. All
    // of it outlives the call, and the kernel keeps no pointer.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, length) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}
