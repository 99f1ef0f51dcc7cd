//! A listener that takes no new connections any more: a classic BPF program on its socket (SO_ATTACH_FILTER, socket(7))
//! drops each SYN, so that its client sends another one later. Handshakes that have begun are completed.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::reuseport_bpf::set;

/// Bits of the 14th byte of a TCP header (RFC 9293, section 3.1).
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// `OPNOTSUPP` of Multipath TCP.
pub fn attach(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD, 13, 0, 0),
        step(AND, SYN | ACK, 0, 0),
        step(EQUAL, SYN, 0, 1),
        step(RETURN, 0, 0, 0),
        step(RETURN, u32::MAX, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(listener, libc::SO_ATTACH_FILTER, &program)
}

/// `NOENT` when there is none.
pub fn detach(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    let unused: libc::c_int = 0;
    set(listener, libc::SO_DETACH_FILTER, &unused)
}
