//! Two collectors: the old one serves until the new one beside it has proved itself.
//!
//! ```text
//!            spawned          took over and proved                the old one ended
//!  Joining ──────────▶ Beside ────────────────────▶ Parting ──────────────────────▶ Running (new)
//!     │                  │ failed                    ▲  │
//!     │ failed           ▼                           │  └──────────────────────────▶ Running (old)
//!     └────────────▶ Retreating ─────────────────────┘        the new one ended
//! ```
//! The new one lives for min_uptime before it gets any connection, since what a collector has accepted dies with it; then it
//! serves for min_uptime before the old one has to go.
//! The same rules as in `transition`, whose `Transition` it uses. A plain restart is the case without overlap; this file owns the
//! states with it. If the old one dies meanwhile, the new one is an ordinary start on probation.

use super::transition::Transition;
use super::{GATHER_TIMEOUT, HandoverStage, Next, PROBE_TIMEOUT, ProbationStage, Serving, Start, State, Terminating};
use crate::core::backoff;
use crate::core::event::{Action, Event, Problem, SpawnResult, TakeOver, TrustLevel, Verdict};

/// Between two looks at whether the new collector listens already.
const GATHER_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

pub(super) fn starting<C>(old: Serving, event: Event<C>, turn: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::Launched(SpawnResult::Spawned { child, standing }) => {
            let start = Start { child, since: turn.now, standing, held: None };
            let look_at = turn.now + turn.limits.min_uptime;
            let trial = HandoverStage::Gathering { look_at, until: look_at + GATHER_TIMEOUT };
            return State::HandoverProbation { old, start, trial };
        }
        Event::Launched(SpawnResult::Failed(problem)) => {
            return retreat(old, None, TrustLevel::OnProbation, problem, None, turn);
        }
        Event::Launched(SpawnResult::NoConfig { fallback }) => {
            let standing = if fallback { TrustLevel::OnProbation } else { TrustLevel::NoFallback };
            return retreat(old, None, standing, "the config file is missing".to_string(), None, turn);
        }
        // The spawn's answer comes first; then it is an ordinary one.
        Event::Exited { child, .. } if child == old.child => return State::Launching,
        Event::StopRequested => return turn.stop(old.child, old.since, Next::Finish),
        Event::CandidateArrived(candidate) => turn.order(Action::Discard(candidate)),
        Event::Installed(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::DeadlinePassed => {}
    }
    State::HandoverStarting { old }
}

pub(super) fn probation<C>(
    old: Serving,
    mut start: Start<C>,
    mut trial: HandoverStage,
    event: Event<C>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::Exited { child, problem } if child == start.child => {
            return retreat(old, None, start.standing, problem, start.held, turn);
        }
        Event::Exited { child, .. } if child == old.child => return alone(start, trial, turn),
        Event::TookOver { child, outcome }
            if child == start.child && matches!(trial, HandoverStage::Gathering { .. }) =>
        {
            match outcome {
                TakeOver::Done => trial = HandoverStage::Waiting { until: turn.now + turn.limits.min_uptime },
                TakeOver::NotYet => {}
                TakeOver::Failed(problem) => {
                    let new = Serving { child, since: start.since };
                    return retreat(old, Some(new), start.standing, problem, start.held, turn);
                }
            }
        }
        Event::Probed { child, health } if child == start.child => {
            if matches!(trial, HandoverStage::Probing { .. }) {
                return probed(old, start, health, turn);
            }
        }
        Event::DeadlinePassed => match trial {
            HandoverStage::Gathering { look_at, until } if turn.now >= look_at => {
                // What is missing at the end of the time the new config may not want: the probation decides.
                turn.order(Action::TakeOver { child: start.child, in_part: turn.now >= until });
                trial = HandoverStage::Gathering { look_at: turn.now + GATHER_INTERVAL, until };
            }
            HandoverStage::Waiting { until } if turn.now >= until => {
                turn.order(Action::Probe(start.child));
                trial = HandoverStage::Probing { until: turn.now + PROBE_TIMEOUT };
            }
            HandoverStage::Probing { until } if turn.now >= until => {
                let problem = format!("the health check did not answer within {} s", PROBE_TIMEOUT.as_secs());
                return probed(old, start, Err(problem), turn);
            }
            HandoverStage::Gathering { .. } | HandoverStage::Waiting { .. } | HandoverStage::Probing { .. } => {}
        },
        Event::CandidateArrived(candidate) => {
            let older = start.held.replace(candidate);
            turn.discard(older);
        }
        Event::StopRequested => {
            turn.discard(start.held);
            let (old, new) = (turn.leave(old.child, old.since), turn.leave(start.child, start.since));
            return match trial {
                HandoverStage::Gathering { .. } => State::StoppingBoth { first: old, second: new },
                HandoverStage::Waiting { .. } | HandoverStage::Probing { .. } => {
                    State::StoppingBoth { first: new, second: old }
                }
            };
        }
        Event::Installed(Err(problem)) => turn.not_installed(problem),
        // A restart is what it is having.
        Event::RestartRequested
        | Event::Installed(Ok(_))
        | Event::Launched(_)
        | Event::RolledBack(_)
        | Event::Exited { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::HandoverProbation { old, start, trial }
}

/// The old one died while the new one was on trial: there is only the new one now.
fn alone<C>(start: Start<C>, trial: HandoverStage, turn: &mut Transition<'_, C>) -> State<C> {
    let proof = match trial {
        HandoverStage::Gathering { .. } => ProbationStage::Waiting { until: turn.now + turn.limits.min_uptime },
        HandoverStage::Waiting { until } => ProbationStage::Waiting { until },
        HandoverStage::Probing { until } => {
            ProbationStage::Probing { until, retry_delay: turn.limits.min_uptime.clamp(PROBE_TIMEOUT, backoff::CAP) }
        }
    };
    State::Starting { start, proof }
}

/// The verdict on the new one.
fn probed<C>(old: Serving, start: Start<C>, health: Result<(), Problem>, turn: &mut Transition<'_, C>) -> State<C> {
    let Start { child, since, standing, held } = start;
    if let Err(problem) = health {
        return retreat(old, Some(Serving { child, since }), standing, problem, held, turn);
    }
    turn.proved(standing);
    let leaving = turn.leave(old.child, old.since);
    State::Draining { serving: Serving { child, since }, leaving, held }
}

/// The new one failed, or never came to be: the old one serves as before, and nobody noticed.
fn retreat<C>(
    old: Serving,
    new: Option<Serving>,
    standing: TrustLevel,
    problem: Problem,
    held: Option<C>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    if let Some(new) = &new {
        turn.order(Action::GiveBack(new.child));
    }
    match standing {
        TrustLevel::OnProbation => {
            turn.order(Action::RollBack(problem.clone()));
            State::HandoverRollback { old, new, problem, held }
        }
        // The file is the last known good, or there is none.
        TrustLevel::LastKnownGood | TrustLevel::NoFallback => {
            turn.order(Action::Conclude(Verdict::Failing(problem)));
            withdraw(old, new, held, turn)
        }
    }
}

/// The failed new one ends.
fn withdraw<C>(old: Serving, new: Option<Serving>, held: Option<C>, turn: &mut Transition<'_, C>) -> State<C> {
    match new {
        Some(new) => {
            let leaving = turn.leave(new.child, new.since);
            State::Draining { serving: old, leaving, held }
        }
        None => {
            turn.install(held);
            State::Running { child: old.child, since: old.since }
        }
    }
}

pub(super) fn rolling_back<C>(
    old: Serving,
    new: Option<Serving>,
    problem: Problem,
    mut held: Option<C>,
    event: Event<C>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::RolledBack(outcome) => {
            turn.order(Action::Conclude(match outcome {
                Ok(()) => Verdict::RolledBack(problem),
                Err(obstacle) => Verdict::Failing(format!("{problem}; {obstacle}")),
            }));
            return withdraw(old, new, held, turn);
        }
        Event::CandidateArrived(candidate) => {
            let older = held.replace(candidate);
            turn.discard(older);
        }
        Event::StopRequested => {
            turn.discard(held);
            return match new {
                Some(new) => {
                    let (first, second) = (turn.leave(old.child, old.since), turn.leave(new.child, new.since));
                    State::StoppingBoth { first, second }
                }
                None => turn.stop(old.child, old.since, Next::Finish),
            };
        }
        Event::Exited { child, .. } if child == old.child => {
            return match new {
                // The roll back's answer ends it, as after any failed health check.
                Some(Serving { child, since }) => {
                    let start = Start { child, since, standing: TrustLevel::OnProbation, held };
                    let (probe_at, retry_delay) = (turn.now + PROBE_TIMEOUT, PROBE_TIMEOUT);
                    State::Starting { start, proof: ProbationStage::Failed { problem, probe_at, retry_delay } }
                }
                None => State::RollingBack { problem, held },
            };
        }
        Event::Exited { child, .. } if new.as_ref().is_some_and(|new| new.child == child) => {
            return State::HandoverRollback { old, new: None, problem, held };
        }
        Event::Installed(_)
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::DeadlinePassed => {}
    }
    State::HandoverRollback { old, new, problem, held }
}

pub(super) fn draining<C>(
    serving: Serving,
    mut leaving: Terminating,
    mut held: Option<C>,
    event: Event<C>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::Exited { child, .. } if child == leaving.child => {
            turn.install(held);
            return State::Running { child: serving.child, since: serving.since };
        }
        Event::Exited { child, .. } if child == serving.child => {
            // The other one is past recall; the next starts when it has ended.
            turn.install(held);
            return State::Stopping { leaving, next: Next::Start };
        }
        Event::DeadlinePassed => leaving = turn.escalate(leaving),
        Event::CandidateArrived(candidate) => {
            let older = held.replace(candidate);
            turn.discard(older);
        }
        Event::StopRequested => {
            turn.discard(held);
            let first = turn.leave(serving.child, serving.since);
            return State::StoppingBoth { first, second: leaving };
        }
        Event::Installed(Err(problem)) => turn.not_installed(problem),
        // It has only just been started, or was given a chance to.
        Event::RestartRequested
        | Event::Installed(Ok(_))
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::Draining { serving, leaving, held }
}

pub(super) fn stopping_both<C>(
    mut first: Terminating,
    mut second: Terminating,
    event: Event<C>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::Exited { child, .. } if child == first.child => {
            return State::Stopping { leaving: second, next: Next::Finish };
        }
        Event::Exited { child, .. } if child == second.child => {
            return State::Stopping { leaving: first, next: Next::Finish };
        }
        Event::DeadlinePassed => {
            first = turn.escalate(first);
            second = turn.escalate(second);
        }
        Event::CandidateArrived(candidate) => turn.order(Action::Discard(candidate)),
        Event::Installed(_)
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::RolledBack(_)
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::StopRequested => {}
    }
    State::StoppingBoth { first, second }
}
