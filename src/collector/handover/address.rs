//! The address of a socket, or the one that it is about to get, and whether it could have that by itself.
//!
//! SO_REUSEPORT lets a process, and each other process of its user, share a port without a word. Only two collectors of
//! one hand-over are meant to: a port that another process has is an error in the config, which bind(2) reports as it
//! would without us.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;

use crate::os::files;
use crate::os::unix::sys::seccomp_bind::Notification;

/// Of TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub at: SocketAddr,
    pub is_stream: bool,
    /// IPV6_V6ONLY: `[::]` leaves the port's IPv4 side to others.
    v6_only: bool,
    /// SO_REUSEADDR.
    reuses: bool,
}

impl Address {
    /// What `process` wants for its socket, of which we have a copy; `None` when that cannot be read or is no IP
    /// address.
    pub fn wanted(process: Pid, notification: &Notification, copy: &OwnedFd) -> Option<Address> {
        // Either address, as linux/in.h and linux/in6.h have it.
        let mut bytes = [0u8; 28];
        let length = bytes.len().min(usize::try_from(notification.length).ok()?);
        let memory = files::open_regular(&PathBuf::from(format!("/proc/{process}/mem"))).ok()?;
        memory.read_exact_at(&mut bytes[..length], notification.address).ok()?;
        Some(Address::new(copy, parse(&bytes[..length])?))
    }

    /// What a collector is going to listen on by TCP.
    pub fn planned(at: SocketAddr, v6_only: bool) -> Address {
        Address { at, is_stream: true, v6_only, reuses: true }
    }

    /// What a socket has; `None` when it is not bound.
    pub fn of(socket: &OwnedFd) -> Option<Address> {
        let at = SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
        (at.port() != 0).then(|| Address::new(socket, at))
    }

    fn new(socket: &OwnedFd, at: SocketAddr) -> Address {
        Address {
            at,
            is_stream: sockopt::socket_type(socket) == Ok(SocketType::STREAM),
            v6_only: sockopt::ipv6_v6only(socket) == Ok(true),
            reuses: sockopt::socket_reuseaddr(socket) == Ok(true),
        }
    }

    /// Whether two sockets could not have both, unless both have SO_REUSEPORT (socket(7), ipv6(7)). With SO_REUSEADDR
    /// two of UDP can, and two of TCP as long as none listens, which they are here to do.
    pub fn clashes(&self, other: &Address) -> bool {
        self.is_stream == other.is_stream
            && self.at.port() == other.at.port()
            && (self.is_stream || !self.reuses || !other.reuses)
            && (self.covers(other) || other.covers(self))
    }

    /// Whether what arrives at the other one, of the same kind, would arrive at this one if that were not there.
    pub fn covers(&self, other: &Address) -> bool {
        let (own, its) = (plain(self.at), plain(other.at));
        own == its
            || own.port() == its.port()
                && own.ip().is_unspecified()
                && (own.is_ipv4() == its.is_ipv4() || own.is_ipv6() && !self.v6_only)
    }

    /// Whether two collectors that both have it share it (`inet_reuseport_add_sock` in net/ipv4/inet_hashtables.c).
    pub fn is_same(&self, other: &Address) -> bool {
        (self.is_stream, self.at, self.v6_only) == (other.is_stream, other.at, other.v6_only)
    }

    /// How well it suits a connection to `to`, 0 not at all: of those that listen the kernel takes the best
    /// (`compute_score` in net/ipv4/inet_hashtables.c and net/ipv6/inet6_hashtables.c).
    pub fn rank(&self, to: SocketAddr) -> u8 {
        let is_general = self.at.ip().is_unspecified();
        match (self.at.port() == to.port(), plain(self.at) == to) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) if is_general && self.at.is_ipv4() == to.is_ipv4() => 2,
            (true, false) if is_general && self.at.is_ipv6() && !self.v6_only => 1,
            (true, false) => 0,
        }
    }

    /// Whether it is in use already: the kernel's own answer to a socket that does not share. It hears of no
    /// connection, since it never listens, and it is closed again before the collector binds its own; what else is
    /// wrong bind(2) will say by itself.
    pub fn is_taken(&self) -> bool {
        // Here UDP always can, and a socket that is bound, however briefly, could take a datagram away.
        if !self.is_stream && self.reuses {
            return false;
        }
        let family = if self.at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let kind = if self.is_stream { SocketType::STREAM } else { SocketType::DGRAM };
        let probe = || -> Result<(), Errno> {
            let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
            sockopt::set_socket_reuseaddr(&socket, self.reuses)?;
            if self.at.is_ipv6() {
                sockopt::set_ipv6_v6only(&socket, self.v6_only)?;
            }
            rustix::net::bind(socket.as_fd(), &self.at)
        };
        probe() == Err(Errno::ADDRINUSE)
    }
}

fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
        bytes.get(at..at + N)?.try_into().ok()
    }
    let family = AddressFamily::from_raw(u16::from_ne_bytes(part(bytes, 0)?));
    let port = u16::from_be_bytes(part(bytes, 2)?);
    match family {
        AddressFamily::INET => Some(SocketAddrV4::new(Ipv4Addr::from(part::<4>(bytes, 4)?), port).into()),
        AddressFamily::INET6 => {
            let ip = Ipv6Addr::from(part::<16>(bytes, 8)?);
            // The scope may be left out (RFC 2133).
            let scope = part(bytes, 24).map_or(0, u32::from_ne_bytes);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// `[::ffff:127.0.0.1]` is an IPv4 address.
fn plain(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().map_or(at, |v4| SocketAddr::new(v4.into(), v6.port())),
        SocketAddr::V4(_) => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(at: &str) -> Address {
        Address { at: at.parse().unwrap(), is_stream: true, v6_only: false, reuses: true }
    }

    #[test]
    fn addresses_clash_as_the_kernel_says() {
        let v6_only = |at| Address { v6_only: true, ..tcp(at) };
        let udp = |at| Address { is_stream: false, reuses: false, ..tcp(at) };
        let udp_that_reuses = |at| Address { is_stream: false, ..tcp(at) };
        for (one, other, clash) in [
            (tcp("127.0.0.1:1"), tcp("127.0.0.1:1"), true),
            (tcp("127.0.0.1:1"), tcp("127.0.0.1:2"), false),
            (tcp("127.0.0.1:1"), tcp("127.0.0.2:1"), false),
            (tcp("127.0.0.1:1"), udp("127.0.0.1:1"), false),
            (tcp("0.0.0.0:1"), tcp("127.0.0.1:1"), true),
            (tcp("[::]:1"), tcp("127.0.0.1:1"), true),
            (tcp("[::]:1"), tcp("0.0.0.0:1"), true),
            (tcp("[::]:1"), tcp("[::1]:1"), true),
            (tcp("[::1]:1"), tcp("127.0.0.1:1"), false),
            (tcp("0.0.0.0:1"), tcp("[::1]:1"), false),
            (tcp("[::ffff:127.0.0.1]:1"), tcp("127.0.0.1:1"), true),
            (tcp("[::ffff:127.0.0.1]:1"), tcp("0.0.0.0:1"), true),
            (v6_only("[::]:1"), tcp("127.0.0.1:1"), false),
            (v6_only("[::]:1"), tcp("0.0.0.0:1"), false),
            (v6_only("[::]:1"), tcp("[::1]:1"), true),
            (v6_only("[::]:1"), tcp("[::]:1"), true),
            (tcp("[fe80::1%1]:1"), tcp("[fe80::1%2]:1"), false),
            (udp("0.0.0.0:1"), udp("127.0.0.1:1"), true),
            (udp("0.0.0.0:1"), udp_that_reuses("127.0.0.1:1"), true),
            (udp_that_reuses("0.0.0.0:1"), udp_that_reuses("0.0.0.0:1"), false),
        ] {
            assert_eq!((one.clashes(&other), other.clashes(&one)), (clash, clash), "{one:?} {other:?}");
        }
    }

    /// The same of this kernel: one has the address, the other asks.
    #[test]
    fn what_is_in_use_is_taken() {
        let hold = |at: &str| {
            let listener = std::net::TcpListener::bind(at).unwrap();
            (listener.local_addr().unwrap().port(), listener)
        };
        for (held, asked, taken) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "0.0.0.0", true),
            ("127.0.0.1", "[::]", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0", "127.0.0.1", true),
        ] {
            let (port, _listener) = hold(&format!("{held}:0"));
            assert_eq!(tcp(&format!("{asked}:{port}")).is_taken(), taken, "{held} {asked}");
            let v6_only = Address { v6_only: true, ..tcp(&format!("[::]:{port}")) };
            assert!(!v6_only.is_taken(), "{held}");
        }
        let (port, listener) = hold("127.0.0.1:0");
        drop(listener);
        assert!(!tcp(&format!("127.0.0.1:{port}")).is_taken());
        // Not ours at all: bind(2) says so.
        assert!(!tcp(&format!("192.0.2.1:{port}")).is_taken());
    }

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let v4 = [&2u16.to_ne_bytes()[..], &[0x10, 0xdd, 127, 0, 0, 1], &[0; 8]].concat();
        assert_eq!(parse(&v4), Some("127.0.0.1:4317".parse().unwrap()));
        let v6 = [&10u16.to_ne_bytes()[..], &[0x10, 0xdd, 0, 0, 0, 0], &[0; 15], &[1], &7u32.to_ne_bytes()].concat();
        assert_eq!(parse(&v6), Some("[::1%7]:4317".parse().unwrap()));
        assert_eq!(parse(&v6[..24]), Some("[::1]:4317".parse().unwrap()));
        assert_eq!(parse(&1u16.to_ne_bytes()), None);
        assert_eq!(parse(&[]), None);
    }
}
