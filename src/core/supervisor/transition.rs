//! What an event is handled with: a transition consumes a state, gives orders, and returns the next state.
//!
//! The steps that several states share are here; what each state does is in `single`, `probation`, `handover` and
//! `draining`.

use std::time::Duration;

use super::{
    Activation, Confirmation, Limits, Next, ProbationStage, SETTLE_DELAY, Start, State, Supervisor, Terminating,
    TerminationStage,
};
use crate::core::Uptime;
use crate::core::backoff::Backoff;
use crate::core::event::{
    Action, ActivationMode, Blame, Candidate, ChildId, Event, Problem, RestartReason, RollBackTarget, TrustLevel,
    Verdict,
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

    /// The collector that was started beside another one takes its place, with the config that is active.
    pub(super) fn replace_collector(&mut self, trust: TrustLevel) {
        self.backoff.reset();
        self.confirmation.started(trust, self.confirm_at());
    }

    /// Another config may be active now.
    pub(super) fn note_config_change(&mut self, event: &Event<C>, state: &State<C>) {
        match (event, state) {
            (Event::Installed(Ok(ActivationMode::HandOver)), State::Running { .. }) => self.confirmation.set_aside(),
            (Event::RolledBack(Ok(())), State::HandoverRollback { .. }) => self.confirmation.restore(),
            (Event::Installed(Ok(_)) | Event::RolledBack(Ok(())), _) => {
                self.backoff.reset();
                self.confirmation.forget();
            }
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
