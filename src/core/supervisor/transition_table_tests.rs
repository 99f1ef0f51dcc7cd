//! Every state against every event: the orders and the next state, as one table.
//!
//! The states are those of 100 s, which is the deadline of each that has one; their child is number 1, and a new one
//! beside it is number 2. What every fact says about the fault of a failed hand-over is a table of its own.

use super::tests::{LIMITS, seconds, text};
use super::*;
use crate::core::event::TrustLevel::{Confirmed, NoFallback, OnProbation, Unconfirmed};
use crate::core::event::{ActivationMode, ExitCause, Health, PortHolder, SpawnResult};

type Named = State<&'static str>;

fn trust(trust: TrustLevel) -> &'static str {
    match trust {
        Confirmed => "confirmed",
        Unconfirmed { .. } => "unconfirmed",
        OnProbation => "on probation",
        NoFallback => "no fallback",
    }
}

fn phase(terminating: &Terminating) -> &'static str {
    match terminating.phase {
        TerminationStage::SignalDelayed { .. } => "delayed",
        TerminationStage::TermSent { .. } => "terminated",
        TerminationStage::KillSent => "killed",
    }
}

/// What a state is called in the table.
fn name(state: &Named) -> String {
    let queued = |queued: &Option<&str>| queued.map(|candidate| format!(", {candidate} queued")).unwrap_or_default();
    match state {
        State::Stopped { .. } => "stopped".into(),
        State::Launching => "launching".into(),
        State::Starting { start, stage } => {
            let stage = match stage {
                ProbationStage::NotReady { .. } => "not ready",
                ProbationStage::Waiting { .. } => "waiting",
                ProbationStage::Probing { .. } => "probing",
                ProbationStage::Failed { .. } => "failed",
            };
            format!("{stage}, {}{}", trust(start.trust), queued(&start.queued))
        }
        State::Running { .. } => "running".into(),
        State::Stopping { terminating, next } => {
            format!("{} to {}", phase(terminating), if *next == Next::Start { "start" } else { "finish" })
        }
        State::HandoverStarting { .. } => "handover starting".into(),
        State::HandoverProbation { start, is_watched, stage, .. } => {
            let stage = match stage {
                HandoverStage::NotReady { .. } => "not ready",
                HandoverStage::Gathering { is_last: false, .. } => "gathering",
                HandoverStage::Gathering { is_last: true, .. } => "gathering at last",
                HandoverStage::Waiting { .. } => "waiting",
                HandoverStage::Probing { .. } => "probing",
            };
            let unwatched = if *is_watched { "" } else { ", unwatched" };
            format!("handover {stage}, {}{unwatched}{}", trust(start.trust), queued(&start.queued))
        }
        State::HandoverRollback { new, queued: candidate, .. } => {
            format!("handover rollback{}{}", if new.is_some() { " of 2" } else { "" }, queued(candidate))
        }
        State::Draining { serving, terminating, queued: candidate } => {
            format!("{} serves, {} {}{}", serving.child.0, terminating.child.0, phase(terminating), queued(candidate))
        }
        State::StoppingBoth { first, second } => {
            format!("{} {}, {} {}", first.child.0, phase(first), second.child.0, phase(second))
        }
        State::RollingBack { queued: candidate, .. } => format!("rolling back{}", queued(candidate)),
        State::Backoff { until } if *until == seconds(100.0) => "due".into(),
        State::Backoff { .. } => "backoff".into(),
        State::Finished => "finished".into(),
    }
}

const AT: Uptime = Duration::from_secs(100);
const NOT_READY: fn() -> ProbationStage = || ProbationStage::NotReady { until: AT };
const WAITING: fn() -> ProbationStage = || ProbationStage::Waiting { until: AT };
const PROBING: fn() -> ProbationStage = || ProbationStage::Probing { until: AT, retry_delay: seconds(10.0) };
const FAILED: fn() -> ProbationStage =
    || ProbationStage::Failed { problem: "unhealthy".into(), probe_at: AT, retry_delay: seconds(10.0) };

fn starting(stage: fn() -> ProbationStage, trust: TrustLevel, queued: Option<&'static str>) -> Named {
    State::Starting { start: Start { child: ChildId(1), since: seconds(90.0), trust, queued }, stage: stage() }
}

/// Not yet up for `min_uptime`.
fn young(age: f64, trust: TrustLevel, queued: Option<&'static str>) -> Named {
    let since = AT - seconds(age);
    let stage = ProbationStage::Waiting { until: since + LIMITS.min_uptime };
    State::Starting { start: Start { child: ChildId(1), since, trust, queued }, stage }
}

fn stopping(phase: TerminationStage, next: Next) -> Named {
    State::Stopping { terminating: Terminating { child: ChildId(1), phase }, next }
}

const NEW_NOT_READY: HandoverStage = HandoverStage::NotReady { until: AT };
const GATHERING: HandoverStage = gathering(Duration::from_secs(110), false);
const TIME_IS_UP: HandoverStage = gathering(AT, false);
const GATHERING_AT_LAST: HandoverStage = gathering(AT, true);
const SERVING: HandoverStage = HandoverStage::Waiting { until: AT };
const PROBING_NEW: HandoverStage = HandoverStage::Probing { until: AT };

const fn gathering(until: Uptime, is_last: bool) -> HandoverStage {
    HandoverStage::Gathering { take_over_at: AT, until, is_last }
}

fn serving(child: u64, age: f64) -> Serving {
    Serving { child: ChildId(child), since: AT - seconds(age) }
}

/// The old one has run for 50 s, the new one for `age` seconds.
fn handing_over(stage: HandoverStage, trust: TrustLevel, age: f64, queued: Option<&'static str>) -> Named {
    let start = Start { child: ChildId(2), since: AT - seconds(age), trust, queued };
    State::HandoverProbation { old: serving(1, 50.0), start, is_watched: true, stage }
}

/// The same, but the kernel does not tell what the new one listens on.
fn unwatched(stage: HandoverStage, trust: TrustLevel) -> Named {
    let start = Start { child: ChildId(2), since: AT - seconds(20.0), trust, queued: None };
    State::HandoverProbation { old: serving(1, 50.0), start, is_watched: false, stage }
}

fn handover_rollback(new: Option<Serving>, queued: Option<&'static str>) -> Named {
    State::HandoverRollback { old: serving(1, 50.0), new, problem: "boom".into(), queued }
}

/// Number 1 or 2 serves, the other one is in `phase`.
fn draining(serves: u64, phase: TerminationStage, queued: Option<&'static str>) -> Named {
    State::Draining {
        serving: serving(serves, 50.0),
        terminating: Terminating { child: ChildId(3 - serves), phase },
        queued,
    }
}

fn stopping_both(first: TerminationStage, second: TerminationStage) -> Named {
    let terminating = |child, phase| Terminating { child: ChildId(child), phase };
    State::StoppingBoth { first: terminating(1, first), second: terminating(2, second) }
}

const TERMINATED: TerminationStage = TerminationStage::TermSent { kill_at: AT };
const TERMINATED_LATER: TerminationStage = TerminationStage::TermSent { kill_at: Duration::from_secs(120) };
const DELAYED: TerminationStage = TerminationStage::SignalDelayed { until: AT };

/// Every event, by the name that the table uses. All but "early" find the clock at 100 s.
fn events() -> Vec<(&'static str, Event<&'static str>)> {
    let own = ChildId(1);
    let new = ChildId(2);
    let other = ChildId(7);
    let spawned =
        |is_watched| Event::Launched(SpawnResult::Spawned { child: ChildId(2), trust: OnProbation, is_watched });
    let exited = |child, problem: &str, cause| Event::Exited { child, problem: problem.into(), cause };
    let port_taken = ExitCause::PortInUse(PortHolder::OtherCollector);
    let environment = ExitCause::Environment;
    let unhealthy = || Health::Unhealthy("unhealthy".into());
    let unknown = || Health::Unknown("unhealthy".into());
    vec![
        ("spawned", spawned(true)),
        ("spawned unwatched", spawned(false)),
        ("spawn failed", Event::Launched(SpawnResult::Failed("no collector".into()))),
        ("no config", Event::Launched(SpawnResult::NoConfig { fallback: false })),
        ("config lost", Event::Launched(SpawnResult::NoConfig { fallback: true })),
        ("exit", exited(own, "boom", ExitCause::Unrelated)),
        ("exit, port taken", exited(own, "boom", port_taken)),
        ("exit of the new", exited(new, "bang", ExitCause::Unrelated)),
        ("exit of the new, port taken", exited(new, "bang", port_taken)),
        ("exit, environment", exited(own, "boom", environment)),
        ("exit of the new, environment", exited(new, "bang", environment)),
        ("exit of another", exited(other, "boom", port_taken)),
        ("ready", Event::Ready { child: own }),
        ("new ready", Event::Ready { child: new }),
        ("another ready", Event::Ready { child: other }),
        ("candidate", Event::CandidateArrived("b")),
        ("installed", Event::Installed(Ok(ActivationMode::Restart))),
        ("to hand over", Event::Installed(Ok(ActivationMode::HandOver))),
        ("not installed", Event::Installed(Err("disk full".into()))),
        ("rolled back", Event::RolledBack(Ok(()))),
        ("not rolled back", Event::RolledBack(Err("disk full".into()))),
        ("healthy", Event::Probed { child: own, health: Health::Healthy }),
        ("unhealthy", Event::Probed { child: own, health: unhealthy() }),
        ("health unknown", Event::Probed { child: own, health: unknown() }),
        ("new healthy", Event::Probed { child: new, health: Health::Healthy }),
        ("new unhealthy", Event::Probed { child: new, health: unhealthy() }),
        ("new health unknown", Event::Probed { child: new, health: unknown() }),
        ("another healthy", Event::Probed { child: other, health: Health::Healthy }),
        ("another unhealthy", Event::Probed { child: other, health: unhealthy() }),
        ("own took over", Event::TookOver { child: own, outcome: Ok(()) }),
        ("own did not", Event::TookOver { child: own, outcome: Err("no port".into()) }),
        ("took over", Event::TookOver { child: new, outcome: Ok(()) }),
        ("did not take over", Event::TookOver { child: new, outcome: Err("no port".into()) }),
        ("another took over", Event::TookOver { child: other, outcome: Ok(()) }),
        ("another did not", Event::TookOver { child: other, outcome: Err("no port".into()) }),
        ("restart", Event::RestartRequested),
        ("stop", Event::StopRequested),
        ("early", Event::DeadlinePassed),
        ("deadline", Event::DeadlinePassed),
    ]
}

/// Facts that matter only in some states: elsewhere the event does what its plain form does.
fn same_as(called: &'static str, state: &Named) -> &'static str {
    match (called, state) {
        ("to hand over", State::Running { .. }) => called,
        ("spawned unwatched", State::HandoverStarting { .. }) => called,
        ("exit of the new, port taken", State::HandoverProbation { .. }) => called,
        ("to hand over", _) => "installed",
        ("spawned unwatched", _) => "spawned",
        ("exit of the new, port taken", _) => "exit of the new",
        ("exit, environment", State::Starting { stage: ProbationStage::NotReady { .. }, .. }) => called,
        (
            "exit of the new, environment",
            State::HandoverProbation { is_watched: true, stage: HandoverStage::NotReady { .. }, .. },
        ) => called,
        ("exit, environment", _) => "exit",
        ("exit of the new, environment", _) => "exit of the new",
        // Alone it cannot be another collector's doing.
        ("exit, port taken", _) => "exit",
        ("health unknown", _) => "unhealthy",
        _ => called,
    }
}

/// A state, and what each event that matters there leads to: the orders and the next state. The others change nothing.
type Row = (fn() -> Named, &'static [(&'static str, &'static str, &'static str)]);

const TABLE: &[Row] = &[
    (
        || State::Stopped { check_at: AT },
        &[
            ("candidate", "install b", "stopped"),
            ("installed", "spawn", "launching"),
            ("not installed", "not installed (disk full)", "stopped"),
            ("restart", "spawn", "launching"),
            ("stop", "finish", "finished"),
            ("deadline", "spawn", "launching"),
        ],
    ),
    (
        || State::Launching,
        &[
            ("spawned", "", "not ready, on probation"),
            ("spawn failed", "failing (no collector)", "backoff"),
            ("no config", "", "stopped"),
            ("config lost", "roll back (the config file is missing)", "rolling back"),
            ("candidate", "discard b", "launching"),
            ("stop", "finish", "finished"),
        ],
    ),
    (
        || starting(NOT_READY, OnProbation, None),
        &[
            ("exit", "roll back as it did not start (boom)", "rolling back"),
            ("exit, environment", "roll back to try later (boom)", "rolling back"),
            ("ready", "", "waiting, on probation"),
            ("candidate", "", "not ready, on probation, b queued"),
            ("installed", "terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "not ready, on probation"),
            ("stop", "terminate 1", "terminated to finish"),
            ("deadline", "", "waiting, on probation"),
        ],
    ),
    (
        || starting(NOT_READY, Confirmed, Some("a")),
        &[
            ("exit", "failing (boom), install a", "due"),
            ("exit, environment", "failing (boom), install a", "due"),
            ("ready", "", "waiting, confirmed, a queued"),
            ("candidate", "discard a", "not ready, confirmed, b queued"),
            ("installed", "discard a, terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "not ready, confirmed, a queued"),
            ("stop", "discard a, terminate 1", "terminated to finish"),
            ("deadline", "", "waiting, confirmed, a queued"),
        ],
    ),
    (
        || young(0.3, NoFallback, None),
        &[
            ("exit", "failing (boom), spawn", "launching"),
            ("candidate", "", "waiting, no fallback, b queued"),
            ("installed", "", "delayed to start"),
            ("not installed", "not installed (disk full)", "waiting, no fallback"),
            ("stop", "", "delayed to finish"),
        ],
    ),
    (
        || young(9.0, Confirmed, None),
        &[
            ("exit", "failing (boom), spawn", "launching"),
            ("candidate", "", "waiting, confirmed, b queued"),
            ("installed", "terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "waiting, confirmed"),
            ("stop", "terminate 1", "terminated to finish"),
        ],
    ),
    (
        || young(9.0, Confirmed, Some("a")),
        &[
            ("exit", "failing (boom), install a", "due"),
            ("candidate", "discard a", "waiting, confirmed, b queued"),
            ("installed", "discard a, terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "waiting, confirmed, a queued"),
            ("stop", "discard a, terminate 1", "terminated to finish"),
        ],
    ),
    (
        || young(9.0, OnProbation, Some("a")),
        &[
            ("exit", "roll back (boom)", "rolling back, a queued"),
            ("candidate", "discard a", "waiting, on probation, b queued"),
            ("installed", "discard a, terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "waiting, on probation, a queued"),
            ("stop", "discard a, terminate 1", "terminated to finish"),
        ],
    ),
    (
        || starting(WAITING, NoFallback, None),
        &[
            ("exit", "failing (boom), spawn", "launching"),
            ("candidate", "", "waiting, no fallback, b queued"),
            ("installed", "terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "waiting, no fallback"),
            ("stop", "terminate 1", "terminated to finish"),
            ("deadline", "probe 1", "probing, no fallback"),
        ],
    ),
    (
        || starting(WAITING, OnProbation, None),
        &[
            ("exit", "roll back (boom)", "rolling back"),
            ("candidate", "", "waiting, on probation, b queued"),
            ("installed", "terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "waiting, on probation"),
            ("stop", "terminate 1", "terminated to finish"),
            ("deadline", "probe 1", "probing, on probation"),
        ],
    ),
    (
        || starting(PROBING, Confirmed, None),
        &[
            ("exit", "failing (boom), spawn", "launching"),
            ("candidate", "", "probing, confirmed, b queued"),
            ("installed", "terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "probing, confirmed"),
            ("healthy", "proved", "running"),
            ("unhealthy", "failing (unhealthy)", "failed, confirmed"),
            ("stop", "terminate 1", "terminated to finish"),
            ("deadline", "failing (the health check did not answer within 5 s)", "failed, confirmed"),
        ],
    ),
    (
        || starting(PROBING, NoFallback, Some("a")),
        &[
            ("exit", "failing (boom), install a", "due"),
            ("candidate", "discard a", "probing, no fallback, b queued"),
            ("installed", "discard a, terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "probing, no fallback, a queued"),
            ("healthy", "promote, promoted, install a to hand over", "running"),
            ("unhealthy", "failing (unhealthy), install a", "failed, no fallback"),
            ("stop", "discard a, terminate 1", "terminated to finish"),
            ("deadline", "failing (the health check did not answer within 5 s), install a", "failed, no fallback"),
        ],
    ),
    (
        || starting(PROBING, OnProbation, Some("a")),
        &[
            ("exit", "roll back (boom)", "rolling back, a queued"),
            ("candidate", "discard a", "probing, on probation, b queued"),
            ("installed", "discard a, terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "probing, on probation, a queued"),
            ("healthy", "promote, promoted, install a to hand over", "running"),
            ("unhealthy", "roll back (unhealthy)", "failed, on probation, a queued"),
            ("stop", "discard a, terminate 1", "terminated to finish"),
            ("deadline", "roll back (the health check did not answer within 5 s)", "failed, on probation, a queued"),
        ],
    ),
    (
        || starting(FAILED, NoFallback, None),
        &[
            ("exit", "failing (boom), spawn", "launching"),
            ("candidate", "install b", "failed, no fallback"),
            ("installed", "terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "failed, no fallback"),
            ("rolled back", "rolled back (unhealthy), terminate 1", "terminated to start"),
            ("not rolled back", "failing (unhealthy; disk full)", "failed, no fallback"),
            ("restart", "terminate 1", "terminated to start"),
            ("stop", "terminate 1", "terminated to finish"),
            ("deadline", "probe 1", "probing, no fallback"),
        ],
    ),
    (
        || starting(FAILED, OnProbation, Some("a")),
        &[
            ("exit", "roll back (boom)", "rolling back, a queued"),
            ("candidate", "discard a, install b", "failed, on probation"),
            ("installed", "discard a, terminate 1", "terminated to start"),
            ("not installed", "not installed (disk full)", "failed, on probation, a queued"),
            ("rolled back", "rolled back (unhealthy), install a, terminate 1", "terminated to start"),
            ("not rolled back", "failing (unhealthy; disk full), install a", "failed, on probation"),
            ("restart", "discard a, terminate 1", "terminated to start"),
            ("stop", "discard a, terminate 1", "terminated to finish"),
            ("deadline", "probe 1", "probing, on probation, a queued"),
        ],
    ),
    (
        || State::Running { child: ChildId(1), since: seconds(50.0) },
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b to hand over", "running"),
            ("installed", "terminate 1", "terminated to start"),
            ("to hand over", "spawn the second", "handover starting"),
            ("not installed", "not installed (disk full)", "running"),
            ("restart", "terminate 1", "terminated to start"),
            ("stop", "terminate 1", "terminated to finish"),
        ],
    ),
    (
        || stopping(TerminationStage::SignalDelayed { until: AT }, Next::Start),
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "delayed to start"),
            ("not installed", "not installed (disk full)", "delayed to start"),
            ("stop", "", "delayed to finish"),
            ("deadline", "terminate 1", "terminated to start"),
        ],
    ),
    (
        || stopping(TerminationStage::SignalDelayed { until: AT }, Next::Finish),
        &[
            ("exit", "finish", "finished"),
            ("candidate", "discard b", "delayed to finish"),
            ("not installed", "not installed (disk full)", "delayed to finish"),
            ("deadline", "terminate 1", "terminated to finish"),
        ],
    ),
    (
        || stopping(TerminationStage::TermSent { kill_at: AT }, Next::Start),
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "terminated to start"),
            ("not installed", "not installed (disk full)", "terminated to start"),
            ("stop", "", "terminated to finish"),
            ("deadline", "kill 1", "killed to start"),
        ],
    ),
    (
        || stopping(TerminationStage::TermSent { kill_at: AT }, Next::Finish),
        &[
            ("exit", "finish", "finished"),
            ("candidate", "discard b", "terminated to finish"),
            ("not installed", "not installed (disk full)", "terminated to finish"),
            ("deadline", "kill 1", "killed to finish"),
        ],
    ),
    (
        || stopping(TerminationStage::KillSent, Next::Start),
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "killed to start"),
            ("not installed", "not installed (disk full)", "killed to start"),
            ("stop", "", "killed to finish"),
        ],
    ),
    (
        || stopping(TerminationStage::KillSent, Next::Finish),
        &[
            ("exit", "finish", "finished"),
            ("candidate", "discard b", "killed to finish"),
            ("not installed", "not installed (disk full)", "killed to finish"),
        ],
    ),
    (
        || State::RollingBack { problem: "boom".into(), queued: None },
        &[
            ("candidate", "", "rolling back, b queued"),
            ("rolled back", "rolled back (boom), spawn", "launching"),
            ("not rolled back", "failing (boom; disk full)", "backoff"),
            ("stop", "finish", "finished"),
        ],
    ),
    (
        || State::RollingBack { problem: "boom".into(), queued: Some("a") },
        &[
            ("candidate", "discard a", "rolling back, b queued"),
            ("rolled back", "rolled back (boom), install a", "due"),
            ("not rolled back", "failing (boom; disk full), install a", "backoff"),
            ("stop", "discard a, finish", "finished"),
        ],
    ),
    (
        || State::Backoff { until: AT },
        &[
            ("candidate", "install b", "due"),
            ("installed", "spawn", "launching"),
            ("not installed", "not installed (disk full)", "due"),
            ("restart", "spawn", "launching"),
            ("stop", "finish", "finished"),
            ("deadline", "spawn", "launching"),
        ],
    ),
    (
        || State::HandoverStarting { old: serving(1, 50.0) },
        &[
            ("spawned", "", "handover not ready, on probation"),
            ("spawned unwatched", "", "handover not ready, on probation, unwatched"),
            ("spawn failed", "undo to try again (no collector)", "handover rollback"),
            ("no config", "failing (the config file is missing)", "running"),
            ("config lost", "undo to try again (the config file is missing)", "handover rollback"),
            ("exit", "", "launching"),
            ("candidate", "discard b", "handover starting"),
            ("stop", "terminate 1", "terminated to finish"),
        ],
    ),
    (
        || handing_over(NEW_NOT_READY, OnProbation, 5.0, Some("a")),
        &[
            ("exit", "", "not ready, on probation, a queued"),
            ("exit of the new", "undo as it did not start (bang)", "handover rollback, a queued"),
            ("exit of the new, port taken", "undo to try again (bang)", "handover rollback, a queued"),
            ("exit of the new, environment", "undo to try later (bang)", "handover rollback, a queued"),
            ("new ready", "", "handover gathering, on probation, a queued"),
            ("candidate", "discard a", "handover not ready, on probation, b queued"),
            ("not installed", "not installed (disk full)", "handover not ready, on probation, a queued"),
            ("stop", "discard a, terminate 1, terminate 2", "1 terminated, 2 terminated"),
            ("deadline", "", "handover gathering, on probation, a queued"),
        ],
    ),
    (
        || handing_over(GATHERING, OnProbation, 5.0, None),
        &[
            ("exit", "", "waiting, on probation"),
            ("exit of the new", "undo (bang)", "handover rollback"),
            ("exit of the new, port taken", "undo to try again (bang)", "handover rollback"),
            ("candidate", "", "handover gathering, on probation, b queued"),
            ("not installed", "not installed (disk full)", "handover gathering, on probation"),
            ("took over", "", "handover waiting, on probation"),
            ("stop", "terminate 1, terminate 2", "1 terminated, 2 terminated"),
            ("deadline", "take over 2", "handover gathering, on probation"),
        ],
    ),
    (
        || handing_over(TIME_IS_UP, Confirmed, 0.3, Some("a")),
        &[
            ("exit", "", "waiting, confirmed, a queued"),
            ("exit of the new", "failing (bang), install a to hand over", "running"),
            ("exit of the new, port taken", "failing (bang), install a to hand over", "running"),
            ("candidate", "discard a", "handover gathering, confirmed, b queued"),
            ("not installed", "not installed (disk full)", "handover gathering, confirmed, a queued"),
            ("took over", "", "handover waiting, confirmed, a queued"),
            ("stop", "discard a, terminate 1", "1 terminated, 2 delayed"),
            ("deadline", "take over 2 in part", "handover gathering at last, confirmed, a queued"),
        ],
    ),
    (
        || handing_over(GATHERING_AT_LAST, OnProbation, 40.0, Some("a")),
        &[
            ("exit", "", "waiting, on probation, a queued"),
            ("exit of the new", "undo (bang)", "handover rollback, a queued"),
            ("exit of the new, port taken", "undo to try again (bang)", "handover rollback, a queued"),
            ("candidate", "discard a", "handover gathering at last, on probation, b queued"),
            ("not installed", "not installed (disk full)", "handover gathering at last, on probation, a queued"),
            ("took over", "", "handover waiting, on probation, a queued"),
            ("did not take over", "give back 2, undo to try again (no port)", "handover rollback of 2, a queued"),
            ("stop", "discard a, terminate 1, terminate 2", "1 terminated, 2 terminated"),
            ("deadline", "take over 2 in part", "handover gathering at last, on probation, a queued"),
        ],
    ),
    (
        || handing_over(GATHERING_AT_LAST, Confirmed, 0.3, Some("a")),
        &[
            ("exit", "", "waiting, confirmed, a queued"),
            ("exit of the new", "failing (bang), install a to hand over", "running"),
            ("exit of the new, port taken", "failing (bang), install a to hand over", "running"),
            ("candidate", "discard a", "handover gathering at last, confirmed, b queued"),
            ("not installed", "not installed (disk full)", "handover gathering at last, confirmed, a queued"),
            ("took over", "", "handover waiting, confirmed, a queued"),
            ("did not take over", "give back 2, failing (no port)", "1 serves, 2 delayed, a queued"),
            ("stop", "discard a, terminate 1", "1 terminated, 2 delayed"),
            ("deadline", "take over 2 in part", "handover gathering at last, confirmed, a queued"),
        ],
    ),
    (
        || unwatched(GATHERING, OnProbation),
        &[
            ("exit", "", "waiting, on probation"),
            ("exit of the new", "undo to try again (bang)", "handover rollback"),
            ("exit of the new, port taken", "undo to try again (bang)", "handover rollback"),
            ("candidate", "", "handover gathering, on probation, unwatched, b queued"),
            ("not installed", "not installed (disk full)", "handover gathering, on probation, unwatched"),
            ("took over", "", "handover waiting, on probation, unwatched"),
            ("did not take over", "give back 2, undo to try again (no port)", "handover rollback of 2"),
            ("stop", "terminate 1, terminate 2", "1 terminated, 2 terminated"),
            ("deadline", "take over 2", "handover gathering, on probation, unwatched"),
        ],
    ),
    (
        || unwatched(PROBING_NEW, OnProbation),
        &[
            ("exit", "", "probing, on probation"),
            ("exit of the new", "undo to try again (bang)", "handover rollback"),
            ("exit of the new, port taken", "undo to try again (bang)", "handover rollback"),
            ("candidate", "", "handover probing, on probation, unwatched, b queued"),
            ("not installed", "not installed (disk full)", "handover probing, on probation, unwatched"),
            ("new healthy", "promote, promoted, terminate 1", "2 serves, 1 terminated"),
            ("new unhealthy", "give back 2, undo to try again (unhealthy)", "handover rollback of 2"),
            ("new health unknown", "give back 2, undo to try again (unhealthy)", "handover rollback of 2"),
            ("stop", "terminate 1, terminate 2", "2 terminated, 1 terminated"),
            (
                "deadline",
                "give back 2, undo to try again (the health check did not answer within 5 s)",
                "handover rollback of 2",
            ),
        ],
    ),
    (
        || handing_over(SERVING, OnProbation, 10.0, Some("a")),
        &[
            ("exit", "", "waiting, on probation, a queued"),
            ("exit of the new", "undo (bang)", "handover rollback, a queued"),
            ("exit of the new, port taken", "undo to try again (bang)", "handover rollback, a queued"),
            ("candidate", "discard a", "handover waiting, on probation, b queued"),
            ("not installed", "not installed (disk full)", "handover waiting, on probation, a queued"),
            ("stop", "discard a, terminate 1, terminate 2", "2 terminated, 1 terminated"),
            ("deadline", "probe 2", "handover probing, on probation, a queued"),
        ],
    ),
    (
        || handing_over(PROBING_NEW, OnProbation, 20.0, Some("a")),
        &[
            ("exit", "", "probing, on probation, a queued"),
            ("exit of the new", "undo (bang)", "handover rollback, a queued"),
            ("exit of the new, port taken", "undo to try again (bang)", "handover rollback, a queued"),
            ("candidate", "discard a", "handover probing, on probation, b queued"),
            ("not installed", "not installed (disk full)", "handover probing, on probation, a queued"),
            ("new healthy", "promote, promoted, terminate 1", "2 serves, 1 terminated, a queued"),
            ("new unhealthy", "give back 2, undo (unhealthy)", "handover rollback of 2, a queued"),
            ("new health unknown", "give back 2, undo to try again (unhealthy)", "handover rollback of 2, a queued"),
            ("stop", "discard a, terminate 1, terminate 2", "2 terminated, 1 terminated"),
            (
                "deadline",
                "give back 2, undo (the health check did not answer within 5 s)",
                "handover rollback of 2, a queued",
            ),
        ],
    ),
    (
        || handing_over(PROBING_NEW, Confirmed, 20.0, Some("a")),
        &[
            ("exit", "", "probing, confirmed, a queued"),
            ("exit of the new", "failing (bang), install a to hand over", "running"),
            ("exit of the new, port taken", "failing (bang), install a to hand over", "running"),
            ("candidate", "discard a", "handover probing, confirmed, b queued"),
            ("not installed", "not installed (disk full)", "handover probing, confirmed, a queued"),
            ("new healthy", "proved, terminate 1", "2 serves, 1 terminated, a queued"),
            ("new unhealthy", "give back 2, failing (unhealthy), terminate 2", "1 serves, 2 terminated, a queued"),
            ("new health unknown", "give back 2, failing (unhealthy), terminate 2", "1 serves, 2 terminated, a queued"),
            ("stop", "discard a, terminate 1, terminate 2", "2 terminated, 1 terminated"),
            (
                "deadline",
                "give back 2, failing (the health check did not answer within 5 s), terminate 2",
                "1 serves, 2 terminated, a queued",
            ),
        ],
    ),
    (
        || handing_over(PROBING_NEW, NoFallback, 0.3, None),
        &[
            ("exit", "", "probing, no fallback"),
            ("exit of the new", "failing (bang)", "running"),
            ("exit of the new, port taken", "failing (bang)", "running"),
            ("candidate", "", "handover probing, no fallback, b queued"),
            ("not installed", "not installed (disk full)", "handover probing, no fallback"),
            ("new healthy", "promote, promoted, terminate 1", "2 serves, 1 terminated"),
            ("new unhealthy", "give back 2, failing (unhealthy)", "1 serves, 2 delayed"),
            ("new health unknown", "give back 2, failing (unhealthy)", "1 serves, 2 delayed"),
            ("stop", "terminate 1", "2 delayed, 1 terminated"),
            ("deadline", "give back 2, failing (the health check did not answer within 5 s)", "1 serves, 2 delayed"),
        ],
    ),
    (
        || handover_rollback(Some(serving(2, 20.0)), Some("a")),
        &[
            ("exit", "", "failed, on probation, a queued"),
            ("exit of the new", "", "handover rollback, a queued"),
            ("candidate", "discard a", "handover rollback of 2, b queued"),
            ("rolled back", "rolled back (boom), terminate 2", "1 serves, 2 terminated, a queued"),
            ("not rolled back", "failing (boom; disk full), terminate 2", "1 serves, 2 terminated, a queued"),
            ("stop", "discard a, terminate 1, terminate 2", "1 terminated, 2 terminated"),
        ],
    ),
    (
        || handover_rollback(Some(serving(2, 0.3)), None),
        &[
            ("exit", "", "failed, on probation"),
            ("exit of the new", "", "handover rollback"),
            ("candidate", "", "handover rollback of 2, b queued"),
            ("rolled back", "rolled back (boom)", "1 serves, 2 delayed"),
            ("not rolled back", "failing (boom; disk full)", "1 serves, 2 delayed"),
            ("stop", "terminate 1", "1 terminated, 2 delayed"),
        ],
    ),
    (
        || handover_rollback(None, Some("a")),
        &[
            ("exit", "", "rolling back, a queued"),
            ("candidate", "discard a", "handover rollback, b queued"),
            ("rolled back", "rolled back (boom), install a to hand over", "running"),
            ("not rolled back", "failing (boom; disk full), install a to hand over", "running"),
            ("stop", "discard a, terminate 1", "terminated to finish"),
        ],
    ),
    (
        || draining(2, TERMINATED, Some("a")),
        &[
            ("exit", "install a to hand over", "running"),
            ("exit of the new", "install a", "terminated to start"),
            ("candidate", "discard a", "2 serves, 1 terminated, b queued"),
            ("not installed", "not installed (disk full)", "2 serves, 1 terminated, a queued"),
            ("stop", "discard a, terminate 2", "2 terminated, 1 terminated"),
            ("deadline", "kill 1", "2 serves, 1 killed, a queued"),
        ],
    ),
    (
        || draining(1, DELAYED, None),
        &[
            ("exit", "", "delayed to start"),
            ("exit of the new", "", "running"),
            ("candidate", "", "1 serves, 2 delayed, b queued"),
            ("not installed", "not installed (disk full)", "1 serves, 2 delayed"),
            ("stop", "terminate 1", "1 terminated, 2 delayed"),
            ("deadline", "terminate 2", "1 serves, 2 terminated"),
        ],
    ),
    (
        || draining(1, TerminationStage::KillSent, Some("a")),
        &[
            ("exit", "install a", "killed to start"),
            ("exit of the new", "install a to hand over", "running"),
            ("candidate", "discard a", "1 serves, 2 killed, b queued"),
            ("not installed", "not installed (disk full)", "1 serves, 2 killed, a queued"),
            ("stop", "discard a, terminate 1", "1 terminated, 2 killed"),
        ],
    ),
    (
        || stopping_both(TERMINATED, TERMINATED),
        &[
            ("exit", "", "terminated to finish"),
            ("exit of the new", "", "terminated to finish"),
            ("candidate", "discard b", "1 terminated, 2 terminated"),
            ("deadline", "kill 1, kill 2", "1 killed, 2 killed"),
        ],
    ),
    (
        || stopping_both(TERMINATED_LATER, DELAYED),
        &[
            ("exit", "", "delayed to finish"),
            ("exit of the new", "", "terminated to finish"),
            ("candidate", "discard b", "1 terminated, 2 delayed"),
            ("deadline", "terminate 2", "1 terminated, 2 terminated"),
        ],
    ),
    (
        || stopping_both(TerminationStage::KillSent, TERMINATED_LATER),
        &[
            ("exit", "", "terminated to finish"),
            ("exit of the new", "", "killed to finish"),
            ("candidate", "discard b", "1 killed, 2 terminated"),
        ],
    ),
    (|| State::Finished, &[("candidate", "discard b", "finished")]),
];

fn in_state(state: Named) -> Supervisor<&'static str> {
    Supervisor { state, ..Supervisor::new(LIMITS, 1) }
}

#[test]
fn every_state_answers_every_event() {
    let mut wrong = Vec::new();
    for (state, reactions) in TABLE {
        let before = name(&state());
        for (event, _, _) in *reactions {
            assert!(events().iter().any(|(known, _)| known == event), "{before}: no event is called {event}");
        }
        for (called, event) in events() {
            let mut supervisor = in_state(state());
            // `delayed` and the like: not one deadline is past its time at 99.9 s.
            let now = if called == "early" { AT - Duration::from_millis(100) } else { AT };
            let orders = text(supervisor.handle(now, event));
            let after = name(&supervisor.state);
            let called = same_as(called, &state());
            let expected = reactions.iter().find(|(event, _, _)| *event == called);
            let expected = expected.map_or(("", before.as_str()), |(_, orders, next)| (*orders, *next));
            if (orders.as_str(), after.as_str()) != expected {
                wrong.push(format!(
                    "{before}, {called}: {orders} -> {after}, expected {} -> {}",
                    expected.0, expected.1
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every fact about a failed hand-over from 1 to 2, and what it says about the config: whether that is rolled back to
/// be tried again, and how it is installed when it is offered once more.
#[test]
fn every_failure_of_a_hand_over_has_its_blame() {
    let exited = |cause| Event::Exited { child: ChildId(2), problem: "bang".into(), cause };
    let in_use = |holder| exited(ExitCause::PortInUse(holder));
    let probed = |health| Event::Probed { child: ChildId(2), health };
    let not_taken_over = || Event::TookOver { child: ChildId(2), outcome: Err("no port".into()) };
    let launched = |result| Event::Launched(result);
    let starting = || State::HandoverStarting { old: serving(1, 50.0) };
    let at = |stage| handing_over(stage, OnProbation, 20.0, None);
    let blamed_on_hand_over: Vec<(Named, Event<&str>)> = vec![
        (starting(), launched(SpawnResult::Failed("no memory".into()))),
        (starting(), launched(SpawnResult::NoConfig { fallback: true })),
        (at(GATHERING), in_use(PortHolder::OtherCollector)),
        (at(GATHERING), in_use(PortHolder::Unknown)),
        (at(GATHERING), exited(ExitCause::LockTimeout)),
        (at(SERVING), in_use(PortHolder::OtherCollector)),
        (at(PROBING_NEW), exited(ExitCause::LockTimeout)),
        (at(GATHERING_AT_LAST), not_taken_over()),
        (at(PROBING_NEW), probed(Health::Unknown("both listen".into()))),
        (unwatched(GATHERING, OnProbation), not_taken_over()),
        (unwatched(GATHERING, OnProbation), exited(ExitCause::Unrelated)),
        (unwatched(GATHERING, OnProbation), in_use(PortHolder::Itself)),
    ];
    let blamed_on_config: Vec<(Named, Event<&str>)> = vec![
        (at(GATHERING), exited(ExitCause::Unrelated)),
        (at(GATHERING), exited(ExitCause::Environment)),
        (at(GATHERING), in_use(PortHolder::Itself)),
        (at(SERVING), exited(ExitCause::Unrelated)),
        (at(PROBING_NEW), exited(ExitCause::Unrelated)),
        (at(PROBING_NEW), probed(Health::Unhealthy("503".into()))),
        (at(PROBING_NEW), Event::DeadlinePassed),
    ];
    let blamed_on_another = vec![
        (at(GATHERING), in_use(PortHolder::OtherProcess)),
        (at(SERVING), in_use(PortHolder::OtherProcess)),
        (at(NEW_NOT_READY), exited(ExitCause::Environment)),
    ];
    let expectations = [
        (blamed_on_another, "undo to try later", "install b to hand over"),
        (blamed_on_hand_over, "undo to try again", "install b to restart"),
        (blamed_on_config, "undo (", "install b to hand over"),
    ];
    for (failures, roll_back, install) in expectations {
        for (state, event) in failures {
            let called = format!("{}, {event:?}", name(&state));
            let mut activation = Activation::default();
            assert_eq!(activation.installs("b"), Ok(()));
            let mut supervisor = Supervisor { activation, ..in_state(state) };
            let orders = text(supervisor.handle(AT, event));
            assert!(orders.contains(roll_back), "{called}: {orders}");
            supervisor.state = State::Running { child: ChildId(1), since: seconds(50.0) };
            assert_eq!(text(supervisor.handle(AT, Event::CandidateArrived("c"))), "install c to hand over", "{called}");
            assert_eq!(text(supervisor.handle(AT, Event::CandidateArrived("b"))), install, "{called}");
        }
    }
}

/// What the shell sees of two collectors: when the next step is due, how it is called, who serves, and whose exit is no
/// crash.
#[test]
fn two_collectors_are_seen() {
    type Seen = (fn() -> Named, Option<f64>, StateName, u64, &'static [u64]);
    let seen: &[Seen] = &[
        (|| State::HandoverStarting { old: serving(1, 50.0) }, None, StateName::HandingOver, 1, &[]),
        (|| handing_over(NEW_NOT_READY, OnProbation, 5.0, None), Some(100.0), StateName::HandingOver, 1, &[]),
        (|| handing_over(GATHERING, OnProbation, 5.0, None), Some(100.0), StateName::HandingOver, 1, &[]),
        (|| handing_over(SERVING, OnProbation, 5.0, None), Some(100.0), StateName::HandingOver, 2, &[]),
        (|| handing_over(PROBING_NEW, OnProbation, 5.0, None), Some(100.0), StateName::HandingOver, 2, &[]),
        (|| handover_rollback(Some(serving(2, 20.0)), None), None, StateName::HandingOver, 1, &[]),
        (|| draining(2, TERMINATED, None), Some(100.0), StateName::Running, 2, &[1]),
        (|| draining(1, DELAYED, None), Some(100.0), StateName::Running, 1, &[2]),
        (|| draining(1, TerminationStage::KillSent, None), None, StateName::Running, 1, &[2]),
        (|| stopping_both(TERMINATED_LATER, DELAYED), Some(100.0), StateName::Stopping, 1, &[1, 2]),
        (|| stopping_both(TERMINATED, TERMINATED_LATER), Some(100.0), StateName::Stopping, 1, &[1, 2]),
        (|| stopping_both(TerminationStage::KillSent, TERMINATED_LATER), Some(120.0), StateName::Stopping, 1, &[1, 2]),
        (
            || stopping_both(TerminationStage::KillSent, TerminationStage::KillSent),
            None,
            StateName::Stopping,
            1,
            &[1, 2],
        ),
    ];
    for (state, deadline, state_name, serves, terminating) in seen {
        let supervisor = in_state(state());
        let called = name(&supervisor.state);
        assert_eq!(supervisor.deadline(), deadline.map(seconds), "{called}");
        assert_eq!((supervisor.state_name(), supervisor.serving()), (*state_name, Some(ChildId(*serves))), "{called}");
        for child in [1, 2] {
            assert_eq!(supervisor.is_terminating(ChildId(child)), terminating.contains(&child), "{called}, {child}");
        }
    }
}
