//! Two collectors: the old one serves until the new one beside it has proved itself.
//!
//! ```text
//!                       spawned              took over and proved                old one exited
//!   HandoverStarting ───────────▶ HandoverProbation ──────────────▶ Draining ──────────────────▶ Running (new)
//!      │                            │ failed                         ▲  │
//!      │ failed                     ▼                                │  └──────────────────────▶ Running (old)
//!      └───────────────────▶ HandoverRollback ───────────────────────┘         new one exited
//!
//!   The old one exits: HandoverStarting ▶ Launching, HandoverProbation ▶ Starting, HandoverRollback ▶ Starting or
//!   RollingBack. The one that serves exits: Draining ▶ Stopping (the other one), then Launching.
//! ```
//! The new one lives for min_uptime, once it is ready, before it gets any connection, since what a collector has
//! accepted dies with it;
//! then it serves for min_uptime before the old one has to go. A failure is blamed on the config or on the hand-over
//! (`activation`). The same rules as in `transition`, whose `Transition` it uses. A plain restart is the case without
//! overlap; this file owns the states with it. If the old one dies meanwhile, the new one is an ordinary start on
//! probation.

use super::activation::blame_for_exit;
use super::transition::Transition;
use super::{HandoverStage, Next, PROBE_TIMEOUT, ProbationStage, Serving, Start, State, TAKE_OVER_TIMEOUT};
use crate::core::event::{
    Action, Blame, Candidate, Event, Health, Problem, RollBackTarget, SpawnResult, TrustLevel, Verdict,
};
use crate::core::{Uptime, backoff};

/// Between two attempts to have the new collector take over.
const GATHER_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// Why a hand-over failed, and what is to blame.
struct Failure {
    problem: Problem,
    blame: Blame,
}

pub(super) fn starting<C: Candidate>(old: Serving, event: Event<C>, transition: &mut Transition<'_, C>) -> State<C> {
    match event {
        Event::Launched(SpawnResult::Spawned { child, trust, is_watched }) => {
            let start = Start { child, since: transition.now, trust, queued: None };
            let stage = HandoverStage::NotReady { until: transition.now + transition.limits.start_timeout };
            return State::HandoverProbation { old, start, is_watched, stage };
        }
        // One that could not be started was not tried.
        Event::Launched(SpawnResult::Failed(problem)) => {
            let failure = Failure { problem, blame: Blame::HandOver };
            return fail(old, None, TrustLevel::OnProbation, failure, None, transition);
        }
        Event::Launched(SpawnResult::NoConfig { fallback }) => {
            let trust = if fallback { TrustLevel::OnProbation } else { TrustLevel::NoFallback };
            let failure = Failure { problem: "the config file is missing".to_string(), blame: Blame::HandOver };
            return fail(old, None, trust, failure, None, transition);
        }
        // The spawn's answer comes first; then it is an ordinary one.
        Event::Exited { child, .. } if child == old.child => return State::Launching,
        Event::StopRequested => return transition.stop(old.child, old.since, Next::Finish),
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
    State::HandoverStarting { old }
}

pub(super) fn probation<C: Candidate>(
    old: Serving,
    mut start: Start<C>,
    is_watched: bool,
    mut stage: HandoverStage,
    event: Event<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    // One that is not watched cannot take over, whatever its config is like.
    let blame = |blame| if is_watched { blame } else { Blame::HandOver };
    match event {
        Event::Exited { child, problem, cause } if child == start.child => {
            let is_ready = !matches!(stage, HandoverStage::NotReady { .. });
            let failure = Failure { problem, blame: blame(blame_for_exit(cause, is_ready)) };
            return fail(old, None, start.trust, failure, start.queued, transition);
        }
        Event::Exited { child, .. } if child == old.child => return continue_without_old(start, stage, transition),
        Event::Ready { child } if child == start.child => {
            if let HandoverStage::NotReady { until } = stage {
                stage = gather(until, transition);
            }
        }
        Event::TookOver { child, outcome } if child == start.child => {
            if let HandoverStage::Gathering { is_last, .. } = stage {
                match outcome {
                    Ok(()) => stage = HandoverStage::Waiting { until: transition.now + transition.limits.min_uptime },
                    Err(problem) if is_last || !is_watched => {
                        let failure = Failure { problem, blame: Blame::HandOver };
                        return fail_alive(old, start, failure, transition);
                    }
                    Err(_) => {}
                }
            }
        }
        Event::Probed { child, health } if child == start.child && matches!(stage, HandoverStage::Probing { .. }) => {
            let failure = match health {
                Health::Healthy => return complete(old, start, transition),
                Health::Unhealthy(problem) => Failure { problem, blame: blame(Blame::Config) },
                Health::Unknown(problem) => Failure { problem, blame: Blame::HandOver },
            };
            return fail_alive(old, start, failure, transition);
        }
        Event::DeadlinePassed => match stage {
            HandoverStage::NotReady { until } if transition.now >= until => stage = gather(until, transition),
            HandoverStage::Gathering { take_over_at, until, .. } if transition.now >= take_over_at => {
                // What is missing at the end of the time the new config may not want: the probation decides.
                let is_last = transition.now >= until;
                transition.order(Action::TakeOver { child: start.child, in_part: is_last });
                stage = HandoverStage::Gathering { take_over_at: transition.now + GATHER_INTERVAL, until, is_last };
            }
            HandoverStage::Waiting { until } if transition.now >= until => {
                transition.order(Action::Probe(start.child));
                stage = HandoverStage::Probing { until: transition.now + PROBE_TIMEOUT };
            }
            HandoverStage::Probing { until } if transition.now >= until => {
                let problem = format!("the health check did not answer within {} s", PROBE_TIMEOUT.as_secs());
                let failure = Failure { problem, blame: blame(Blame::Config) };
                return fail_alive(old, start, failure, transition);
            }
            HandoverStage::NotReady { .. }
            | HandoverStage::Gathering { .. }
            | HandoverStage::Waiting { .. }
            | HandoverStage::Probing { .. } => {}
        },
        Event::CandidateArrived(candidate) => {
            let older = start.queued.replace(candidate);
            transition.discard(older);
        }
        Event::StopRequested => {
            transition.discard(start.queued);
            let (old, new) = (transition.end(old.child, old.since), transition.end(start.child, start.since));
            return match stage {
                HandoverStage::NotReady { .. } | HandoverStage::Gathering { .. } => {
                    State::StoppingBoth { first: old, second: new }
                }
                HandoverStage::Waiting { .. } | HandoverStage::Probing { .. } => {
                    State::StoppingBoth { first: new, second: old }
                }
            };
        }
        Event::Installed(Err(problem)) => transition.not_installed(problem),
        // A new one has only just been started.
        Event::RestartRequested
        | Event::Installed(Ok(_))
        | Event::Launched(_)
        | Event::RolledBack(_)
        | Event::Exited { .. }
        | Event::Ready { .. }
        | Event::TookOver { .. }
        | Event::Probed { .. } => {}
    }
    State::HandoverProbation { old, start, is_watched, stage }
}

/// The new one is ready, or counts as that: it takes over after min_uptime, wherever it listens when the time is up.
fn gather<C: Candidate>(started_by: Uptime, transition: &Transition<'_, C>) -> HandoverStage {
    let min_uptime = transition.limits.min_uptime;
    let take_over_at = transition.now + min_uptime;
    let until = take_over_at.max((started_by + min_uptime).min(take_over_at + TAKE_OVER_TIMEOUT));
    HandoverStage::Gathering { take_over_at, until, is_last: false }
}

/// The old one died first: there is only the new one now.
fn continue_without_old<C: Candidate>(
    start: Start<C>,
    stage: HandoverStage,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    let min_uptime = transition.limits.min_uptime;
    transition.replace_collector(start.trust);
    let stage = match stage {
        HandoverStage::NotReady { until } => ProbationStage::NotReady { until },
        HandoverStage::Gathering { .. } => ProbationStage::Waiting { until: transition.now + min_uptime },
        HandoverStage::Waiting { until } => ProbationStage::Waiting { until },
        HandoverStage::Probing { until } => {
            ProbationStage::Probing { until, retry_delay: min_uptime.clamp(PROBE_TIMEOUT, backoff::CAP) }
        }
    };
    State::Starting { start, stage }
}

/// The new one has proved itself: the old one ends.
fn complete<C: Candidate>(old: Serving, start: Start<C>, transition: &mut Transition<'_, C>) -> State<C> {
    let Start { child, since, trust, queued } = start;
    transition.replace_collector(trust);
    transition.proved(trust);
    let terminating = transition.end(old.child, old.since);
    State::Draining { serving: Serving { child, since }, terminating, queued }
}

/// The new one failed and still lives.
fn fail_alive<C: Candidate>(
    old: Serving,
    start: Start<C>,
    failure: Failure,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    let Start { child, since, trust, queued } = start;
    fail(old, Some(Serving { child, since }), trust, failure, queued, transition)
}

/// The new one failed, or never came to be: the old one serves as before.
fn fail<C: Candidate>(
    old: Serving,
    new: Option<Serving>,
    trust: TrustLevel,
    failure: Failure,
    queued: Option<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    if let Some(new) = &new {
        transition.order(Action::GiveBack(new.child));
    }
    let Failure { problem, blame } = failure;
    transition.activation.failed(blame);
    match trust {
        TrustLevel::OnProbation => {
            let target = RollBackTarget::Predecessor;
            transition.order(Action::RollBack { problem: problem.clone(), blame, target });
            State::HandoverRollback { old, new, problem, queued }
        }
        // The file has proved itself, or there is nothing to go back to.
        TrustLevel::Confirmed | TrustLevel::Unconfirmed { .. } | TrustLevel::NoFallback => {
            if let TrustLevel::Unconfirmed { .. } = trust {
                // A restart: it is the old one's config.
                transition.confirmation.restore();
            }
            transition.order(Action::Conclude(Verdict::Failing(problem)));
            end_new(old, new, queued, transition)
        }
    }
}

/// Ends the failed new one, if it lives.
fn end_new<C: Candidate>(
    old: Serving,
    new: Option<Serving>,
    queued: Option<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    match new {
        Some(new) => {
            let terminating = transition.end(new.child, new.since);
            State::Draining { serving: old, terminating, queued }
        }
        None => transition.run(old.child, old.since, queued),
    }
}

pub(super) fn rolling_back<C: Candidate>(
    old: Serving,
    new: Option<Serving>,
    problem: Problem,
    mut queued: Option<C>,
    event: Event<C>,
    transition: &mut Transition<'_, C>,
) -> State<C> {
    match event {
        Event::RolledBack(outcome) => {
            transition.order(Action::Conclude(match outcome {
                Ok(()) => Verdict::RolledBack(problem),
                Err(obstacle) => Verdict::Failing(format!("{problem}; {obstacle}")),
            }));
            return end_new(old, new, queued, transition);
        }
        Event::CandidateArrived(candidate) => {
            let older = queued.replace(candidate);
            transition.discard(older);
        }
        Event::StopRequested => {
            transition.discard(queued);
            return match new {
                Some(new) => {
                    let (first, second) = (transition.end(old.child, old.since), transition.end(new.child, new.since));
                    State::StoppingBoth { first, second }
                }
                None => transition.stop(old.child, old.since, Next::Finish),
            };
        }
        Event::Exited { child, .. } if child == old.child => {
            return match new {
                // The roll back's answer ends it, as after any failed health check.
                Some(Serving { child, since }) => {
                    let start = Start { child, since, trust: TrustLevel::OnProbation, queued };
                    let (probe_at, retry_delay) = (transition.now + PROBE_TIMEOUT, PROBE_TIMEOUT);
                    State::Starting { start, stage: ProbationStage::Failed { problem, probe_at, retry_delay } }
                }
                None => State::RollingBack { problem, queued },
            };
        }
        Event::Exited { child, .. } if new.as_ref().is_some_and(|new| new.child == child) => {
            return State::HandoverRollback { old, new: None, problem, queued };
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
    State::HandoverRollback { old, new, problem, queued }
}
