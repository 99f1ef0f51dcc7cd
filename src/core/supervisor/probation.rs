//! From a collector's start to its verdict: proved, rolled back, or failing with nothing to go back to.
//!
//! The same rules as in `transition`, whose `Transition` it uses; it owns the states Starting and RollingBack.

use super::transition::{Pace, Transition};
use super::{Next, PROBE_TIMEOUT, ProbationStage, Start, State};
use crate::core::backoff;
use crate::core::event::{Action, Event, Problem, TrustLevel, Verdict};

pub(super) fn starting<C>(
    mut start: Start<C>,
    proof: ProbationStage,
    event: Event<C>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::Exited { child, problem } if child == start.child => return crashed(start, problem, turn),
        Event::Probed { child, health } if child == start.child => return probed(start, proof, health, turn),
        Event::DeadlinePassed => return proof_due(start, proof, turn),
        Event::CandidateArrived(candidate) => {
            turn.discard(start.held.take());
            match proof {
                ProbationStage::Waiting { .. } | ProbationStage::Probing { .. } => start.held = Some(candidate),
                ProbationStage::Failed { .. } => turn.order(Action::Install(candidate)),
            }
        }
        Event::Installed(Err(problem)) => turn.not_installed(problem),
        Event::RolledBack(outcome) => return rolled_back_alive(start, proof, outcome, turn),
        Event::StopRequested => {
            turn.discard(start.held);
            return turn.stop(start.child, start.since, Next::Finish);
        }
        // A restart is what it has just had.
        Event::RestartRequested if !matches!(proof, ProbationStage::Failed { .. }) => {}
        Event::Installed(Ok(_)) | Event::RestartRequested => {
            turn.discard(start.held);
            return turn.stop(start.child, start.since, Next::Start);
        }
        Event::Launched(_) | Event::Exited { .. } | Event::TookOver { .. } | Event::Probed { .. } => {}
    }
    State::Starting { start, proof }
}

/// An exit that nobody asked for, before the collector had proved itself.
fn crashed<C>(start: Start<C>, problem: Problem, turn: &mut Transition<'_, C>) -> State<C> {
    let mut pace = Pace::Delayed;
    if turn.now >= start.since + turn.limits.min_uptime {
        turn.backoff.reset();
        pace = Pace::AtOnce;
    }
    if start.standing == TrustLevel::OnProbation {
        return roll_back(problem, start.held, turn);
    }
    turn.order(Action::Conclude(Verdict::Failing(problem)));
    turn.start_again(pace, start.held)
}

pub(super) fn roll_back<C>(problem: Problem, held: Option<C>, turn: &mut Transition<'_, C>) -> State<C> {
    turn.order(Action::RollBack(problem.clone()));
    State::RollingBack { problem, held }
}

/// The deadline of a probation may have passed: each step has its own.
fn proof_due<C>(start: Start<C>, proof: ProbationStage, turn: &mut Transition<'_, C>) -> State<C> {
    let retry_delay = match proof {
        ProbationStage::Waiting { until } if turn.now >= until => {
            turn.backoff.reset();
            turn.limits.min_uptime.clamp(PROBE_TIMEOUT, backoff::CAP)
        }
        ProbationStage::Failed { probe_at, retry_delay, .. } if turn.now >= probe_at => {
            (retry_delay * 2).min(backoff::CAP)
        }
        ProbationStage::Probing { until, .. } if turn.now >= until => {
            let problem = format!("the health check did not answer within {} s", PROBE_TIMEOUT.as_secs());
            return probed(start, proof, Err(problem), turn);
        }
        ProbationStage::Waiting { .. } | ProbationStage::Probing { .. } | ProbationStage::Failed { .. } => {
            return State::Starting { start, proof };
        }
    };
    turn.order(Action::Probe(start.child));
    State::Starting { start, proof: ProbationStage::Probing { until: turn.now + PROBE_TIMEOUT, retry_delay } }
}

/// The verdict.
fn probed<C>(
    mut start: Start<C>,
    proof: ProbationStage,
    health: Result<(), Problem>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    let ProbationStage::Probing { retry_delay, .. } = proof else {
        // The answer to a probe that was given up.
        return State::Starting { start, proof };
    };
    let held = start.held.take();
    match health {
        Ok(()) => {
            turn.proved(start.standing);
            turn.install(held);
            State::Running { child: start.child, since: start.since }
        }
        Err(problem) => {
            match start.standing {
                TrustLevel::OnProbation => {
                    turn.order(Action::RollBack(problem.clone()));
                    start.held = held;
                }
                TrustLevel::LastKnownGood | TrustLevel::NoFallback => {
                    turn.order(Action::Conclude(Verdict::Failing(problem.clone())));
                    turn.install(held);
                }
            }
            let probe_at = turn.now + retry_delay;
            State::Starting { start, proof: ProbationStage::Failed { problem, probe_at, retry_delay } }
        }
    }
}

/// The files are rolled back while the collector that failed its health check still runs.
fn rolled_back_alive<C>(
    mut start: Start<C>,
    proof: ProbationStage,
    outcome: Result<(), Problem>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    let ProbationStage::Failed { problem, .. } = &proof else {
        return State::Starting { start, proof };
    };
    let held = start.held.take();
    match outcome {
        Ok(()) => {
            turn.order(Action::Conclude(Verdict::RolledBack(problem.clone())));
            turn.install(held);
            turn.stop(start.child, start.since, Next::Start)
        }
        // It is alive, which is more than nothing; the next failed probe tries again.
        Err(obstacle) => {
            turn.order(Action::Conclude(Verdict::Failing(format!("{problem}; {obstacle}"))));
            turn.install(held);
            State::Starting { start, proof }
        }
    }
}

pub(super) fn rolling_back<C>(
    problem: Problem,
    mut held: Option<C>,
    event: Event<C>,
    turn: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::RolledBack(outcome) => {
            let (pace, verdict) = match outcome {
                Ok(()) => (Pace::AtOnce, Verdict::RolledBack(problem)),
                Err(obstacle) => (Pace::Delayed, Verdict::Failing(format!("{problem}; {obstacle}"))),
            };
            turn.order(Action::Conclude(verdict));
            return turn.start_again(pace, held);
        }
        Event::StopRequested => {
            turn.discard(held);
            return turn.finish();
        }
        Event::CandidateArrived(candidate) => {
            turn.discard(held);
            held = Some(candidate);
        }
        Event::Installed(_)
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::DeadlinePassed => {}
    }
    State::RollingBack { problem, held }
}
