//! Whether the active config is confirmed: it has proved itself, and has run for `confirm_time` since without three
//! unexpected exits.
//!
//! It is kept across states, since exits and time outlive a collector; what is restored is the store's business.

use std::time::Duration;

use crate::core::Uptime;
use crate::core::event::{Problem, TrustLevel};

/// So many unexpected exits of an unconfirmed config, and it is rolled back.
pub const MAX_EXITS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Confirmation {
    /// `None` if the active config is confirmed, or has not proved itself.
    unconfirmed: Option<Unconfirmed>,
    /// What the old collector of a hand-over runs, while another config is active.
    predecessor: Option<Unconfirmed>,
}

#[derive(Debug)]
struct Unconfirmed {
    /// At most `MAX_EXITS`.
    exits: u32,
    /// Of the collectors that exited, as far as this agent has seen them.
    uptimes: Vec<Duration>,
    latest_problem: Problem,
    until: Uptime,
    has_fallback: bool,
}

impl Confirmation {
    /// The active config has proved itself for the first time.
    pub(super) fn begin(&mut self, until: Uptime, has_fallback: bool) {
        *self = Confirmation { unconfirmed: Some(Unconfirmed::new(0, until, has_fallback)), predecessor: None };
    }

    /// A collector was started on the active config. The time of one that this agent knows goes on; for one of an
    /// earlier agent it starts anew.
    pub(super) fn started(&mut self, trust: TrustLevel, until: Uptime) {
        let TrustLevel::Unconfirmed { exits, has_fallback } = trust else { return self.forget() };
        // Beside another collector it may be the config of that one.
        self.unconfirmed = self.unconfirmed.take().or(self.predecessor.take());
        let known = self.unconfirmed.get_or_insert_with(|| Unconfirmed::new(exits, until, has_fallback));
        known.has_fallback = has_fallback;
        if known.exits >= MAX_EXITS {
            // It has to run that long without another one: what it waited for this start does not count.
            known.until = until;
        }
    }

    /// Another config is active.
    pub(super) fn forget(&mut self) {
        *self = Confirmation::default();
    }

    /// Another config is active, and this one's collector goes on.
    pub(super) fn set_aside(&mut self) {
        // Once more, if it could not be restored.
        self.predecessor = self.unconfirmed.take().or(self.predecessor.take());
    }

    /// That one is active again.
    pub(super) fn restore(&mut self) {
        self.unconfirmed = self.predecessor.take();
    }

    /// Its collector exited unexpectedly. How many times, if that is to be written down.
    pub(super) fn exited(&mut self, uptime: Duration, problem: &Problem, until: Uptime) -> Option<u32> {
        let known = self.unconfirmed.as_mut()?;
        known.latest_problem.clone_from(problem);
        if known.exits >= MAX_EXITS {
            // There was nothing to go back to, or it failed.
            known.until = until;
            return None;
        }
        known.exits += 1;
        known.uptimes.push(uptime);
        if known.exits == MAX_EXITS {
            known.until = until;
        }
        Some(known.exits)
    }

    /// Why it is to be rolled back, if it is.
    pub(super) fn failed(&self) -> Option<Problem> {
        let known = self.unconfirmed.as_ref().filter(|known| known.exits >= MAX_EXITS && known.has_fallback)?;
        let uptimes: Vec<String> =
            known.uptimes.iter().map(|uptime| format!("{:.1} s", uptime.as_secs_f64())).collect();
        let uptimes = if uptimes.is_empty() { String::new() } else { format!(" (after {})", uptimes.join(", ")) };
        Some(format!(
            "the collector exited unexpectedly {} times within confirm-time{uptimes}; the last time: {}",
            known.exits, known.latest_problem
        ))
    }

    /// When it is confirmed, if its collector runs then.
    pub(super) fn until(&self) -> Option<Uptime> {
        self.unconfirmed.as_ref().map(|known| known.until)
    }

    /// Whether it is confirmed now; asked once a collector runs that has proved itself.
    pub(super) fn take_due(&mut self, now: Uptime) -> bool {
        self.unconfirmed.take_if(|known| now >= known.until).is_some()
    }
}

impl Unconfirmed {
    fn new(exits: u32, until: Uptime, has_fallback: bool) -> Unconfirmed {
        let (uptimes, latest_problem) = (Vec::new(), Problem::new());
        Unconfirmed { exits, uptimes, latest_problem, until, has_fallback }
    }
}
