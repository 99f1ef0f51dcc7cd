//! Addresses that widen: the old collector listens on `127.0.0.1`, the new one on all addresses at that port.
//!
//! Of the two the kernel takes the more specific listener, which no steering changes: the old one gets everything until
//! it closes, and what waits for its accept(2) then is reset. So before it is terminated its listener drops SYNs
//! (`sys::syn_filter`), and what has been connected is accepted. A client whose SYN is dropped sends it again after a
//! second (RFC 6298), when the new one is the only one.
//!
//! UDP has no connections to complete: there what waits in the old one's socket is lost, as at any end.

use std::os::fd::AsFd;

use rustix::event::PollFlags;

use crate::collector::handover::binds::BindWatch;
use crate::collector::handover::listener::Listener;
use crate::collector::handover::remote_fd::ListenerCopy;
use crate::os::unix::sys::syn_filter;
use crate::os::unix::wait::ready_to_read;

/// Listeners that take no new connections any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub listeners: Vec<Listener>,
    /// Handshakes of other hosts take longer than those of this one.
    pub is_local: bool,
}

/// Has the listeners of `old` that `new` covers only more generally take no new connections.
///
/// # Errors
/// One that has to take them to its end, or we may not look; others may have been closed: `reopen` brings them back.
pub fn close(old: &BindWatch, new: &BindWatch) -> Result<Closed, String> {
    let widened = find(old, new)?;
    for held in &widened {
        let listener = &held.listener;
        // What lives on without us would never take any again.
        if !held.is_childs_own {
            return Err(format!("{listener} is not the collector's own but a process's that it has started"));
        }
        syn_filter::attach(held.socket.as_fd()).map_err(|errno| format!("{listener} cannot be closed: {errno}"))?;
    }
    let is_local = |held: &ListenerCopy| held.address.is_some_and(|address| address.at.ip().is_loopback());
    let is_local = widened.iter().all(is_local);
    Ok(Closed { listeners: widened.into_iter().map(|held| held.listener).collect(), is_local })
}

/// Whether no connection waits at those listeners for its accept(2).
pub fn is_drained(old: &BindWatch, new: &BindWatch) -> bool {
    let waits =
        |held: &ListenerCopy| ready_to_read(held.socket.as_fd()).is_ok_and(|ready| ready.contains(PollFlags::IN));
    // What may not be looked at is not waited for.
    !find(old, new).unwrap_or_default().iter().any(waits)
}

/// Has all listeners of one take new connections again.
pub fn reopen(old: &BindWatch) {
    for held in old.held().unwrap_or_default() {
        // There may be no filter.
        let _ = syn_filter::detach(held.socket.as_fd());
    }
}

fn find(old: &BindWatch, new: &BindWatch) -> Result<Vec<ListenerCopy>, String> {
    let new = new.addresses()?;
    let mut old = old.held()?;
    old.retain(|held| {
        let Some(own) = held.address.filter(|own| own.is_stream) else { return false };
        !new.iter().any(|other| other.is_same(&own)) && new.iter().any(|other| other.is_stream && other.covers(&own))
    });
    Ok(old)
}
