//! What one living collector binds. Each bind(2) of it, of its threads and of its children waits for us
//! (`sys::before_exec`): the socket gets SO_REUSEPORT, so that a second collector can share its port, is remembered,
//! and the call goes on. One that would share it with anybody else gets none, so that bind(2) fails as it would without
//! us.
//!
//! We never keep a copy of a socket. A listener lives as long as anybody has it open: the port of a dead collector
//! would stay open in our hands, and connections would queue where nobody accepts them. So a socket is remembered as
//! process, descriptor and cookie (SO_COOKIE, unique until reboot), and copied again when it is needed.
//!
//! Whatever goes wrong, the call goes on: at worst a port cannot be shared, and `shareable` says so.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::Pid;

use crate::collector::handover::address::Address;
use crate::collector::handover::listener::Listener;
use crate::collector::handover::remote_fd::{ListenerCopy, copy, hidden, process_of};
use crate::collector::handover::unnamed_sockets::UnnamedSockets;
use crate::os::child::BindReporter;
use crate::os::unix::sys::seccomp_bind::{self, Notification};
use crate::os::unix::wait::ready_to_read;
use crate::os::wait::Waitable;

/// Most calls served at a turn, so that a collector that does nothing but bind keeps nobody else from his turn.
const SERVE_LIMIT: usize = 64;
/// Most sockets that are remembered: collectors have a dozen, and a hundred bytes each are 100 KiB.
const BOUND_LIMIT: usize = 1024;
/// Least binds between two looks at which of them are closed.
const SWEEP_INTERVAL: usize = 64;

#[derive(Debug)]
pub struct BindWatch {
    notifications: OwnedFd,
    pub(super) child: Pid,
    /// In the order of their bind(2).
    pub(super) bound: Vec<Bound>,
    /// Unix sockets whose file was not asked for.
    pub(super) unnamed: UnnamedSockets,
    /// After so many more, those that are closed are forgotten.
    until_sweep: usize,
    /// The first bind(2) that we could do nothing for.
    unprepared: Option<String>,
    /// The latest port that it wanted twice.
    wanted_twice: Option<u16>,
}

#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub process: Pid,
    pub fd: RawFd,
    pub cookie: u64,
    bound_at: Instant,
    /// What it asked for; `None` when that could not be read, or is no IP address.
    wanted: Option<Address>,
    /// It had SO_REUSEPORT of its own accord.
    shares: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    Nothing,
    Binds,
    /// Nobody is left who could bind: the descriptor stays readable, so it must leave the wait.
    Ended,
}

/// Why a child is not watched.
#[derive(Debug)]
pub enum Refusal {
    /// It has no filter, so nothing is missing.
    Unfiltered(String),
    /// It has a filter whose notifications are lost: every bind(2) will fail.
    Lost(io::Error),
}

/// Our end of the channel on which a child says whether its bind(2) calls are reported.
#[derive(Debug)]
pub struct BindChannel(OwnedFd);

impl BindChannel {
    /// Our end and the child's (`sys::before_exec::before_exec`).
    pub fn pair() -> io::Result<(BindChannel, BindReporter)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((BindChannel(ours), theirs.into()))
    }

    /// Ready when the child has sent something.
    pub(super) fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.0)
    }
}

impl BindWatch {
    /// Takes what `child` has sent, or will never send, since it has been executed or has ended.
    pub fn accept(channel: &BindChannel, child: u32) -> Result<BindWatch, Refusal> {
        let unfiltered = |errno| Refusal::Unfiltered(format!("the kernel refuses to report its binds: {errno}"));
        let mut byte = [0u8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = rustix::net::recvmsg(&channel.0, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags);
        let got = got.map_err(|errno| match errno {
            // Nothing of a child that has been executed: it has not tried.
            Errno::AGAIN => unfiltered(errno),
            // What it sent goes with the channel, and then its every bind(2) fails.
            errno => Refusal::Lost(errno.into()),
        })?;
        let rights = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let child = child.try_into().ok().and_then(Pid::from_raw);
        match (got.bytes, byte[0], rights.zip(child)) {
            (1, 0, Some((notifications, child))) => Ok(BindWatch {
                notifications,
                child,
                bound: Vec::new(),
                unnamed: UnnamedSockets::default(),
                until_sweep: SWEEP_INTERVAL,
                unprepared: None,
                wanted_twice: None,
            }),
            // We have no descriptor left to take it with.
            (1, 0, None) => Err(Refusal::Lost(Errno::MFILE.into())),
            (1, errno, _) => Err(unfiltered(Errno::from_raw_os_error(errno.into()))),
            _ => Err(unfiltered(Errno::NOMSG)),
        }
    }

    /// Ready when a process waits in bind(2), or when none is left.
    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.notifications)
    }

    /// Does what is to be done for every bind(2) that waits; never blocks. `partners` are those with whom it may share
    /// ports.
    pub fn serve(&mut self, partners: &[&BindWatch]) -> Served {
        let mut served = Served::Nothing;
        for _ in 0..SERVE_LIMIT {
            // Receiving blocks unless there is one.
            let Ok(ready) = ready_to_read(self.notifications.as_fd()) else { return served };
            if !ready.contains(PollFlags::IN) {
                return if ready.is_empty() { served } else { Served::Ended };
            }
            // The caller may die at any moment.
            let Ok(notification) = seccomp_bind::receive(self.notifications.as_fd()) else { continue };
            match self.prepare(notification, partners) {
                Ok(bound) => self.bound.extend(bound),
                Err(problem) => {
                    log::debug!(problem = problem.as_str(); "a socket of the collector cannot be shared");
                    self.unprepared.get_or_insert(problem);
                }
            }
            let _ = seccomp_bind::resume(self.notifications.as_fd(), notification.id);
            served = Served::Binds;
        }
        served
    }

    /// Whether nobody is left who could bind: neither the child nor anything that it has started, in whatever group or
    /// session. Until Linux 6.11 a process counts until it is reaped.
    pub fn has_ended(&self) -> bool {
        ready_to_read(self.notifications.as_fd()).is_ok_and(|ready| ready.contains(PollFlags::HUP))
    }

    /// Where the collector can be reached now; not to be asked while it is being stopped, when our copies, however
    /// short-lived, could take a connection that its successor should have.
    ///
    /// # Errors
    /// We may not look, see `held`.
    pub fn listeners(&self) -> Result<Vec<Listener>, String> {
        Ok(self.held()?.into_iter().map(|held| held.listener).collect())
    }

    /// The same, without Unix sockets.
    ///
    /// # Errors
    /// We may not look, see `held`.
    pub(super) fn addresses(&self) -> Result<Vec<Address>, String> {
        Ok(self.held()?.into_iter().filter_map(|held| held.address).collect())
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
    /// We may not look any more: a security module can take that right away from a running host (Yama's ptrace_scope).
    /// What was bound until then is as it was, but nothing is known of it.
    pub(super) fn held(&self) -> Result<Vec<ListenerCopy>, String> {
        self.bound.iter().filter_map(|bound| bound.hold(self.child).transpose()).collect()
    }

    /// Whether none was hidden from us.
    pub fn saw_all(&self) -> bool {
        self.unprepared.is_none()
    }

    /// The latest port that two sockets of it wanted to themselves.
    pub fn wanted_twice(&self) -> Option<u16> {
        self.wanted_twice
    }

    /// What to remember of a socket that is about to be bound; `None` when it is none that anybody could connect to.
    fn prepare(&mut self, notification: Notification, partners: &[&BindWatch]) -> Result<Option<Bound>, String> {
        let process = process_of(notification.thread).unwrap_or(self.child);
        let copy = copy(process, notification.socket);
        let wanted = copy.as_ref().ok().and_then(|copy| Address::wanted(process, &notification, copy));
        // Its number may have become another's while we looked.
        if !seccomp_bind::still_stands(self.notifications.as_fd(), notification.id) {
            return Ok(None);
        }
        let copy = match copy {
            // bind(2) will say so itself, as of one that is bound already.
            Err(Errno::BADF) => return Ok(None),
            Ok(copy) if Address::of(&copy).is_some() => return Ok(None),
            Ok(copy) => copy,
            Err(errno) => return Err(hidden(process, errno)),
        };
        let Ok(domain) = sockopt::socket_domain(&copy) else { return Ok(None) };
        let is_inet = matches!(domain, AddressFamily::INET | AddressFamily::INET6);
        let carries_data = matches!(sockopt::socket_type(&copy), Ok(SocketType::STREAM | SocketType::DGRAM));
        // The kernel may give a UDP socket that wants any port, and can be shared, the port of another such socket.
        let any_port = wanted.is_some_and(|wanted| wanted.at.port() == 0);
        if domain != AddressFamily::UNIX && !(is_inet && carries_data && !any_port) {
            return Ok(None);
        }
        // What was known by this descriptor is closed, or was in vain.
        self.bound.retain(|known| (known.process, known.fd) != (process, notification.socket));
        if !self.has_room() {
            return Err(format!("it has bound more than {BOUND_LIMIT} sockets"));
        }
        let cookie =
            sockopt::socket_cookie(&copy).map_err(|errno| format!("cannot read a socket's cookie: {errno}"))?;
        let shares = is_inet && sockopt::socket_reuseport(&copy) == Ok(true);
        if is_inet {
            let is_shared = wanted.is_none_or(|wanted| self.may_share(&wanted, shares, partners));
            sockopt::set_socket_reuseport(&copy, is_shared)
                .map_err(|errno| format!("cannot set SO_REUSEPORT on a socket: {errno}"))?;
        }
        let bound = Bound { process, fd: notification.socket, cookie, bound_at: Instant::now(), wanted, shares };
        self.unnamed.add(domain, &bound);
        Ok(Some(bound))
    }

    /// Whether one more socket can be remembered. Those of processes that have ended are forgotten, and whatever else
    /// is closed: so seldom that a bind(2) costs no more for it, however many there are.
    fn has_room(&mut self) -> bool {
        self.until_sweep -= 1;
        if self.until_sweep == 0 {
            self.bound.retain(|known| !matches!(known.copy(), Ok(None)));
            self.until_sweep = self.bound.len().max(SWEEP_INTERVAL);
        }
        self.bound.len() < BOUND_LIMIT
    }

    /// How many sockets are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.bound.len()
    }

    /// Whether sharing hides no conflict: with another socket of its own, or with a process that is no partner. When we
    /// may not look, a port that is not shared breaks more.
    fn may_share(&mut self, wanted: &Address, shares: bool, partners: &[&BindWatch]) -> bool {
        let is_own = |known: &&Bound| !(shares && known.shares);
        if self.bound.iter().filter(is_own).any(|known| known.has(wanted) == Ok(true)) {
            self.wanted_twice = Some(wanted.at.port());
            return false;
        }
        let mut theirs = partners.iter().flat_map(|partner| &partner.bound);
        shares || theirs.any(|known| known.has(wanted) != Ok(false)) || !wanted.is_taken()
    }
}

impl Bound {
    /// Whether it has an address, or is about to get it, with which nobody else could have the one that is wanted.
    fn has(&self, wanted: &Address) -> Result<bool, String> {
        // A copy of a socket that is just being closed keeps it open: none without need.
        if self.wanted.is_none_or(|own| !own.clashes(wanted)) {
            return Ok(false);
        }
        let socket = self.copy()?;
        // Its bind(2), which we have let go on, may not have been made yet.
        Ok(socket.is_some_and(|socket| Address::of(&socket).is_none_or(|own| own.clashes(wanted))))
    }

    /// `None` when it has been closed, does not listen or is connected.
    fn hold(&self, child: Pid) -> Result<Option<ListenerCopy>, String> {
        Ok(self.copy()?.and_then(|socket| self.look_at(socket, child)))
    }

    /// `None` when it has been closed.
    pub(super) fn copy(&self) -> Result<Option<OwnedFd>, String> {
        match copy(self.process, self.fd) {
            Ok(socket) => Ok(Some(socket).filter(|socket| sockopt::socket_cookie(socket) == Ok(self.cookie))),
            // It is closed, its process has ended, or its number is a thread's by now.
            Err(Errno::BADF | Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(errno) => Err(hidden(self.process, errno)),
        }
    }

    fn look_at(&self, socket: OwnedFd, child: Pid) -> Option<ListenerCopy> {
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
        let address = Address::of(&socket);
        let is_childs_own = self.process == child;
        takes_anything.then_some(ListenerCopy { listener, address, socket, bound_at: self.bound_at, is_childs_own })
    }
}
