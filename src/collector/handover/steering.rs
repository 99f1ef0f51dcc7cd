//! Which of two collectors that share their ports gets what arrives. Everything that is already connected stays where
//! it is.
//!
//! ```text
//!                 port's group        program        a new connection goes to
//!   old alone     [old]               none           old
//!   hold          [old]               return 0       old
//!   new starts    [old new]           return 0       old: the newcomer comes last, whatever it does
//!   to_new        [old new]           return 1       new
//!   to_old        [old new]           return 0       old
//!   old has left  [new]               return 0 or 1  new: the last takes the place, and there is no 1
//!   new has left  [old]               return 0 or 1  old: likewise
//!   release       [old] or [new]      none           the one that is left
//! ```
//! - A TCP socket joins the group of its port when it listens, a UDP socket when it is bound; Go does one right after
//!   the other, so we take the order of the bind(2) calls. When a member leaves, the last one takes its place
//!   (`reuseport_detach_sock`).
//! - The program belongs to the group, so it outlives any member, and one member is enough to set it. It dies with the
//!   group.
//! - An index that nobody has is not an error: the kernel chooses by itself among those that are there. So if one dies,
//!   at whatever moment, the other one gets everything, without us. A program that is left behind would send the next
//!   newcomer everything at once: hence `release`, and hence `hold` before every start.
//! - A group is one protocol and one local address: `0.0.0.0`, `127.0.0.1` and `[::]` are three, even with one port.
//!   What only one of the two listens on is not steered. If the new one listens on a more specific address than the old
//!   one, it gets what arrives there as soon as it listens.
//! - A collector may have several sockets in a group of its own accord (contrib's netflow receiver does): everything
//!   goes to its first one while it is steered, and is spread again after `release`.
//! - Clients of an address that moved from specific to general stay with the old one until it stops, and then find the
//!   new one: `widened` sees to it that none is lost.
//! - UDP has no connections: it is the next datagram that goes elsewhere. Multicast reaches both all the time.
//! - A listener that has been closed takes what waits for its accept(2) with it. So steer first, and stop the loser
//!   later.

use std::os::fd::AsFd;

use crate::collector::handover::address::Address;
use crate::collector::handover::binds::BindWatch;
use crate::collector::handover::listener::Listener;
use crate::collector::handover::remote_fd::ListenerCopy;
use crate::os::unix::sys::reuseport_bpf;

/// Before the new one is started: nothing of what the old one listens on by then reaches it.
///
/// # Errors
/// A listener that cannot be steered, or may not be looked at: do not start a second collector.
pub fn hold(old: &BindWatch) -> Result<(), String> {
    steer_to(old.held()?, Vec::new())
}

/// Everything new goes to `new`, wherever both listen.
///
/// # Errors
/// A listener that cannot be steered, or may not be looked at; others may have been: `to_old` brings them back.
pub fn to_new(old: &BindWatch, new: &BindWatch) -> Result<(), String> {
    let (old, mut new) = (old.held()?, new.held()?);
    new.retain(|held| old.iter().any(|other| other.listener == held.listener));
    steer_to(new, old)
}

/// Everything new goes to `old` again.
///
/// # Errors
/// A listener that cannot be steered, or may not be looked at.
pub fn to_old(old: &BindWatch, new: &BindWatch) -> Result<(), String> {
    steer_to(old.held()?, new.held()?)
}

/// After the other one has left.
pub fn release(left: &BindWatch) {
    // What may not be looked at is not going to be handed over from.
    for held in left.held().unwrap_or_default() {
        // There may be no program.
        let _ = reuseport_bpf::detach(held.socket.as_fd());
    }
}

/// What clients of `old` would miss at `new` if `old` were not there, as far as that can be seen.
pub fn missing(old: &BindWatch, new: &BindWatch) -> Vec<Listener> {
    let (mut old, new) = (old.held().unwrap_or_default(), new.addresses().unwrap_or_default());
    old.retain(|held| {
        let covers = |own: Address| new.iter().any(|other| other.is_stream == own.is_stream && other.covers(&own));
        !held.address.is_some_and(covers)
    });
    old.into_iter().map(|held| held.listener).collect()
}

fn steer_to(winners: Vec<ListenerCopy>, others: Vec<ListenerCopy>) -> Result<(), String> {
    for (nth, winner) in winners.iter().enumerate() {
        let listener = &winner.listener;
        // Unix sockets have no groups.
        if *listener == Listener::Unix || winners[..nth].iter().any(|earlier| earlier.listener == *listener) {
            continue;
        }
        let is_before = |other: &&ListenerCopy| other.listener == *listener && other.bound_at < winner.bound_at;
        let index = others.iter().filter(is_before).count();
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        reuseport_bpf::attach(winner.socket.as_fd(), index)
            .map_err(|errno| format!("{listener} cannot be steered: {errno}"))?;
    }
    Ok(())
}
