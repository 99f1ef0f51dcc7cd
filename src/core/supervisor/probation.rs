//! From a collector's start to its verdict: proved, rolled back, or failing with nothing to go back to.
//!
//! The same rules as in `transition`, whose `Transition` it uses; it owns the states Starting and RollingBack.

use super::activation::blame_for_exit_alone;
use super::transition::{Pace, Transition};
use super::{Next, PROBE_TIMEOUT, ProbationStage, Start, State};
use crate::core::backoff;
use crate::core::event::{Action, Blame, Candidate, Event, Health, Problem, RollBackTarget, TrustLevel, Verdict};

pub(super) fn starting<C: Candidate>(
    mut start: Start<C>,
    stage: ProbationStage,
    event: Event<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::Exited { child, problem, cause } if child == start.child => {
            let is_ready = !matches!(stage, ProbationStage::NotReady { .. });
            return crashed(start, problem, blame_for_exit_alone(cause, is_ready), transition);
        }
        Event::Ready { child } if child == start.child => {
            if let ProbationStage::NotReady { .. } = stage {
                return is_ready(start, transition);
            }
        }
        Event::Probed { child, health } if child == start.child => return judge(start, stage, health, transition),
        Event::DeadlinePassed => return advance(start, stage, transition),
        Event::CandidateArrived(candidate) => {
            transition.discard(start.queued.take());
            match stage {
                ProbationStage::NotReady { .. } | ProbationStage::Waiting { .. } | ProbationStage::Probing { .. } => {
                    start.queued = Some(candidate);
                }
                ProbationStage::Failed { .. } => transition.install(candidate),
            }
        }
        Event::Installed(Err(problem)) => transition.not_installed(problem),
        Event::RolledBack(outcome) => return rolled_back_alive(start, stage, outcome, transition),
        Event::StopRequested => {
            transition.discard(start.queued);
            return transition.stop(start.child, start.since, Next::Finish);
        }
        // It has just been started.
        Event::RestartRequested if !matches!(stage, ProbationStage::Failed { .. }) => {}
        Event::Installed(Ok(_)) | Event::RestartRequested => {
            transition.discard(start.queued);
            return transition.stop(start.child, start.since, Next::Start);
        }
        Event::Launched(_)
        | Event::Exited { .. }
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::Starting { start, stage }
}

fn is_ready<C: Candidate>(start: Start<C>, transition: &Transition<'_, C>) -> State<C> {
    State::Starting { start, stage: ProbationStage::Waiting { until: transition.now + transition.limits.min_uptime } }
}

/// An unexpected exit, before the collector had proved itself.
fn crashed<C: Candidate>(
    start: Start<C>,
    problem: Problem,
    blame: Blame,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    if start.trust == TrustLevel::OnProbation {
        return transition.roll_back(problem, blame, start.queued);
    }
    if let Some(problem) = transition.count_exit(start.since, &problem) {
        // It has served before.
        let blame = if blame == Blame::Environment { blame } else { Blame::Config };
        return transition.roll_back(problem, blame, start.queued);
    }
    transition.order(Action::Conclude(Verdict::Failing(problem)));
    transition.start_again(Pace::AfterExit, start.queued)
}

/// Takes the next step of the probation, if that is due.
fn advance<C: Candidate>(start: Start<C>, stage: ProbationStage, transition: &mut Transition<'_, C>) -> State<C> {
    let retry_delay = match stage {
        ProbationStage::NotReady { until } if transition.now >= until => return is_ready(start, transition),
        ProbationStage::Waiting { until } if transition.now >= until => {
            transition.limits.min_uptime.clamp(PROBE_TIMEOUT, backoff::CAP)
        }
        ProbationStage::Failed { probe_at, retry_delay, .. } if transition.now >= probe_at => {
            (retry_delay * 2).min(backoff::CAP)
        }
        ProbationStage::Probing { until, .. } if transition.now >= until => {
            let problem = format!("the health check did not answer within {} s", PROBE_TIMEOUT.as_secs());
            return judge(start, stage, Health::Unhealthy(problem), transition);
        }
        ProbationStage::NotReady { .. }
        | ProbationStage::Waiting { .. }
        | ProbationStage::Probing { .. }
        | ProbationStage::Failed { .. } => return State::Starting { start, stage },
    };
    transition.order(Action::Probe(start.child));
    State::Starting { start, stage: ProbationStage::Probing { until: transition.now + PROBE_TIMEOUT, retry_delay } }
}

/// Takes the answer to a probe: the verdict, unless it comes too late.
fn judge<C: Candidate>(
    mut start: Start<C>,
    stage: ProbationStage,
    health: Health,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    let ProbationStage::Probing { retry_delay, .. } = stage else {
        // The answer to a probe that was given up.
        return State::Starting { start, stage };
    };
    let queued = start.queued.take();
    match health {
        Health::Healthy => {
            transition.proved(start.trust);
            transition.run(start.child, start.since, queued)
        }
        Health::Unhealthy(problem) | Health::Unknown(problem) => {
            match start.trust {
                TrustLevel::OnProbation => {
                    let (problem, target) = (problem.clone(), RollBackTarget::Fallback);
                    transition.order(Action::RollBack { problem, blame: Blame::Config, target });
                    start.queued = queued;
                }
                TrustLevel::Confirmed | TrustLevel::Unconfirmed { .. } | TrustLevel::NoFallback => {
                    transition.order(Action::Conclude(Verdict::Failing(problem.clone())));
                    transition.install_queued(queued);
                }
            }
            let probe_at = transition.now + retry_delay;
            State::Starting { start, stage: ProbationStage::Failed { problem, probe_at, retry_delay } }
        }
    }
}

/// The files are rolled back while the collector that failed its health check still runs.
fn rolled_back_alive<C: Candidate>(
    mut start: Start<C>,
    stage: ProbationStage,
    outcome: Result<(), Problem>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    let ProbationStage::Failed { problem, .. } = &stage else {
        return State::Starting { start, stage };
    };
    let queued = start.queued.take();
    match outcome {
        Ok(()) => {
            transition.order(Action::Conclude(Verdict::RolledBack(problem.clone())));
            transition.install_queued(queued);
            transition.stop(start.child, start.since, Next::Start)
        }
        // It is alive, which is more than nothing; the next failed probe tries again.
        Err(obstacle) => {
            transition.order(Action::Conclude(Verdict::Failing(format!("{problem}; {obstacle}"))));
            transition.install_queued(queued);
            State::Starting { start, stage }
        }
    }
}

pub(super) fn rolling_back<C: Candidate>(
    problem: Problem,
    mut queued: Option<C>,
    event: Event<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::RolledBack(outcome) => {
            let (pace, verdict) = match outcome {
                Ok(()) => (Pace::AtOnce, Verdict::RolledBack(problem)),
                Err(obstacle) => (Pace::AfterFailure, Verdict::Failing(format!("{problem}; {obstacle}"))),
            };
            transition.order(Action::Conclude(verdict));
            return transition.start_again(pace, queued);
        }
        Event::StopRequested => {
            transition.discard(queued);
            return transition.finish();
        }
        Event::CandidateArrived(candidate) => {
            transition.discard(queued);
            queued = Some(candidate);
        }
        Event::Installed(_)
        | Event::Launched(_)
        | Event::Exited { .. }
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. }
        | Event::RestartRequested
        | Event::DeadlinePassed => {}
    }
    State::RollingBack { problem, queued }
}
