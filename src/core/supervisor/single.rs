//! No collector, or one that is not on probation; and which function knows which state.
//!
//! Every state names every event; those that change nothing stand together at its end. Events that tell of another
//! child than the state's own are such.

use super::transition::{Pace, Transition};
use super::{CONFIG_FILE_INTERVAL, Next, Serving, State, Terminating, draining, handover, probation};
use crate::core::Uptime;
use crate::core::event::{Action, ActivationMode, Blame, Candidate, ChildId, Event, SpawnResult, Verdict};

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
                draining::draining(serving, terminating, queued, event, transition)
            }
            State::StoppingBoth { first, second } => draining::stopping_both(first, second, event, transition),
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
