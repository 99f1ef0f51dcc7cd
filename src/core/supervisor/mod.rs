//! The collector's life as a state machine: `handle(now, Event) -> Vec<Action>` and `deadline() -> Option<Uptime>`.
//!
//! ```text
//!             spawned             proved                     exited
//!  Launching ─────────▶ Starting ────────▶ Running ──┐     ┌────────▶ Launching
//!   ▲  │  ▲ failed       │  │ crashed                ▼     │
//!   │  ▼  └────────┐     │  ├─────────▶ Backoff   Stopping ┴────────▶ Finished
//!  Stopped     Backoff   │  └─────────▶ RollingBack ──▶ Launching
//!                        └──────────────────────────▶ Stopping
//! ```
//! An install is a rename, so it is ordered in whatever state its candidate finds, and the collector is stopped after it.
//! A roll back is a rename too. A candidate that arrives while another config is on trial is held until the verdict, since
//! only then is it known what to go back to. The transitions are in `transition` and
//! `probation`, those with two collectors in `handover`.

mod handover;
mod probation;
mod transition;
mod view;

#[cfg(test)]
mod handover_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transition_table_tests;
#[cfg(test)]
mod walk;

use std::time::Duration;

use super::Uptime;
use super::backoff::Backoff;
use super::event::{Action, ChildId, Event, Problem, TrustLevel};

pub use view::StateName;

/// A SIGTERM in the first 20 ms after "ready" kills the collector before it drains, and ready takes 11–20 ms on a fast host
/// (DESIGN.md, "Measurements"): ten times their sum, for slow hosts.
pub const SETTLE_DELAY: Duration = Duration::from_millis(400);
/// A health check is one small request on this host; collectors that swap take seconds for it.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// A new collector listens on all that it should this soon after min_uptime, or some of it was not to be expected.
pub const GATHER_TIMEOUT: Duration = Duration::from_secs(30);
/// While there is no config, a file that a person puts there is noticed this soon.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A collector that stays up this long, and is healthy then, has proved itself.
    pub min_uptime: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
}

impl Limits {
    /// How long two collectors run at most: the new one's two trials, and the end of whichever has to go.
    pub fn longest_overlap(&self) -> Duration {
        self.min_uptime * 2 + GATHER_TIMEOUT + PROBE_TIMEOUT + self.stop_timeout
    }
}

#[derive(Debug)]
pub struct Supervisor<C> {
    limits: Limits,
    backoff: Backoff,
    state: State<C>,
}

#[derive(Debug)]
enum State<C> {
    /// No config.
    Stopped {
        look_at: Uptime,
    },
    /// A spawn is ordered and not answered yet.
    Launching,
    Starting {
        start: Start<C>,
        proof: ProbationStage,
    },
    Running {
        child: ChildId,
        since: Uptime,
    },
    Stopping {
        leaving: Terminating,
        next: Next,
    },
    /// A roll back is ordered and not answered yet; no collector lives.
    RollingBack {
        problem: Problem,
        held: Option<C>,
    },
    Backoff {
        until: Uptime,
    },
    /// The start of a second one is ordered and not answered yet.
    HandoverStarting {
        old: Serving,
    },
    /// The new one is to prove itself beside the old one.
    HandoverProbation {
        old: Serving,
        start: Start<C>,
        trial: HandoverStage,
    },
    /// A roll back is ordered and not answered yet; the old one serves, and the new one may have ended.
    HandoverRollback {
        old: Serving,
        new: Option<Serving>,
        problem: Problem,
        held: Option<C>,
    },
    /// One serves, the other is ending.
    Draining {
        serving: Serving,
        leaving: Terminating,
        held: Option<C>,
    },
    /// Two are ending, and none will follow. New connections go to the first.
    StoppingBoth {
        first: Terminating,
        second: Terminating,
    },
    Finished,
}

/// A collector that has proved itself and runs.
#[derive(Debug)]
struct Serving {
    child: ChildId,
    since: Uptime,
}

/// A collector that is to end.
#[derive(Debug)]
struct Terminating {
    child: ChildId,
    phase: TerminationStage,
}

/// Where a new collector stands that is to take over from an old one.
#[derive(Clone, Copy, Debug)]
enum HandoverStage {
    /// Not all that it is to listen on is there; the old one serves.
    Gathering {
        look_at: Uptime,
        until: Uptime,
    },
    /// It serves.
    Waiting {
        until: Uptime,
    },
    Probing {
        until: Uptime,
    },
}

/// A collector that is alive and has not proved itself.
#[derive(Debug)]
struct Start<C> {
    child: ChildId,
    since: Uptime,
    standing: TrustLevel,
    /// Arrived meanwhile; installed when the verdict is known.
    held: Option<C>,
}

/// Where a collector stands in its probation.
#[derive(Debug)]
enum ProbationStage {
    Waiting {
        until: Uptime,
    },
    /// Asked for its health. `retry_delay` is the pause after a failure that there is no going back from.
    Probing {
        until: Uptime,
        retry_delay: Duration,
    },
    /// It runs and is not healthy.
    Failed {
        problem: Problem,
        probe_at: Uptime,
        retry_delay: Duration,
    },
}

/// How far a stop has come.
#[derive(Debug)]
enum TerminationStage {
    /// Too young for a signal.
    SignalDelayed {
        until: Uptime,
    },
    TermSent {
        kill_at: Uptime,
    },
    KillSent,
}

/// What follows when the collector has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Start,
    Finish,
}

impl<C> Supervisor<C> {
    /// Nothing runs yet; the first deadline is due at once and starts the collector. `seed` is for the backoff's jitter.
    pub fn new(limits: Limits, seed: u64) -> Supervisor<C> {
        Supervisor { limits, backoff: Backoff::new(seed), state: State::Stopped { look_at: Uptime::ZERO } }
    }

    pub fn handle(&mut self, now: Uptime, event: Event<C>) -> Vec<Action<C>> {
        let mut turn = transition::Transition::new(now, self.limits, &mut self.backoff);
        let state = std::mem::replace(&mut self.state, State::Finished);
        self.state = state.after(event, &mut turn);
        turn.into_actions()
    }

    /// When `DeadlinePassed` is due; `None` means that nothing will happen by itself.
    pub fn deadline(&self) -> Option<Uptime> {
        match &self.state {
            State::Stopped { look_at } => Some(*look_at),
            State::Starting { proof: ProbationStage::Waiting { until }, .. } => Some(*until),
            State::Starting { proof: ProbationStage::Probing { until, .. }, .. } => Some(*until),
            State::Starting { proof: ProbationStage::Failed { probe_at, .. }, .. } => Some(*probe_at),
            State::Stopping { leaving, .. } | State::Draining { leaving, .. } => leaving.deadline(),
            State::StoppingBoth { first, second } => first.deadline().into_iter().chain(second.deadline()).min(),
            State::Backoff { until } => Some(*until),
            State::HandoverProbation { trial: HandoverStage::Gathering { look_at, .. }, .. } => Some(*look_at),
            State::HandoverProbation {
                trial: HandoverStage::Waiting { until } | HandoverStage::Probing { until },
                ..
            } => Some(*until),
            State::Launching
            | State::Running { .. }
            | State::RollingBack { .. }
            | State::HandoverStarting { .. }
            | State::HandoverRollback { .. }
            | State::Finished => None,
        }
    }
}

impl Terminating {
    fn deadline(&self) -> Option<Uptime> {
        match self.phase {
            TerminationStage::SignalDelayed { until } => Some(until),
            TerminationStage::TermSent { kill_at } => Some(kill_at),
            TerminationStage::KillSent => None,
        }
    }
}
