//! The end of a hand-over to an address that widens: before the old collector is terminated it accepts what has been
//! connected where only that gets it (`collector::handover::widened`).
//!
//! Until then the answer of the new one's health check is held back: so the core promotes it, and ends the old one,
//! when nothing is left to lose. If the new one dies meanwhile, the old one takes new connections again.

use std::time::Duration;

use super::collectors::{Collectors, LiveCollector};
use crate::collector::handover::listener::Listener;
use crate::collector::handover::widened::{self, Closed};
use crate::core::Uptime;
use crate::core::event::{ChildId, Problem};
use crate::core::supervisor::PROBE_TIMEOUT;

/// A handshake on this host takes no time, and one with another host a round trip.
const LOCAL_HANDSHAKE: Duration = Duration::from_millis(20);
const REMOTE_HANDSHAKE: Duration = Duration::from_millis(300);
/// A client sends a dropped SYN again after a second (RFC 6298): the old collector is to have closed by then.
const LONGEST_DRAIN: Duration = Duration::from_millis(700);
/// Between two looks at what waits for accept(2), which nothing reports.
const DRAIN_INTERVAL: Duration = Duration::from_millis(5);
/// Before the core gives up waiting for the answer of a health check.
const PROBE_RESERVE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Drain {
    waiting: Option<Waiting>,
    /// When the answer of a health check is too late.
    answer_by: Uptime,
}

/// The new collector is healthy, and the old one accepts what has been connected where only that gets it.
struct Waiting {
    child: ChildId,
    /// From here on it is done if nothing waits.
    settled_at: Uptime,
    /// Here it is given up.
    until: Uptime,
    look_at: Uptime,
    listeners: String,
}

/// The new collector may take everything over.
pub(super) struct Drained {
    pub(super) child: ChildId,
    /// Who may lose a connection all the same.
    pub(super) problem: Option<Problem>,
}

impl Drain {
    /// When to look at the connections that the old collector is to accept.
    pub(super) fn deadline(&self) -> Option<Uptime> {
        self.waiting.as_ref().map(|waiting| waiting.look_at)
    }

    pub(super) fn asks_health(&mut self, now: Uptime) {
        self.answer_by = now + PROBE_TIMEOUT - PROBE_RESERVE;
    }

    /// `child` is healthy. `None` when the old one has to accept some connections first: `drained` says when it has.
    pub(super) fn begin(&mut self, collectors: &Collectors, child: ChildId, now: Uptime) -> Option<Drained> {
        let Some((old, new)) = collectors.pair(child) else { return Some(Drained { child, problem: None }) };
        let closed = || -> Result<Closed, Problem> {
            let (own, other) = (old.process.binds()?, new.process.binds()?);
            match widened::close(own, other) {
                Ok(closed) if !closed.listeners.is_empty() && old.outlives_agent() => {
                    Err("the old collector would outlive a killed agent".to_string())
                }
                closed => closed,
            }
        };
        let closed = match closed() {
            Ok(closed) if closed.listeners.is_empty() => return Some(Drained { child, problem: None }),
            Ok(closed) => closed,
            Err(problem) => {
                reopen(old);
                let problem = format!("the old collector takes new connections until it exits: {problem}");
                return Some(Drained { child, problem: Some(problem) });
            }
        };
        let listeners: Vec<String> = closed.listeners.iter().map(Listener::to_string).collect();
        let listeners = listeners.join(", ");
        log::info!(listeners = listeners.as_str(); "the old collector takes no new connections any more");
        let settled_at = now + if closed.is_local { LOCAL_HANDSHAKE } else { REMOTE_HANDSHAKE };
        let until = (now + LONGEST_DRAIN).min(self.answer_by);
        self.waiting = Some(Waiting { child, settled_at, until, look_at: settled_at.min(until), listeners });
        None
    }

    /// Once the old collector has accepted what was connected, or it has taken too long.
    pub(super) fn drained(&mut self, collectors: &Collectors, now: Uptime) -> Option<Drained> {
        let waiting = self.waiting.as_mut().filter(|waiting| now >= waiting.look_at)?;
        let Some((old, new)) = collectors.pair(waiting.child) else {
            self.waiting = None;
            return None;
        };
        let binds = old.process.binds().ok().zip(new.process.binds().ok());
        let is_drained = binds.is_none_or(|(old, new)| widened::is_drained(old, new));
        if now < waiting.until && !(is_drained && now >= waiting.settled_at) {
            waiting.look_at = waiting.until.min(now + DRAIN_INTERVAL);
            return None;
        }
        let Waiting { child, listeners, .. } = self.waiting.take()?;
        let problem = format!("the old collector did not accept all connections at {listeners}");
        Some(Drained { child, problem: Some(problem).filter(|_| !is_drained) })
    }
}

/// Has one take new connections again.
pub(super) fn reopen(old: &LiveCollector) {
    if let Ok(binds) = old.process.binds() {
        widened::reopen(binds);
    }
}
