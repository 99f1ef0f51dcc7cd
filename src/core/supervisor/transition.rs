//! What each state does about each event: a transition consumes a state and returns the next.
//!
//! Every state names every event; those that change nothing stand together at its end. Events that tell of another child than
//! the state's own are such.

use super::{
    LOOK_INTERVAL, Leaving, Limits, Next, Phase, Proof, SETTLE_DELAY, Serving, Start, State, handover, probation,
};
use crate::core::Uptime;
use crate::core::backoff::Backoff;
use crate::core::event::{Action, Child, Event, Launch, Manner, Problem, Standing, Verdict};

/// How soon the next start follows a collector's end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    AtOnce,
    /// After the backoff's delay.
    Delayed,
}

/// What one event is handled with: the time, the limits, and the orders given so far.
pub(super) struct Turn<'a, C> {
    pub(super) now: Uptime,
    pub(super) limits: Limits,
    pub(super) backoff: &'a mut Backoff,
    actions: Vec<Action<C>>,
}

impl<'a, C> Turn<'a, C> {
    pub(super) fn new(now: Uptime, limits: Limits, backoff: &'a mut Backoff) -> Turn<'a, C> {
        Turn { now, limits, backoff, actions: Vec::new() }
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

    pub(super) fn stop(&mut self, child: Child, since: Uptime, next: Next) -> State<C> {
        State::Stopping { leaving: self.leave(child, since), next }
    }

    /// A collector is to end: it gets its SIGTERM, now or when it is old enough for one.
    pub(super) fn leave(&mut self, child: Child, since: Uptime) -> Leaving {
        let settled_at = since + SETTLE_DELAY;
        let phase = if self.now < settled_at { Phase::Settling { until: settled_at } } else { self.terminate(child) };
        Leaving { child, phase }
    }

    /// The next step of its end, if that is due.
    pub(super) fn press(&mut self, leaving: Leaving) -> Leaving {
        let Leaving { child, phase } = leaving;
        let phase = match phase {
            Phase::Settling { until } if self.now >= until => self.terminate(child),
            Phase::Draining { kill_at } if self.now >= kill_at => {
                self.order(Action::Kill(child));
                Phase::Killed
            }
            Phase::Settling { .. } | Phase::Draining { .. } | Phase::Killed => phase,
        };
        Leaving { child, phase }
    }

    /// The verdict on a healthy collector; what is the last known good already is not kept again.
    pub(super) fn proved(&mut self, standing: Standing) {
        if standing == Standing::Proved {
            self.order(Action::Conclude(Verdict::Proved));
        } else {
            self.order(Action::Promote);
            self.order(Action::Conclude(Verdict::Promoted));
        }
    }

    fn terminate(&mut self, child: Child) -> Phase {
        self.order(Action::Terminate(child));
        Phase::Draining { kill_at: self.now + self.limits.stop_timeout }
    }
}

impl<C> State<C> {
    pub(super) fn after(self, event: Event<C>, turn: &mut Turn<'_, C>) -> State<C> {
        match self {
            State::Stopped { look_at } => stopped(look_at, event, turn),
            State::Launching => launching(event, turn),
            State::Starting { start, proof } => probation::starting(start, proof, event, turn),
            State::Running { child, since } => running(child, since, event, turn),
            State::Stopping { leaving, next } => stopping(leaving, next, event, turn),
            State::Joining { old } => handover::joining(old, event, turn),
            State::Beside { old, start, trial } => handover::beside(old, start, trial, event, turn),
            State::Retreating { old, new, problem, held } => handover::retreating(old, new, problem, held, event, turn),
            State::Parting { serving, leaving, held } => handover::parting(serving, leaving, held, event, turn),
            State::StoppingBoth { first, second } => handover::stopping_both(first, second, event, turn),
            State::RollingBack { problem, held } => probation::rolling_back(problem, held, event, turn),
            State::Backoff { until } => backing_off(until, event, turn),
            State::Finished => finished(event, turn),
        }
    }
}

fn stopped<C>(look_at: Uptime, event: Event<C>, turn: &mut Turn<'_, C>) -> State<C> {
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

fn launching<C>(event: Event<C>, turn: &mut Turn<'_, C>) -> State<C> {
    match event {
        Event::Launched(Launch::Spawned { child, standing }) => {
            let start = Start { child, since: turn.now, standing, held: None };
            return State::Starting { start, proof: Proof::Waiting { until: turn.now + turn.limits.min_uptime } };
        }
        Event::Launched(Launch::Failed(problem)) => {
            turn.order(Action::Conclude(Verdict::Failing(problem)));
            return turn.start_again(Pace::Delayed, None);
        }
        Event::Launched(Launch::NoConfig { fallback: false }) => {
            return State::Stopped { look_at: turn.now + LOOK_INTERVAL };
        }
        Event::Launched(Launch::NoConfig { fallback: true }) => {
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

fn running<C>(own: Child, since: Uptime, event: Event<C>, turn: &mut Turn<'_, C>) -> State<C> {
    match event {
        // It had been up for min_uptime, or it would not be Running.
        Event::Exited { child, .. } if child == own => return turn.start_again(Pace::AtOnce, None),
        Event::CandidateArrived(candidate) => turn.order(Action::Install(candidate)),
        Event::Installed(Ok(Manner::HandOver)) => {
            turn.order(Action::SpawnBeside);
            return State::Joining { old: Serving { child: own, since } };
        }
        Event::Installed(Ok(Manner::Restart)) | Event::RestartRequested => {
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

fn stopping<C>(mut leaving: Leaving, mut next: Next, event: Event<C>, turn: &mut Turn<'_, C>) -> State<C> {
    match event {
        Event::Exited { child, .. } if child == leaving.child => {
            return match next {
                Next::Start => turn.launch(),
                Next::Finish => turn.finish(),
            };
        }
        Event::DeadlinePassed => leaving = turn.press(leaving),
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

fn backing_off<C>(until: Uptime, event: Event<C>, turn: &mut Turn<'_, C>) -> State<C> {
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

fn finished<C>(event: Event<C>, turn: &mut Turn<'_, C>) -> State<C> {
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
