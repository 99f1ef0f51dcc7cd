//! What one living collector binds. Each bind(2) of it, of its threads and of its children waits for us (`sys::child`): the
//! socket gets SO_REUSEPORT, so that a second collector can share its port, is remembered, and the call goes on.
//!
//! We never keep a copy of a socket. A listener lives as long as anybody has it open: the port of a dead collector would stay
//! open in our hands, and connections would queue where nobody accepts them. So a socket is remembered as process, descriptor
//! and cookie (SO_COOKIE, unique until reboot), and copied again when it is needed.
//!
//! Whatever goes wrong, the call goes on: at worst a port cannot be shared, and `shareable` says so.

use std::fmt;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use crate::sys::notify::{self, Notification};

/// Most calls served at a turn, so that a collector that does nothing but bind keeps nobody else from his turn.
const SERVE_LIMIT: usize = 64;

#[derive(Debug)]
pub struct BindWatch {
    notifications: OwnedFd,
    child: Pid,
    /// In the order of their bind(2).
    bound: Vec<Bound>,
    /// The first bind(2) that we could do nothing for.
    unprepared: Option<String>,
}

#[derive(Clone, Debug)]
struct Bound {
    process: Pid,
    fd: RawFd,
    cookie: u64,
    bound_at: Instant,
}

/// Something that clients reach the collector at. Two collectors with an equal one share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix,
}

impl Listener {
    pub fn port(&self) -> Option<u16> {
        match self {
            Listener::Tcp(address) | Listener::Udp(address) => Some(address.port()),
            Listener::Unix => None,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Tcp(address) => write!(f, "TCP {address}"),
            Listener::Udp(address) => write!(f, "UDP {address}"),
            Listener::Unix => f.write_str("a Unix socket"),
        }
    }
}

/// A copy of a socket that listens now, not to be kept: see the module.
pub(super) struct Held {
    pub listener: Listener,
    pub socket: OwnedFd,
    pub bound_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    Nothing,
    Binds,
    /// Nobody is left who could bind: the descriptor stays readable, so it must leave the poll set.
    Ended,
}

/// Why a child is not watched.
#[derive(Debug)]
pub enum Refusal {
    /// It has no filter, so nothing is missing.
    Unfiltered(String),
    /// It has a filter whose notifications are lost: every bind(2) will fail.
    Lost(Errno),
}

impl BindWatch {
    /// Our end and the child's (`sys::child::before_exec`).
    pub fn channel() -> Result<(OwnedFd, OwnedFd), Errno> {
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
    }

    /// Takes what `child` has sent, or will never send, since it has been executed or has ended.
    pub fn accept(channel: &OwnedFd, child: Pid) -> Result<BindWatch, Refusal> {
        let unfiltered = |errno| Refusal::Unfiltered(format!("the kernel refuses to report its binds: {errno}"));
        let mut byte = [0u8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = rustix::net::recvmsg(channel, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags);
        let got = got.map_err(|errno| match errno {
            // Nothing of a child that has been executed: it has not tried.
            Errno::AGAIN => unfiltered(errno),
            // What it sent goes with the channel, and then its every bind(2) fails.
            errno => Refusal::Lost(errno),
        })?;
        let rights = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match (got.bytes, byte[0], rights) {
            (1, 0, Some(notifications)) => Ok(BindWatch { notifications, child, bound: Vec::new(), unprepared: None }),
            // We have no descriptor left to take it with.
            (1, 0, None) => Err(Refusal::Lost(Errno::MFILE)),
            (1, errno, _) => Err(unfiltered(Errno::from_raw_os_error(errno.into()))),
            _ => Err(unfiltered(Errno::NOMSG)),
        }
    }

    /// Readable when somebody waits in bind(2), or when nobody is left.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }

    /// Does what is to be done for every bind(2) that waits; never blocks.
    pub fn serve(&mut self) -> Served {
        let mut served = Served::Nothing;
        for _ in 0..SERVE_LIMIT {
            // Receiving blocks unless there is one.
            let ready = match ready(self.fd()) {
                Ok(ready) => ready,
                Err(_) => return served,
            };
            if !ready.contains(PollFlags::IN) {
                return if ready.is_empty() { served } else { Served::Ended };
            }
            // The caller may die at any moment.
            let Ok(notification) = notify::receive(self.fd()) else { continue };
            match self.prepare(notification) {
                Ok(Some(bound)) => {
                    // A descriptor that is bound anew is a new socket, so the list stays as short as the table of descriptors.
                    self.bound.retain(|known| (known.process, known.fd) != (bound.process, bound.fd));
                    self.bound.push(bound);
                }
                Ok(None) => {}
                Err(problem) => {
                    log::debug!(problem = problem.as_str(); "a socket of the collector cannot be shared");
                    self.unprepared.get_or_insert(problem);
                }
            }
            let _ = notify::resume(self.fd(), notification.id);
            served = Served::Binds;
        }
        served
    }

    /// Where the collector can be reached now; not to be asked while it is being stopped, when our copies, however
    /// short-lived, could take a connection that its successor should have.
    ///
    /// # Errors
    /// We may not look, see `held`.
    pub fn listeners(&self) -> Result<Vec<Listener>, String> {
        Ok(self.held()?.into_iter().map(|held| held.listener).collect())
    }

    /// Whether each of its listeners can be shared and steered; the error is what stands in the way.
    pub fn shareable(&self) -> Result<(), String> {
        if let Some(problem) = &self.unprepared {
            return Err(problem.clone());
        }
        for held in self.held()? {
            if held.listener == Listener::Unix {
                return Err("it listens on a Unix socket".to_string());
            }
            if sockopt::socket_protocol(&held.socket) == Ok(Some(ipproto::MPTCP)) {
                return Err(format!("it listens on {} with Multipath TCP, which cannot be steered", held.listener));
            }
        }
        Ok(())
    }

    /// # Errors
    /// We may not look any more: a security module can take that right away from a running host (Yama's ptrace_scope). What was
    /// bound until then is as it was, but nothing is known of it.
    pub(super) fn held(&self) -> Result<Vec<Held>, String> {
        self.bound.iter().filter_map(|bound| bound.hold().transpose()).collect()
    }

    /// What to remember of a socket that is about to be bound; `None` when it is none that anybody could connect to.
    fn prepare(&self, notification: Notification) -> Result<Option<Bound>, String> {
        let process = process_of(notification.thread).unwrap_or(self.child);
        let copy = copy(process, notification.socket);
        let any_port = asks_for_any_port(process, notification);
        // Its number may have become another's while we looked.
        if !notify::still_stands(self.fd(), notification.id) {
            return Ok(None);
        }
        let copy = match copy {
            Ok(copy) => copy,
            // bind(2) will say so itself.
            Err(Errno::BADF) => return Ok(None),
            Err(errno) => return Err(hidden(process, errno)),
        };
        let Ok(domain) = sockopt::socket_domain(&copy) else { return Ok(None) };
        let is_inet = matches!(domain, AddressFamily::INET | AddressFamily::INET6);
        let carries_data = matches!(sockopt::socket_type(&copy), Ok(SocketType::STREAM | SocketType::DGRAM));
        // The kernel may give a UDP socket that wants any port, and can be shared, the port of another such socket.
        if domain != AddressFamily::UNIX && !(is_inet && carries_data && !any_port) {
            return Ok(None);
        }
        if is_inet {
            sockopt::set_socket_reuseport(&copy, true)
                .map_err(|errno| format!("a port cannot be made shareable: {errno}"))?;
        }
        let cookie = sockopt::socket_cookie(&copy).map_err(|errno| format!("a socket has no cookie: {errno}"))?;
        Ok(Some(Bound { process, fd: notification.socket, cookie, bound_at: Instant::now() }))
    }
}

impl Bound {
    /// `None` when it has been closed, does not listen or is connected.
    fn hold(&self) -> Result<Option<Held>, String> {
        let socket = match copy(self.process, self.fd) {
            Ok(socket) => socket,
            // It is closed, its process has ended, or its number is a thread's by now.
            Err(Errno::BADF | Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(hidden(self.process, errno)),
        };
        Ok(self.look_at(socket))
    }

    fn look_at(&self, socket: OwnedFd) -> Option<Held> {
        if sockopt::socket_cookie(&socket) != Ok(self.cookie) {
            return None;
        }
        let is_stream = sockopt::socket_type(&socket) == Ok(SocketType::STREAM);
        let takes_anything = match is_stream {
            true => sockopt::socket_acceptconn(&socket) == Ok(true),
            false => rustix::net::getpeername(&socket).is_err(),
        };
        let local = rustix::net::getsockname(&socket).ok()?;
        let listener = match SocketAddr::try_from(local) {
            Err(_) => Listener::Unix,
            Ok(address) if address.port() == 0 => return None,
            Ok(address) if is_stream => Listener::Tcp(address),
            Ok(address) => Listener::Udp(address),
        };
        takes_anything.then_some(Held { listener, socket, bound_at: self.bound_at })
    }
}

fn hidden(process: Pid, errno: Errno) -> String {
    format!("a socket of process {process} cannot be looked at: {errno}")
}

fn ready(fd: BorrowedFd<'_>) -> Result<PollFlags, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&Timespec::default())))?;
    Ok(fds[0].revents())
}

/// pidfd_getfd(2) asks for the right to trace the process, which a parent has over its child unless something takes it away;
/// the copy is close-on-exec.
fn copy(process: Pid, fd: RawFd) -> Result<OwnedFd, Errno> {
    let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty())?;
    rustix::process::pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty())
}

/// The process that a thread belongs to (proc_pid_status(5)).
fn process_of(thread: u32) -> Option<Pid> {
    let status = fs_err::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    Pid::from_raw(number.trim().parse().ok()?)
}

/// Whether the address says port 0; false when it cannot be read, since a port that is not shared breaks more.
fn asks_for_any_port(process: Pid, notification: Notification) -> bool {
    // Family and port: the same place in `sockaddr_in` and `sockaddr_in6`.
    let mut start = [0u8; 4];
    let memory = fs_err::File::open(format!("/proc/{process}/mem"));
    let read = memory.and_then(|memory| memory.file().read_exact_at(&mut start, notification.address));
    read.is_ok() && notification.length >= 4 && start[2..] == [0, 0]
}
