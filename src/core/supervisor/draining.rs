//! Two collectors of which one or both are to end.
//!
//! The same rules as in `transition`, whose `Transition` it uses; it owns the states Draining and StoppingBoth.

use super::transition::Transition;
use super::{Next, Serving, State, Terminating};
use crate::core::event::{Action, Candidate, Event};

pub(super) fn draining<C: Candidate>(
    serving: Serving,
    mut terminating: Terminating,
    mut queued: Option<C>,
    event: Event<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::Exited { child, .. } if child == terminating.child => {
            return transition.run(serving.child, serving.since, queued);
        }
        Event::Exited { child, problem, .. } if child == serving.child => {
            // The other one has its SIGTERM already; the next starts when it has ended, with another config if this one
            // has failed.
            transition.count_exit(serving.since, &problem);
            transition.install_queued(queued);
            return State::Stopping { terminating, next: Next::Start };
        }
        Event::DeadlinePassed => terminating = transition.escalate(terminating),
        Event::CandidateArrived(candidate) => {
            let older = queued.replace(candidate);
            transition.discard(older);
        }
        Event::StopRequested => {
            transition.discard(queued);
            let first = transition.end(serving.child, serving.since);
            return State::StoppingBoth { first, second: terminating };
        }
        Event::Installed(Err(problem)) => transition.not_installed(problem),
        // It has only just been started, or was given a chance to.
        Event::RestartRequested
        | Event::Installed(Ok(_))
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::Draining { serving, terminating, queued }
}

pub(super) fn stopping_both<C: Candidate>(
    mut first: Terminating,
    mut second: Terminating,
    event: Event<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::Exited { child, .. } if child == first.child => {
            return State::Stopping { terminating: second, next: Next::Finish };
        }
        Event::Exited { child, .. } if child == second.child => {
            return State::Stopping { terminating: first, next: Next::Finish };
        }
        Event::DeadlinePassed => {
            first = transition.escalate(first);
            second = transition.escalate(second);
        }
        Event::CandidateArrived(candidate) => transition.order(Action::Discard(candidate)),
        Event::Installed(_)
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::StopRequested => {}
    }
    State::StoppingBoth { first, second }
}
