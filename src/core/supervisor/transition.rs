//! What each state does about each event: a transition consumes a state and returns the next.
//!
//! Every state names every event; those that change nothing stand together at its end. Events that tell of another child than
//! the state's own are such.

use super::{
    LOOK_INTERVAL, Limits, Next, ProbationStage, SETTLE_DELAY, Serving, Start, State, Terminating, TerminationStage,
    handover, probation,
};
use crate::core::Uptime;
use crate::core::backoff::Backoff;
use crate::core::event::{Action, ActivationMode, ChildId, Event, Problem, SpawnResult, TrustLevel, Verdict};

/// How soon the next start follows a collector's end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    AtOnce,
    /// After the backoff's delay.
    Delayed,
}

/// What one event is handled with: the time, the limits, and the orders given so far.
pub(super) struct Transition<'a, C> {
    pub(super) now: Uptime,
    pub(super) limits: Limits,
    pub(super) backoff: &'a mut Backoff,
    actions: Vec<Action<C>>,
}

impl<'a, C> Transition<'a, C> {
    pub(super) fn new(now: Uptime, limits: Limits, backoff: &'a mut Backoff) -> Transition<'a, C> {
        Transition { now, limits, backoff, actions: Vec::new() }
    }

    pub(super) fn into_actions(self) -> Vec<Action<C>> {
        self.actions
    }

    pub(super) fn order(&mut self, action: Action<C>) {
        self.actions.push(action);
    }

    pub(super) fn launch(&mut self) -> State<C> {
        self.order(Action::Spawn);
        State::Launching
    }

    pub(super) fn finish(&mut self) -> State<C> {
        self.order(Action::Finish);
        State::Finished
    }

    /// A collector ended, and it or its like follows. A held candidate comes first: it is answered in Backoff, which starts
    /// it at once; if it cannot be installed, what was in force starts when it would have without the candidate.
    pub(super) fn start_again(&mut self, pace: Pace, held: Option<C>) -> State<C> {
        let until = match (pace, &held) {
            (Pace::AtOnce, None) => return self.launch(),
            (Pace::AtOnce, Some(_)) => self.now,
            (Pace::Delayed, _) => self.now + self.backoff.fail(),
        };
        self.install(held);
        State::Backoff { until }
    }

    /// A held candidate's turn has come.
    pub(super) fn install(&mut self, held: Option<C>) {
        self.actions.extend(held.map(Action::Install));
    }

    pub(super) fn discard(&mut self, held: Option<C>) {
        self.actions.extend(held.map(Action::Discard));
    }

    pub(super) fn not_installed(&mut self, problem: Problem) {
        self.order(Action::Conclude(Verdict::NotInstalled(problem)));
    }

    pub(super) fn stop(&mut self, child: ChildId, since: Uptime, next: Next) -> State<C> {
        State::Stopping { leaving: self.leave(child, since), next }
    }

    /// A collector is to end: it gets its SIGTERM, now or when it is old enough for one.
    pub(super) fn leave(&mut self, child: ChildId, since: Uptime) -> Terminating {
        let settled_at = since + SETTLE_DELAY;
        let phase = if self.now < settled_at {
            TerminationStage::SignalDelayed { until: settled_at }
        } else {
            self.terminate(child)
        };
        Terminating { child, phase }
    }

    /// The next step of its end, if that is due.
    pub(super) fn escalate(&mut self, leaving: Terminating) -> Terminating {
        let Terminating { child, phase } = leaving;
        let phase = match phase {
            TerminationStage::SignalDelayed { until } if self.now >= until => self.terminate(child),
            TerminationStage::TermSent { kill_at } if self.now >= kill_at => {
                self.order(Action::Kill(child));
                TerminationStage::KillSent
            }
            TerminationStage::SignalDelayed { .. } | TerminationStage::TermSent { .. } | TerminationStage::KillSent => {
                phase
            }
        };
        Terminating { child, phase }
    }

    /// The verdict on a healthy collector; what is the last known good already is not kept again.
    pub(super) fn proved(&mut self, standing: TrustLevel) {
        if standing == TrustLevel::LastKnownGood {
            self.order(Action::Conclude(Verdict::Proved));
        } else {
            self.order(Action::Promote);
            self.order(Action::Conclude(Verdict::Promoted));
        }
    }

    fn terminate(&mut self, child: ChildId) -> TerminationStage {
        self.order(Action::Terminate(child));
        TerminationStage::TermSent { kill_at: self.now + self.limits.stop_timeout }
    }
}

impl<C> State<C> {
    pub(super) fn after(self, event: Event<C>, turn: &mut Transition<'_, C>) -> State<C> {
        match self {
            State::Stopped { look_at } => stopped(look_at, event, turn),
            State::Launching => launching(event, turn),
            State::Starting { start, proof } => probation::starting(start, proof, event, turn),
            State::Running { child, since } => running(child, since, event, turn),
            State::Stopping { leaving, next } => stopping(leaving, next, event, turn),
            State::HandoverStarting { old } => handover::starting(old, event, turn),
            State::HandoverProbation { old, start, trial } => handover::probation(old, start, trial, event, turn),
            State::HandoverRollback { old, new, problem, held } => {
                handover::rolling_back(old, new, problem, held, event, turn)
            }
            State::Draining { serving, leaving, held } => handover::draining(serving, leaving, held, event, turn),
            State::StoppingBoth { first, second } => handover::stopping_both(first, second, event, turn),
            State::RollingBack { problem, held } => probation::rolling_back(problem, held, event, turn),
            State::Backoff { until } => backing_off(until, event, turn),
            State::Finished => finished(event, turn),
        }
    }
}

fn stopped<C>(look_at: Uptime, event: Event<C>, turn: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::CandidateArrived(candidate) => turn.order(Action::Install(candidate)),
        Event::Installed(Ok(_)) | Event::RestartRequested => return turn.launch(),
        Event::Installed(Err(problem)) => turn.not_installed(problem),
        Event::DeadlinePassed if turn.now >= look_at => return turn.launch(),
        Event::StopRequested => return turn.finish(),
        Event::DeadlinePassed
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::Stopped { look_at }
}

fn launching<C>(event: Event<C>, turn: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::Launched(SpawnResult::Spawned { child, standing }) => {
            let start = Start { child, since: turn.now, standing, held: None };
            return State::Starting {
                start,
                proof: ProbationStage::Waiting { until: turn.now + turn.limits.min_uptime },
            };
        }
        Event::Launched(SpawnResult::Failed(problem)) => {
            turn.order(Action::Conclude(Verdict::Failing(problem)));
            return turn.start_again(Pace::Delayed, None);
        }
        Event::Launched(SpawnResult::NoConfig { fallback: false }) => {
            return State::Stopped { look_at: turn.now + LOOK_INTERVAL };
        }
        Event::Launched(SpawnResult::NoConfig { fallback: true }) => {
            return probation::roll_back("the config file is missing".to_string(), None, turn);
        }
        Event::StopRequested => return turn.finish(),
        // Not while the spawn is unanswered; the API sends it again.
        Event::CandidateArrived(candidate) => turn.order(Action::Discard(candidate)),
        Event::Installed(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::DeadlinePassed => {}
    }
    State::Launching
}

fn running<C>(own: ChildId, since: Uptime, event: Event<C>, turn: &mut Transition<'_, C>) -> State<C> {
    match event {
        // It had been up for min_uptime, or it would not be Running.
        Event::Exited { child, .. } if child == own => return turn.start_again(Pace::AtOnce, None),
        Event::CandidateArrived(candidate) => turn.order(Action::Install(candidate)),
        Event::Installed(Ok(ActivationMode::HandOver)) => {
            turn.order(Action::SpawnBeside);
            return State::HandoverStarting { old: Serving { child: own, since } };
        }
        Event::Installed(Ok(ActivationMode::Restart)) | Event::RestartRequested => {
            return turn.stop(own, since, Next::Start);
        }
        Event::Installed(Err(problem)) => turn.not_installed(problem),
        Event::StopRequested => return turn.stop(own, since, Next::Finish),
        Event::Exited { .. }
        | Event::Launched(_)
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::DeadlinePassed => {}
    }
    State::Running { child: own, since }
}

fn stopping<C>(mut leaving: Terminating, mut next: Next, event: Event<C>, turn: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::Exited { child, .. } if child == leaving.child => {
            return match next {
                Next::Start => turn.launch(),
                Next::Finish => turn.finish(),
            };
        }
        Event::DeadlinePassed => leaving = turn.escalate(leaving),
        Event::StopRequested => next = Next::Finish,
        Event::CandidateArrived(candidate) => turn.order(match next {
            Next::Start => Action::Install(candidate),
            Next::Finish => Action::Discard(candidate),
        }),
        Event::Installed(Err(problem)) => turn.not_installed(problem),
        // The start that follows uses whatever is in force by then.
        Event::Installed(Ok(_))
        | Event::Exited { .. }
        | Event::Launched(_)
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested => {}
    }
    State::Stopping { leaving, next }
}

fn backing_off<C>(until: Uptime, event: Event<C>, turn: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::DeadlinePassed if turn.now >= until => return turn.launch(),
        Event::CandidateArrived(candidate) => turn.order(Action::Install(candidate)),
        Event::Installed(Ok(_)) => {
            turn.backoff.reset();
            return turn.launch();
        }
        Event::Installed(Err(problem)) => turn.not_installed(problem),
        Event::RestartRequested => return turn.launch(),
        Event::StopRequested => return turn.finish(),
        Event::DeadlinePassed
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::Backoff { until }
}

fn finished<C>(event: Event<C>, turn: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::CandidateArrived(candidate) => turn.order(Action::Discard(candidate)),
        Event::Installed(_)
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::StopRequested
        | Event::DeadlinePassed => {}
    }
    State::Finished
}
