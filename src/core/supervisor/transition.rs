//! What each state does about each event: a transition consumes a state and returns the next.
//!
//! Every state names every event; those that change nothing stand together at its end. Events that tell of another
//! child than the state's own are such.

use std::time::Duration;

use super::{
    Activation, CONFIG_FILE_INTERVAL, Confirmation, Limits, Next, ProbationStage, SETTLE_DELAY, Serving, Start, State,
    Supervisor, Terminating, TerminationStage, handover, probation,
};
use crate::core::Uptime;
use crate::core::backoff::Backoff;
use crate::core::event::{
    Action, ActivationMode, Blame, Candidate, ChildId, Event, Problem, RestartReason, RollBackTarget, SpawnResult,
    TrustLevel, Verdict,
};

/// How soon the next start follows a collector's end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    AtOnce,
    /// After the backoff's delay for an exit.
    AfterExit,
    /// After that for what could not be done.
    AfterFailure,
}

/// What one event is handled with: the time, the limits, and the orders given so far.
pub(super) struct Transition<'a, C: Candidate> {
    pub(super) now: Uptime,
    pub(super) limits: Limits,
    pub(super) backoff: &'a mut Backoff,
    pub(super) activation: &'a mut Activation<C::Revision>,
    pub(super) confirmation: &'a mut Confirmation,
    actions: Vec<Action<C>>,
}

impl<'a, C: Candidate> Transition<'a, C> {
    pub(super) fn new(now: Uptime, supervisor: &'a mut Supervisor<C>) -> Transition<'a, C> {
        let Supervisor { limits, backoff, activation, confirmation, .. } = supervisor;
        Transition { now, limits: *limits, backoff, activation, confirmation, actions: Vec::new() }
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

    /// A collector has exited and is started again. A queued candidate comes first: its install is answered in Backoff,
    /// which starts it at once; if it cannot be installed, the active config starts when it would have without the
    /// candidate.
    pub(super) fn start_again(&mut self, pace: Pace, queued: Option<C>) -> State<C> {
        let delay = match pace {
            Pace::AtOnce => Duration::ZERO,
            Pace::AfterExit => self.backoff.after_exit(self.now),
            Pace::AfterFailure => self.backoff.after_failure(self.now),
        };
        if delay.is_zero() && queued.is_none() {
            return self.launch();
        }
        self.install_queued(queued);
        State::Backoff { until: self.now + delay }
    }

    /// The collector with the active config exited unexpectedly: why that is to be rolled back, if it is.
    pub(super) fn count_exit(&mut self, since: Uptime, problem: &Problem) -> Option<Problem> {
        let (uptime, until) = (self.now.saturating_sub(since), self.confirm_at());
        if let Some(exits) = self.confirmation.exited(uptime, problem, until) {
            self.order(Action::RecordExit { exits });
        }
        self.confirmation.failed()
    }

    /// When a config is confirmed that proves itself, or is found unconfirmed, now.
    pub(super) fn confirm_at(&self) -> Uptime {
        self.now.saturating_add(self.limits.confirm_time)
    }

    fn confirm_if_due(&mut self) {
        if self.confirmation.take_due(self.now) {
            self.order(Action::Confirm);
        }
    }

    /// A proved collector runs alone; a queued candidate may be handed over to.
    pub(super) fn run(&mut self, child: ChildId, since: Uptime, queued: Option<C>) -> State<C> {
        self.confirm_if_due();
        if let Some(candidate) = queued {
            self.install_while_running(candidate);
        }
        State::Running { child, since }
    }

    pub(super) fn install_while_running(&mut self, candidate: C) {
        let hand_over = self.activation.installs(candidate.revision());
        self.order(Action::Install { candidate, hand_over });
    }

    /// Where no proved collector runs alone.
    pub(super) fn install(&mut self, candidate: C) {
        self.order(Action::Install { candidate, hand_over: Err(RestartReason::NothingToHandOverFrom) });
    }

    pub(super) fn install_queued(&mut self, queued: Option<C>) {
        if let Some(candidate) = queued {
            self.install(candidate);
        }
    }

    pub(super) fn discard(&mut self, queued: Option<C>) {
        self.actions.extend(queued.map(Action::Discard));
    }

    pub(super) fn not_installed(&mut self, problem: Problem) {
        self.order(Action::Conclude(Verdict::NotInstalled(problem)));
    }

    pub(super) fn stop(&mut self, child: ChildId, since: Uptime, next: Next) -> State<C> {
        State::Stopping { terminating: self.end(child, since), next }
    }

    /// Begins a collector's end: it gets SIGTERM, now or when it is old enough for one.
    pub(super) fn end(&mut self, child: ChildId, since: Uptime) -> Terminating {
        let settled_at = since + SETTLE_DELAY;
        let phase = if self.now < settled_at {
            TerminationStage::SignalDelayed { until: settled_at }
        } else {
            self.terminate(child)
        };
        Terminating { child, phase }
    }

    /// Takes the next step of its end, if that is due.
    pub(super) fn escalate(&mut self, terminating: Terminating) -> Terminating {
        let Terminating { child, phase } = terminating;
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

    /// The verdict on a healthy collector; what had proved itself before is not kept again.
    pub(super) fn proved(&mut self, trust: TrustLevel) {
        let has_fallback = match trust {
            TrustLevel::Confirmed | TrustLevel::Unconfirmed { .. } => {
                return self.order(Action::Conclude(Verdict::Proved));
            }
            TrustLevel::OnProbation => true,
            TrustLevel::NoFallback => false,
        };
        self.order(Action::Promote);
        self.confirmation.begin(self.confirm_at(), has_fallback);
        self.confirm_if_due();
        self.order(Action::Conclude(Verdict::Promoted));
    }

    /// A collector is started alone on the active config.
    pub(super) fn begin_probation(&mut self, child: ChildId, trust: TrustLevel) -> State<C> {
        self.confirmation.started(trust, self.confirm_at());
        let start = Start { child, since: self.now, trust, queued: None };
        State::Starting { start, stage: ProbationStage::NotReady { until: self.now + self.limits.start_timeout } }
    }

    /// Another config may be active now.
    fn note_config_change(&mut self, event: &Event<C>, state: &State<C>) {
        match (event, state) {
            // The old one's time goes on: it may be restored.
            (Event::Installed(Ok(ActivationMode::HandOver)), State::Running { .. })
            | (Event::RolledBack(Ok(())), State::HandoverRollback { .. }) => self.backoff.reset(),
            (Event::Installed(Ok(_)) | Event::RolledBack(Ok(())), _) => {
                self.backoff.reset();
                self.confirmation.forget();
            }
            // The new one's config stays, and the old one is not its collector.
            (Event::RolledBack(Err(_)), State::HandoverRollback { .. }) => self.confirmation.forget(),
            _ => {}
        }
    }

    pub(super) fn roll_back(&mut self, problem: Problem, blame: Blame, queued: Option<C>) -> State<C> {
        self.order(Action::RollBack { problem: problem.clone(), blame, target: RollBackTarget::Fallback });
        State::RollingBack { problem, queued }
    }

    fn terminate(&mut self, child: ChildId) -> TerminationStage {
        self.order(Action::Terminate(child));
        TerminationStage::TermSent { kill_at: self.now + self.limits.stop_timeout }
    }
}

impl<C: Candidate> State<C> {
    pub(super) fn after(self, event: Event<C>, transition: &mut Transition<'_, C>) -> State<C> {
        transition.note_config_change(&event, &self);
        match self {
            State::Stopped { check_at } => stopped(check_at, event, transition),
            State::Launching => launching(event, transition),
            State::Starting { start, stage } => probation::starting(start, stage, event, transition),
            State::Running { child, since } => running(child, since, event, transition),
            State::Stopping { terminating, next } => stopping(terminating, next, event, transition),
            State::HandoverStarting { old } => handover::starting(old, event, transition),
            State::HandoverProbation { old, start, is_watched, stage } => {
                handover::probation(old, start, is_watched, stage, event, transition)
            }
            State::HandoverRollback { old, new, problem, queued } => {
                handover::rolling_back(old, new, problem, queued, event, transition)
            }
            State::Draining { serving, terminating, queued } => {
                handover::draining(serving, terminating, queued, event, transition)
            }
            State::StoppingBoth { first, second } => handover::stopping_both(first, second, event, transition),
            State::RollingBack { problem, queued } => probation::rolling_back(problem, queued, event, transition),
            State::Backoff { until } => backing_off(until, event, transition),
            State::Finished => finished(event, transition),
        }
    }
}

fn stopped<C: Candidate>(check_at: Uptime, event: Event<C>, transition: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::CandidateArrived(candidate) => transition.install(candidate),
        Event::Installed(Ok(_)) | Event::RestartRequested => return transition.launch(),
        Event::Installed(Err(problem)) => transition.not_installed(problem),
        Event::DeadlinePassed if transition.now >= check_at => return transition.launch(),
        Event::StopRequested => return transition.finish(),
        Event::DeadlinePassed
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::Stopped { check_at }
}

fn launching<C: Candidate>(event: Event<C>, transition: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::Launched(SpawnResult::Spawned { child, trust, .. }) => {
            return transition.begin_probation(child, trust);
        }
        Event::Launched(SpawnResult::Failed(problem)) => {
            transition.order(Action::Conclude(Verdict::Failing(problem)));
            return transition.start_again(Pace::AfterFailure, None);
        }
        Event::Launched(SpawnResult::NoConfig { fallback: false }) => {
            return State::Stopped { check_at: transition.now + CONFIG_FILE_INTERVAL };
        }
        Event::Launched(SpawnResult::NoConfig { fallback: true }) => {
            return transition.roll_back("the config file is missing".to_string(), Blame::Config, None);
        }
        Event::StopRequested => return transition.finish(),
        // Not while the spawn is unanswered; the API sends it again.
        Event::CandidateArrived(candidate) => transition.order(Action::Discard(candidate)),
        Event::Installed(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::DeadlinePassed => {}
    }
    State::Launching
}

fn running<C: Candidate>(own: ChildId, since: Uptime, event: Event<C>, transition: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::Exited { child, problem, .. } if child == own => {
            return match transition.count_exit(since, &problem) {
                Some(problem) => transition.roll_back(problem, Blame::Config, None),
                None => transition.start_again(Pace::AfterExit, None),
            };
        }
        Event::DeadlinePassed => return transition.run(own, since, None),
        Event::CandidateArrived(candidate) => transition.install_while_running(candidate),
        Event::Installed(Ok(ActivationMode::HandOver)) => {
            transition.order(Action::SpawnSecond);
            return State::HandoverStarting { old: Serving { child: own, since } };
        }
        Event::Installed(Ok(ActivationMode::Restart)) | Event::RestartRequested => {
            return transition.stop(own, since, Next::Start);
        }
        Event::Installed(Err(problem)) => transition.not_installed(problem),
        Event::StopRequested => return transition.stop(own, since, Next::Finish),
        Event::Exited { .. }
        | Event::Launched(_)
        | Event::RolledBack(_)
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::Running { child: own, since }
}

fn stopping<C: Candidate>(
    mut terminating: Terminating,
    mut next: Next,
    event: Event<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::Exited { child, .. } if child == terminating.child => {
            return match next {
                Next::Start => match transition.confirmation.failed() {
                    Some(problem) => transition.roll_back(problem, Blame::Config, None),
                    None => transition.launch(),
                },
                Next::Finish => transition.finish(),
            };
        }
        Event::DeadlinePassed => terminating = transition.escalate(terminating),
        Event::StopRequested => next = Next::Finish,
        Event::CandidateArrived(candidate) => match next {
            Next::Start => transition.install(candidate),
            Next::Finish => transition.order(Action::Discard(candidate)),
        },
        Event::Installed(Err(problem)) => transition.not_installed(problem),
        // The start that follows uses the config that is active by then.
        Event::Installed(Ok(_))
        | Event::Exited { .. }
        | Event::Launched(_)
        | Event::RolledBack(_)
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested => {}
    }
    State::Stopping { terminating, next }
}

fn backing_off<C: Candidate>(until: Uptime, event: Event<C>, transition: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::DeadlinePassed if transition.now >= until => return transition.launch(),
        Event::CandidateArrived(candidate) => transition.install(candidate),
        Event::Installed(Ok(_)) | Event::RestartRequested => return transition.launch(),
        Event::Installed(Err(problem)) => transition.not_installed(problem),
        Event::StopRequested => return transition.finish(),
        Event::DeadlinePassed
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::Backoff { until }
}

fn finished<C: Candidate>(event: Event<C>, transition: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::CandidateArrived(candidate) => transition.order(Action::Discard(candidate)),
        Event::Installed(_)
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::StopRequested
        | Event::DeadlinePassed => {}
    }
    State::Finished
}
