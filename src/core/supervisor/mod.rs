//! The collector's life as a state machine: `handle(now, Event) -> Vec<Action>` and `deadline() -> Option<Uptime>`.
//!
//! ```text
//!              spawned             proved                     exited
//!   Launching ─────────▶ Starting ────────▶ Running ──┐     ┌────────▶ Launching
//!    ▲  │  ▲ failed       │  │ crashed                ▼     │
//!    │  ▼  └────────┐     │  ├─────────▶ Backoff   Stopping ┴────────▶ Finished
//!   Stopped     Backoff   │  └─────────▶ RollingBack ──▶ Launching, Backoff
//!                         └──────────────────────────▶ Stopping
//!
//!   Running ──▶ HandoverStarting, HandoverProbation, HandoverRollback, Draining (`handover`) ──▶ Running
//! ```
//! A stop request leads to Finished with no collector, to Stopping with one, to StoppingBoth with two. DESIGN.md,
//! "States", lists every arrow, `transition_table_tests` every state against every event.
//!
//! An install is a rename, so it is ordered in whatever state its candidate finds, and the collector is stopped after
//! it. A roll back is a rename too. A candidate that arrives while another config is on probation is queued until the
//! verdict, since only then is it known what to go back to. The transitions are in `single` and `probation`, those with
//! two collectors in `handover` and `draining`; `activation` says which configs may be handed over to, `confirmation`
//! which may still be rolled back.

mod activation;
mod confirmation;
mod draining;
mod handover;
mod probation;
mod single;
mod state_name;
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
use super::event::{Action, Candidate, ChildId, Event, Problem, TrustLevel};
use activation::Activation;
use confirmation::Confirmation;

pub use state_name::StateName;
pub use view::RestartTime;

/// A SIGTERM in the first 20 ms after "ready" kills the collector before it drains, and ready takes 11–20 ms on a fast
/// host (DESIGN.md, "Measurements"): ten times their sum, for slow hosts.
pub const SETTLE_DELAY: Duration = Duration::from_millis(400);
/// A health check is one small request on this host; collectors that swap take seconds for it.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// What keeps a collector from taking over that is ready seldom ends: something forbids to look at its sockets.
pub const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(5);
/// While there is no config file, one that an operator puts there is noticed this soon.
pub const CONFIG_FILE_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A collector that stays up this long once it is ready, and is healthy then, has proved itself.
    pub min_uptime: Duration,
    /// After this time one that has not said that it is ready counts as ready.
    pub start_timeout: Duration,
    /// A config that has proved itself is confirmed after this time, unless its collectors exit.
    pub confirm_time: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_timeout: Duration,
}

impl Limits {
    /// How long two collectors run at most: the new one's time before and after it serves, and the end of either.
    pub fn longest_overlap(&self) -> Duration {
        self.start_timeout + self.min_uptime * 2 + PROBE_TIMEOUT + self.stop_timeout
    }
}

#[derive(Debug)]
pub struct Supervisor<C: Candidate> {
    limits: Limits,
    backoff: Backoff,
    activation: Activation<C::Revision>,
    confirmation: Confirmation,
    state: State<C>,
}

#[derive(Debug)]
enum State<C> {
    /// There is no config file.
    Stopped {
        check_at: Uptime,
    },
    /// A spawn is ordered and not answered yet.
    Launching,
    Starting {
        start: Start<C>,
        stage: ProbationStage,
    },
    Running {
        child: ChildId,
        since: Uptime,
    },
    Stopping {
        terminating: Terminating,
        next: Next,
    },
    /// A roll back is ordered and not answered yet; no collector lives.
    RollingBack {
        problem: Problem,
        queued: Option<C>,
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
        /// Of the new one: the kernel tells what it listens on.
        is_watched: bool,
        stage: HandoverStage,
    },
    /// A roll back is ordered and not answered yet; the old one serves, and the new one may have ended.
    HandoverRollback {
        old: Serving,
        new: Option<Serving>,
        problem: Problem,
        queued: Option<C>,
    },
    /// One serves, the other is ending.
    Draining {
        serving: Serving,
        terminating: Terminating,
        queued: Option<C>,
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
    /// It has not said that it is ready; the old one serves.
    NotReady {
        until: Uptime,
    },
    /// It does not serve yet, or not listen on all that it should; the old one serves.
    Gathering {
        /// When the next take-over is due.
        take_over_at: Uptime,
        until: Uptime,
        /// The latest take-over is the last: time is up.
        is_last: bool,
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
    trust: TrustLevel,
    /// The candidate that has arrived meanwhile; installed when the verdict is known.
    queued: Option<C>,
}

/// Where a collector stands in its probation.
#[derive(Debug)]
enum ProbationStage {
    /// It has not said that it is ready.
    NotReady {
        until: Uptime,
    },
    Waiting {
        until: Uptime,
    },
    /// Asked for its health. `retry_delay` is the pause after a failure that cannot be rolled back.
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

impl<C: Candidate> Supervisor<C> {
    /// Nothing runs yet; the first deadline is due at once and starts the collector. `seed` is for the backoff's
    /// jitter.
    pub fn new(limits: Limits, seed: u64) -> Supervisor<C> {
        Supervisor {
            limits,
            backoff: Backoff::new(seed),
            activation: Activation::default(),
            confirmation: Confirmation::default(),
            state: State::Stopped { check_at: Uptime::ZERO },
        }
    }

    /// From the next event on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn handle(&mut self, now: Uptime, event: Event<C>) -> Vec<Action<C>> {
        let state = std::mem::replace(&mut self.state, State::Finished);
        let mut transition = transition::Transition::new(now, self);
        let state = state.after(event, &mut transition);
        let actions = transition.into_actions();
        self.state = state;
        actions
    }

    /// When `DeadlinePassed` is due; `None` means that nothing will happen by itself.
    pub fn deadline(&self) -> Option<Uptime> {
        match &self.state {
            State::Stopped { check_at } => Some(*check_at),
            State::Starting {
                stage: ProbationStage::NotReady { until } | ProbationStage::Waiting { until }, ..
            } => Some(*until),
            State::Starting { stage: ProbationStage::Probing { until, .. }, .. } => Some(*until),
            State::Starting { stage: ProbationStage::Failed { probe_at, .. }, .. } => Some(*probe_at),
            State::Stopping { terminating, .. } | State::Draining { terminating, .. } => terminating.deadline(),
            State::StoppingBoth { first, second } => first.deadline().into_iter().chain(second.deadline()).min(),
            State::Backoff { until } => Some(*until),
            State::HandoverProbation { stage: HandoverStage::Gathering { take_over_at, .. }, .. } => {
                Some(*take_over_at)
            }
            State::HandoverProbation {
                stage:
                    HandoverStage::NotReady { until } | HandoverStage::Waiting { until } | HandoverStage::Probing { until },
                ..
            } => Some(*until),
            State::Running { .. } => self.confirmation.until(),
            State::Launching
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
