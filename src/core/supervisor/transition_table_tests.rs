//! Every state against every event: the orders and the next state, as one table.
//!
//! The states are those of 100 s, which is the deadline of each that has one; their child is number 1, and a new one beside it
//! is number 2.

use super::tests::{LIMITS, seconds, text};
use super::*;
use crate::core::event::TrustLevel::{LastKnownGood, NoFallback, OnProbation};
use crate::core::event::{ActivationMode, SpawnResult, TakeOver};

type Named = State<&'static str>;

fn standing(standing: TrustLevel) -> &'static str {
    match standing {
        LastKnownGood => "proved",
        OnProbation => "on trial",
        NoFallback => "alone",
    }
}

fn phase(leaving: &Terminating) -> &'static str {
    match leaving.phase {
        TerminationStage::SignalDelayed { .. } => "settling",
        TerminationStage::TermSent { .. } => "draining",
        TerminationStage::KillSent => "killed",
    }
}

/// What a state is called in the table.
fn name(state: &Named) -> String {
    let held = |held: &Option<&str>| held.map(|candidate| format!(" holding {candidate}")).unwrap_or_default();
    match state {
        State::Stopped { .. } => "stopped".into(),
        State::Launching => "launching".into(),
        State::Starting { start, proof } => {
            let proof = match proof {
                ProbationStage::Waiting { .. } => "waiting",
                ProbationStage::Probing { .. } => "probing",
                ProbationStage::Failed { .. } => "failed",
            };
            format!("{proof} {}{}", standing(start.standing), held(&start.held))
        }
        State::Running { .. } => "running".into(),
        State::Stopping { leaving, next } => {
            format!("{} to {}", phase(leaving), if *next == Next::Start { "start" } else { "finish" })
        }
        State::HandoverStarting { .. } => "joining".into(),
        State::HandoverProbation { start, trial, .. } => {
            let trial = match trial {
                HandoverStage::Gathering { .. } => "gathering",
                HandoverStage::Waiting { .. } => "waiting",
                HandoverStage::Probing { .. } => "probing",
            };
            format!("beside, {trial} {}{}", standing(start.standing), held(&start.held))
        }
        State::HandoverRollback { new, held: candidate, .. } => {
            format!("retreating{}{}", if new.is_some() { " from 2" } else { "" }, held(candidate))
        }
        State::Draining { serving, leaving, held: candidate } => {
            format!("{} serves, {} {}{}", serving.child.0, leaving.child.0, phase(leaving), held(candidate))
        }
        State::StoppingBoth { first, second } => {
            format!("{} {}, {} {}", first.child.0, phase(first), second.child.0, phase(second))
        }
        State::RollingBack { held: candidate, .. } => format!("rolling back{}", held(candidate)),
        State::Backoff { until } if *until == seconds(100.0) => "due".into(),
        State::Backoff { .. } => "backoff".into(),
        State::Finished => "finished".into(),
    }
}

const AT: Uptime = Duration::from_secs(100);
const WAITING: fn() -> ProbationStage = || ProbationStage::Waiting { until: AT };
const PROBING: fn() -> ProbationStage = || ProbationStage::Probing { until: AT, retry_delay: seconds(10.0) };
const FAILED: fn() -> ProbationStage =
    || ProbationStage::Failed { problem: "ill".into(), probe_at: AT, retry_delay: seconds(10.0) };

fn starting(proof: fn() -> ProbationStage, standing: TrustLevel, held: Option<&'static str>) -> Named {
    State::Starting { start: Start { child: ChildId(1), since: seconds(90.0), standing, held }, proof: proof() }
}

/// Not yet up for `min_uptime`.
fn young(age: f64, standing: TrustLevel, held: Option<&'static str>) -> Named {
    let since = AT - seconds(age);
    let proof = ProbationStage::Waiting { until: since + LIMITS.min_uptime };
    State::Starting { start: Start { child: ChildId(1), since, standing, held }, proof }
}

fn stopping(phase: TerminationStage, next: Next) -> Named {
    State::Stopping { leaving: Terminating { child: ChildId(1), phase }, next }
}

const GATHERING: HandoverStage = HandoverStage::Gathering { look_at: AT, until: Duration::from_secs(110) };
const GATHERED_LATE: HandoverStage = HandoverStage::Gathering { look_at: AT, until: AT };
const WAITING_BESIDE: HandoverStage = HandoverStage::Waiting { until: AT };
const PROBING_BESIDE: HandoverStage = HandoverStage::Probing { until: AT };

fn serving(child: u64, age: f64) -> Serving {
    Serving { child: ChildId(child), since: AT - seconds(age) }
}

/// The old one has run for 50 s, the new one for `age` seconds.
fn beside(trial: HandoverStage, standing: TrustLevel, age: f64, held: Option<&'static str>) -> Named {
    let start = Start { child: ChildId(2), since: AT - seconds(age), standing, held };
    State::HandoverProbation { old: serving(1, 50.0), start, trial }
}

fn retreating(new: Option<Serving>, held: Option<&'static str>) -> Named {
    State::HandoverRollback { old: serving(1, 50.0), new, problem: "boom".into(), held }
}

/// Number 1 or 2 serves, the other one is in `phase`.
fn parting(serves: u64, phase: TerminationStage, held: Option<&'static str>) -> Named {
    State::Draining { serving: serving(serves, 50.0), leaving: Terminating { child: ChildId(3 - serves), phase }, held }
}

fn stopping_both(first: TerminationStage, second: TerminationStage) -> Named {
    let leaving = |child, phase| Terminating { child: ChildId(child), phase };
    State::StoppingBoth { first: leaving(1, first), second: leaving(2, second) }
}

const DRAINING: TerminationStage = TerminationStage::TermSent { kill_at: AT };
const DRAINING_ON: TerminationStage = TerminationStage::TermSent { kill_at: Duration::from_secs(120) };
const SETTLING: TerminationStage = TerminationStage::SignalDelayed { until: AT };

/// Every event, by the name that the table uses. All but "early" find the clock at 100 s.
fn events() -> Vec<(&'static str, Event<&'static str>)> {
    let own = ChildId(1);
    let new = ChildId(2);
    let other = ChildId(7);
    vec![
        ("spawned", Event::Launched(SpawnResult::Spawned { child: ChildId(2), standing: OnProbation })),
        ("spawn failed", Event::Launched(SpawnResult::Failed("no collector".into()))),
        ("no config", Event::Launched(SpawnResult::NoConfig { fallback: false })),
        ("config lost", Event::Launched(SpawnResult::NoConfig { fallback: true })),
        ("exit", Event::Exited { child: own, problem: "boom".into() }),
        ("exit of the new", Event::Exited { child: new, problem: "bang".into() }),
        ("exit of another", Event::Exited { child: other, problem: "boom".into() }),
        ("candidate", Event::CandidateArrived("b")),
        ("installed", Event::Installed(Ok(ActivationMode::Restart))),
        ("to hand over", Event::Installed(Ok(ActivationMode::HandOver))),
        ("not installed", Event::Installed(Err("disk full".into()))),
        ("rolled back", Event::RolledBack(Ok(()))),
        ("not rolled back", Event::RolledBack(Err("disk full".into()))),
        ("well", Event::Probed { child: own, health: Ok(()) }),
        ("ill", Event::Probed { child: own, health: Err("ill".into()) }),
        ("new well", Event::Probed { child: new, health: Ok(()) }),
        ("new ill", Event::Probed { child: new, health: Err("ill".into()) }),
        ("another well", Event::Probed { child: other, health: Ok(()) }),
        ("another ill", Event::Probed { child: other, health: Err("ill".into()) }),
        ("own took over", Event::TookOver { child: own, outcome: TakeOver::Done }),
        ("own did not", Event::TookOver { child: own, outcome: TakeOver::NotYet }),
        ("took over", Event::TookOver { child: new, outcome: TakeOver::Done }),
        ("did not take over", Event::TookOver { child: new, outcome: TakeOver::NotYet }),
        ("could not take over", Event::TookOver { child: new, outcome: TakeOver::Failed("deaf".into()) }),
        ("another took over", Event::TookOver { child: other, outcome: TakeOver::Done }),
        ("restart", Event::RestartRequested),
        ("stop", Event::StopRequested),
        ("early", Event::DeadlinePassed),
        ("deadline", Event::DeadlinePassed),
    ]
}

/// A state, and what each event that matters there leads to: the orders and the next state. The others change nothing.
type Row = (fn() -> Named, &'static [(&'static str, &'static str, &'static str)]);

const TABLE: &[Row] = &[
    (
        || State::Stopped { look_at: AT },
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
            ("spawned", "", "waiting on trial"),
            ("spawn failed", "failing (no collector)", "backoff"),
            ("no config", "", "stopped"),
            ("config lost", "roll back (the config file is missing)", "rolling back"),
            ("candidate", "discard b", "launching"),
            ("stop", "finish", "finished"),
        ],
    ),
    (
        || young(0.3, NoFallback, None),
        &[
            ("exit", "failing (boom)", "backoff"),
            ("candidate", "", "waiting alone holding b"),
            ("installed", "", "settling to start"),
            ("not installed", "not installed (disk full)", "waiting alone"),
            ("stop", "", "settling to finish"),
        ],
    ),
    (
        || young(9.0, LastKnownGood, None),
        &[
            ("exit", "failing (boom)", "backoff"),
            ("candidate", "", "waiting proved holding b"),
            ("installed", "terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "waiting proved"),
            ("stop", "terminate 1", "draining to finish"),
        ],
    ),
    (
        || young(9.0, LastKnownGood, Some("a")),
        &[
            ("exit", "failing (boom), install a", "backoff"),
            ("candidate", "discard a", "waiting proved holding b"),
            ("installed", "discard a, terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "waiting proved holding a"),
            ("stop", "discard a, terminate 1", "draining to finish"),
        ],
    ),
    (
        || young(9.0, OnProbation, Some("a")),
        &[
            ("exit", "roll back (boom)", "rolling back holding a"),
            ("candidate", "discard a", "waiting on trial holding b"),
            ("installed", "discard a, terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "waiting on trial holding a"),
            ("stop", "discard a, terminate 1", "draining to finish"),
        ],
    ),
    (
        || starting(WAITING, NoFallback, None),
        &[
            ("exit", "failing (boom), spawn", "launching"),
            ("candidate", "", "waiting alone holding b"),
            ("installed", "terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "waiting alone"),
            ("stop", "terminate 1", "draining to finish"),
            ("deadline", "probe 1", "probing alone"),
        ],
    ),
    (
        || starting(WAITING, OnProbation, None),
        &[
            ("exit", "roll back (boom)", "rolling back"),
            ("candidate", "", "waiting on trial holding b"),
            ("installed", "terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "waiting on trial"),
            ("stop", "terminate 1", "draining to finish"),
            ("deadline", "probe 1", "probing on trial"),
        ],
    ),
    (
        || starting(PROBING, LastKnownGood, None),
        &[
            ("exit", "failing (boom), spawn", "launching"),
            ("candidate", "", "probing proved holding b"),
            ("installed", "terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "probing proved"),
            ("well", "proved", "running"),
            ("ill", "failing (ill)", "failed proved"),
            ("stop", "terminate 1", "draining to finish"),
            ("deadline", "failing (the health check did not answer within 5 s)", "failed proved"),
        ],
    ),
    (
        || starting(PROBING, NoFallback, Some("a")),
        &[
            ("exit", "failing (boom), install a", "due"),
            ("candidate", "discard a", "probing alone holding b"),
            ("installed", "discard a, terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "probing alone holding a"),
            ("well", "promote, promoted, install a", "running"),
            ("ill", "failing (ill), install a", "failed alone"),
            ("stop", "discard a, terminate 1", "draining to finish"),
            ("deadline", "failing (the health check did not answer within 5 s), install a", "failed alone"),
        ],
    ),
    (
        || starting(PROBING, OnProbation, Some("a")),
        &[
            ("exit", "roll back (boom)", "rolling back holding a"),
            ("candidate", "discard a", "probing on trial holding b"),
            ("installed", "discard a, terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "probing on trial holding a"),
            ("well", "promote, promoted, install a", "running"),
            ("ill", "roll back (ill)", "failed on trial holding a"),
            ("stop", "discard a, terminate 1", "draining to finish"),
            ("deadline", "roll back (the health check did not answer within 5 s)", "failed on trial holding a"),
        ],
    ),
    (
        || starting(FAILED, NoFallback, None),
        &[
            ("exit", "failing (boom), spawn", "launching"),
            ("candidate", "install b", "failed alone"),
            ("installed", "terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "failed alone"),
            ("rolled back", "rolled back (ill), terminate 1", "draining to start"),
            ("not rolled back", "failing (ill; disk full)", "failed alone"),
            ("restart", "terminate 1", "draining to start"),
            ("stop", "terminate 1", "draining to finish"),
            ("deadline", "probe 1", "probing alone"),
        ],
    ),
    (
        || starting(FAILED, OnProbation, Some("a")),
        &[
            ("exit", "roll back (boom)", "rolling back holding a"),
            ("candidate", "discard a, install b", "failed on trial"),
            ("installed", "discard a, terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "failed on trial holding a"),
            ("rolled back", "rolled back (ill), install a, terminate 1", "draining to start"),
            ("not rolled back", "failing (ill; disk full), install a", "failed on trial"),
            ("restart", "discard a, terminate 1", "draining to start"),
            ("stop", "discard a, terminate 1", "draining to finish"),
            ("deadline", "probe 1", "probing on trial holding a"),
        ],
    ),
    (
        || State::Running { child: ChildId(1), since: seconds(50.0) },
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "running"),
            ("installed", "terminate 1", "draining to start"),
            ("to hand over", "spawn beside", "joining"),
            ("not installed", "not installed (disk full)", "running"),
            ("restart", "terminate 1", "draining to start"),
            ("stop", "terminate 1", "draining to finish"),
        ],
    ),
    (
        || stopping(TerminationStage::SignalDelayed { until: AT }, Next::Start),
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "settling to start"),
            ("not installed", "not installed (disk full)", "settling to start"),
            ("stop", "", "settling to finish"),
            ("deadline", "terminate 1", "draining to start"),
        ],
    ),
    (
        || stopping(TerminationStage::SignalDelayed { until: AT }, Next::Finish),
        &[
            ("exit", "finish", "finished"),
            ("candidate", "discard b", "settling to finish"),
            ("not installed", "not installed (disk full)", "settling to finish"),
            ("deadline", "terminate 1", "draining to finish"),
        ],
    ),
    (
        || stopping(TerminationStage::TermSent { kill_at: AT }, Next::Start),
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "draining to start"),
            ("not installed", "not installed (disk full)", "draining to start"),
            ("stop", "", "draining to finish"),
            ("deadline", "kill 1", "killed to start"),
        ],
    ),
    (
        || stopping(TerminationStage::TermSent { kill_at: AT }, Next::Finish),
        &[
            ("exit", "finish", "finished"),
            ("candidate", "discard b", "draining to finish"),
            ("not installed", "not installed (disk full)", "draining to finish"),
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
        || State::RollingBack { problem: "boom".into(), held: None },
        &[
            ("candidate", "", "rolling back holding b"),
            ("rolled back", "rolled back (boom), spawn", "launching"),
            ("not rolled back", "failing (boom; disk full)", "backoff"),
            ("stop", "finish", "finished"),
        ],
    ),
    (
        || State::RollingBack { problem: "boom".into(), held: Some("a") },
        &[
            ("candidate", "discard a", "rolling back holding b"),
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
            ("spawned", "", "beside, gathering on trial"),
            ("spawn failed", "roll back (no collector)", "retreating"),
            ("no config", "failing (the config file is missing)", "running"),
            ("config lost", "roll back (the config file is missing)", "retreating"),
            ("exit", "", "launching"),
            ("candidate", "discard b", "joining"),
            ("stop", "terminate 1", "draining to finish"),
        ],
    ),
    (
        || beside(GATHERING, OnProbation, 5.0, None),
        &[
            ("exit", "", "waiting on trial"),
            ("exit of the new", "roll back (bang)", "retreating"),
            ("candidate", "", "beside, gathering on trial holding b"),
            ("not installed", "not installed (disk full)", "beside, gathering on trial"),
            ("took over", "", "beside, waiting on trial"),
            ("could not take over", "give back 2, roll back (deaf)", "retreating from 2"),
            ("stop", "terminate 1, terminate 2", "1 draining, 2 draining"),
            ("deadline", "take over 2", "beside, gathering on trial"),
        ],
    ),
    (
        || beside(GATHERED_LATE, LastKnownGood, 0.3, Some("a")),
        &[
            ("exit", "", "waiting proved holding a"),
            ("exit of the new", "failing (bang), install a", "running"),
            ("candidate", "discard a", "beside, gathering proved holding b"),
            ("not installed", "not installed (disk full)", "beside, gathering proved holding a"),
            ("took over", "", "beside, waiting proved holding a"),
            ("could not take over", "give back 2, failing (deaf)", "1 serves, 2 settling holding a"),
            ("stop", "discard a, terminate 1", "1 draining, 2 settling"),
            ("deadline", "take over 2 in part", "beside, gathering proved holding a"),
        ],
    ),
    (
        || beside(WAITING_BESIDE, OnProbation, 10.0, Some("a")),
        &[
            ("exit", "", "waiting on trial holding a"),
            ("exit of the new", "roll back (bang)", "retreating holding a"),
            ("candidate", "discard a", "beside, waiting on trial holding b"),
            ("not installed", "not installed (disk full)", "beside, waiting on trial holding a"),
            ("stop", "discard a, terminate 1, terminate 2", "2 draining, 1 draining"),
            ("deadline", "probe 2", "beside, probing on trial holding a"),
        ],
    ),
    (
        || beside(PROBING_BESIDE, OnProbation, 20.0, Some("a")),
        &[
            ("exit", "", "probing on trial holding a"),
            ("exit of the new", "roll back (bang)", "retreating holding a"),
            ("candidate", "discard a", "beside, probing on trial holding b"),
            ("not installed", "not installed (disk full)", "beside, probing on trial holding a"),
            ("new well", "promote, promoted, terminate 1", "2 serves, 1 draining holding a"),
            ("new ill", "give back 2, roll back (ill)", "retreating from 2 holding a"),
            ("stop", "discard a, terminate 1, terminate 2", "2 draining, 1 draining"),
            (
                "deadline",
                "give back 2, roll back (the health check did not answer within 5 s)",
                "retreating from 2 holding a",
            ),
        ],
    ),
    (
        || beside(PROBING_BESIDE, LastKnownGood, 20.0, Some("a")),
        &[
            ("exit", "", "probing proved holding a"),
            ("exit of the new", "failing (bang), install a", "running"),
            ("candidate", "discard a", "beside, probing proved holding b"),
            ("not installed", "not installed (disk full)", "beside, probing proved holding a"),
            ("new well", "proved, terminate 1", "2 serves, 1 draining holding a"),
            ("new ill", "give back 2, failing (ill), terminate 2", "1 serves, 2 draining holding a"),
            ("stop", "discard a, terminate 1, terminate 2", "2 draining, 1 draining"),
            (
                "deadline",
                "give back 2, failing (the health check did not answer within 5 s), terminate 2",
                "1 serves, 2 draining holding a",
            ),
        ],
    ),
    (
        || beside(PROBING_BESIDE, NoFallback, 0.3, None),
        &[
            ("exit", "", "probing alone"),
            ("exit of the new", "failing (bang)", "running"),
            ("candidate", "", "beside, probing alone holding b"),
            ("not installed", "not installed (disk full)", "beside, probing alone"),
            ("new well", "promote, promoted, terminate 1", "2 serves, 1 draining"),
            ("new ill", "give back 2, failing (ill)", "1 serves, 2 settling"),
            ("stop", "terminate 1", "2 settling, 1 draining"),
            ("deadline", "give back 2, failing (the health check did not answer within 5 s)", "1 serves, 2 settling"),
        ],
    ),
    (
        || retreating(Some(serving(2, 20.0)), Some("a")),
        &[
            ("exit", "", "failed on trial holding a"),
            ("exit of the new", "", "retreating holding a"),
            ("candidate", "discard a", "retreating from 2 holding b"),
            ("rolled back", "rolled back (boom), terminate 2", "1 serves, 2 draining holding a"),
            ("not rolled back", "failing (boom; disk full), terminate 2", "1 serves, 2 draining holding a"),
            ("stop", "discard a, terminate 1, terminate 2", "1 draining, 2 draining"),
        ],
    ),
    (
        || retreating(Some(serving(2, 0.3)), None),
        &[
            ("exit", "", "failed on trial"),
            ("exit of the new", "", "retreating"),
            ("candidate", "", "retreating from 2 holding b"),
            ("rolled back", "rolled back (boom)", "1 serves, 2 settling"),
            ("not rolled back", "failing (boom; disk full)", "1 serves, 2 settling"),
            ("stop", "terminate 1", "1 draining, 2 settling"),
        ],
    ),
    (
        || retreating(None, Some("a")),
        &[
            ("exit", "", "rolling back holding a"),
            ("candidate", "discard a", "retreating holding b"),
            ("rolled back", "rolled back (boom), install a", "running"),
            ("not rolled back", "failing (boom; disk full), install a", "running"),
            ("stop", "discard a, terminate 1", "draining to finish"),
        ],
    ),
    (
        || parting(2, DRAINING, Some("a")),
        &[
            ("exit", "install a", "running"),
            ("exit of the new", "install a", "draining to start"),
            ("candidate", "discard a", "2 serves, 1 draining holding b"),
            ("not installed", "not installed (disk full)", "2 serves, 1 draining holding a"),
            ("stop", "discard a, terminate 2", "2 draining, 1 draining"),
            ("deadline", "kill 1", "2 serves, 1 killed holding a"),
        ],
    ),
    (
        || parting(1, SETTLING, None),
        &[
            ("exit", "", "settling to start"),
            ("exit of the new", "", "running"),
            ("candidate", "", "1 serves, 2 settling holding b"),
            ("not installed", "not installed (disk full)", "1 serves, 2 settling"),
            ("stop", "terminate 1", "1 draining, 2 settling"),
            ("deadline", "terminate 2", "1 serves, 2 draining"),
        ],
    ),
    (
        || parting(1, TerminationStage::KillSent, Some("a")),
        &[
            ("exit", "install a", "killed to start"),
            ("exit of the new", "install a", "running"),
            ("candidate", "discard a", "1 serves, 2 killed holding b"),
            ("not installed", "not installed (disk full)", "1 serves, 2 killed holding a"),
            ("stop", "discard a, terminate 1", "1 draining, 2 killed"),
        ],
    ),
    (
        || stopping_both(DRAINING, DRAINING),
        &[
            ("exit", "", "draining to finish"),
            ("exit of the new", "", "draining to finish"),
            ("candidate", "discard b", "1 draining, 2 draining"),
            ("deadline", "kill 1, kill 2", "1 killed, 2 killed"),
        ],
    ),
    (
        || stopping_both(DRAINING_ON, SETTLING),
        &[
            ("exit", "", "settling to finish"),
            ("exit of the new", "", "draining to finish"),
            ("candidate", "discard b", "1 draining, 2 settling"),
            ("deadline", "terminate 2", "1 draining, 2 draining"),
        ],
    ),
    (
        || stopping_both(TerminationStage::KillSent, DRAINING_ON),
        &[
            ("exit", "", "draining to finish"),
            ("exit of the new", "", "killed to finish"),
            ("candidate", "discard b", "1 killed, 2 draining"),
        ],
    ),
    (|| State::Finished, &[("candidate", "discard b", "finished")]),
];

#[test]
fn every_state_answers_every_event() {
    for (state, reactions) in TABLE {
        let before = name(&state());
        for (event, _, _) in *reactions {
            assert!(events().iter().any(|(known, _)| known == event), "{before}: no event is called {event}");
        }
        for (called, event) in events() {
            let mut supervisor = Supervisor { limits: LIMITS, backoff: Backoff::new(1), state: state() };
            // `settling` and the like: not one deadline is past its time at 99.9 s.
            let now = if called == "early" { AT - Duration::from_millis(100) } else { AT };
            let orders = text(supervisor.handle(now, event));
            let after = name(&supervisor.state);
            // Only a collector that runs can be handed over from: elsewhere the manner changes nothing.
            let running = matches!(state(), State::Running { .. });
            let called = if called == "to hand over" && !running { "installed" } else { called };
            let expected = reactions.iter().find(|(event, _, _)| *event == called);
            let expected = expected.map_or(("", before.as_str()), |(_, orders, next)| (*orders, *next));
            assert_eq!((orders.as_str(), after.as_str()), expected, "{before}, {called}");
        }
    }
}

/// What the shell sees of two collectors: when the next step is due, how it is called, who serves, and whose exit is no crash.
#[test]
fn two_collectors_are_seen() {
    type Seen = (fn() -> Named, Option<f64>, StateName, u64, &'static [u64]);
    let seen: &[Seen] = &[
        (|| State::HandoverStarting { old: serving(1, 50.0) }, None, StateName::HandingOver, 1, &[]),
        (|| beside(GATHERING, OnProbation, 5.0, None), Some(100.0), StateName::HandingOver, 1, &[]),
        (|| beside(WAITING_BESIDE, OnProbation, 5.0, None), Some(100.0), StateName::HandingOver, 2, &[]),
        (|| beside(PROBING_BESIDE, OnProbation, 5.0, None), Some(100.0), StateName::HandingOver, 2, &[]),
        (|| retreating(Some(serving(2, 20.0)), None), None, StateName::HandingOver, 1, &[]),
        (|| parting(2, DRAINING, None), Some(100.0), StateName::Running, 2, &[1]),
        (|| parting(1, SETTLING, None), Some(100.0), StateName::Running, 1, &[2]),
        (|| parting(1, TerminationStage::KillSent, None), None, StateName::Running, 1, &[2]),
        (|| stopping_both(DRAINING_ON, SETTLING), Some(100.0), StateName::Stopping, 1, &[1, 2]),
        (|| stopping_both(DRAINING, DRAINING_ON), Some(100.0), StateName::Stopping, 1, &[1, 2]),
        (|| stopping_both(TerminationStage::KillSent, DRAINING_ON), Some(120.0), StateName::Stopping, 1, &[1, 2]),
        (
            || stopping_both(TerminationStage::KillSent, TerminationStage::KillSent),
            None,
            StateName::Stopping,
            1,
            &[1, 2],
        ),
    ];
    for (state, deadline, phrase, serves, leaving) in seen {
        let supervisor = Supervisor { limits: LIMITS, backoff: Backoff::new(1), state: state() };
        let called = name(&supervisor.state);
        assert_eq!(supervisor.deadline(), deadline.map(seconds), "{called}");
        assert_eq!((supervisor.phrase(), supervisor.serving()), (*phrase, Some(ChildId(*serves))), "{called}");
        for child in [1, 2] {
            assert_eq!(supervisor.is_leaving(ChildId(child)), leaving.contains(&child), "{called}, {child}");
        }
    }
}
