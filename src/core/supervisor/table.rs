//! Every state against every event: the orders and the next state, as one table.
//!
//! The states are those of 100 s, which is the deadline of each that has one; their child is number 1.

use super::tests::{LIMITS, seconds, text};
use super::*;
use crate::core::event::Launch;
use crate::core::event::Standing::{Alone, OnTrial, Proved};

type Named = State<&'static str>;

/// What a state is called in the table.
fn name(state: &Named) -> String {
    let held = |held: &Option<&str>| held.map(|candidate| format!(" holding {candidate}")).unwrap_or_default();
    match state {
        State::Stopped { .. } => "stopped".into(),
        State::Launching => "launching".into(),
        State::Starting { start, proof } => {
            let proof = match proof {
                Proof::Waiting { .. } => "waiting",
                Proof::Probing { .. } => "probing",
                Proof::Failed { .. } => "failed",
            };
            let standing = match start.standing {
                Proved => "proved",
                OnTrial => "on trial",
                Alone => "alone",
            };
            format!("{proof} {standing}{}", held(&start.held))
        }
        State::Running { .. } => "running".into(),
        State::Stopping { phase, next, .. } => {
            let phase = match phase {
                Phase::Settling { .. } => "settling",
                Phase::Draining { .. } => "draining",
                Phase::Killed => "killed",
            };
            format!("{phase} to {}", if *next == Next::Start { "start" } else { "finish" })
        }
        State::RollingBack { held: candidate, .. } => format!("rolling back{}", held(candidate)),
        State::Backoff { until } if *until == seconds(100.0) => "due".into(),
        State::Backoff { .. } => "backoff".into(),
        State::Finished => "finished".into(),
    }
}

const AT: Uptime = Duration::from_secs(100);
const WAITING: fn() -> Proof = || Proof::Waiting { until: AT };
const PROBING: fn() -> Proof = || Proof::Probing { until: AT, retry_delay: seconds(10.0) };
const FAILED: fn() -> Proof = || Proof::Failed { problem: "ill".into(), probe_at: AT, retry_delay: seconds(10.0) };

fn starting(proof: fn() -> Proof, standing: Standing, held: Option<&'static str>) -> Named {
    State::Starting { start: Start { child: Child(1), since: seconds(90.0), standing, held }, proof: proof() }
}

/// Not yet up for `min_uptime`.
fn young(age: f64, standing: Standing, held: Option<&'static str>) -> Named {
    let since = AT - seconds(age);
    let proof = Proof::Waiting { until: since + LIMITS.min_uptime };
    State::Starting { start: Start { child: Child(1), since, standing, held }, proof }
}

fn stopping(phase: Phase, next: Next) -> Named {
    State::Stopping { child: Child(1), phase, next }
}

/// Every event, by the name that the table uses. All but "early" find the clock at 100 s.
fn events() -> Vec<(&'static str, Event<&'static str>)> {
    let own = Child(1);
    let other = Child(7);
    vec![
        ("spawned", Event::Launched(Launch::Spawned { child: Child(2), standing: OnTrial })),
        ("spawn failed", Event::Launched(Launch::Failed("no collector".into()))),
        ("no config", Event::Launched(Launch::NoConfig { fallback: false })),
        ("config lost", Event::Launched(Launch::NoConfig { fallback: true })),
        ("exit", Event::Exited { child: own, problem: "boom".into() }),
        ("exit of another", Event::Exited { child: other, problem: "boom".into() }),
        ("candidate", Event::CandidateArrived("b")),
        ("installed", Event::Installed(Ok(Manner::Restart))),
        ("not installed", Event::Installed(Err("disk full".into()))),
        ("rolled back", Event::RolledBack(Ok(()))),
        ("not rolled back", Event::RolledBack(Err("disk full".into()))),
        ("well", Event::Probed { child: own, health: Ok(()) }),
        ("ill", Event::Probed { child: own, health: Err("ill".into()) }),
        ("another well", Event::Probed { child: other, health: Ok(()) }),
        ("another ill", Event::Probed { child: other, health: Err("ill".into()) }),
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
        || young(0.3, Alone, None),
        &[
            ("exit", "failing (boom)", "backoff"),
            ("candidate", "", "waiting alone holding b"),
            ("installed", "", "settling to start"),
            ("not installed", "not installed (disk full)", "waiting alone"),
            ("stop", "", "settling to finish"),
        ],
    ),
    (
        || young(9.0, Proved, None),
        &[
            ("exit", "failing (boom)", "backoff"),
            ("candidate", "", "waiting proved holding b"),
            ("installed", "terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "waiting proved"),
            ("stop", "terminate 1", "draining to finish"),
        ],
    ),
    (
        || young(9.0, Proved, Some("a")),
        &[
            ("exit", "failing (boom), install a", "backoff"),
            ("candidate", "discard a", "waiting proved holding b"),
            ("installed", "discard a, terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "waiting proved holding a"),
            ("stop", "discard a, terminate 1", "draining to finish"),
        ],
    ),
    (
        || young(9.0, OnTrial, Some("a")),
        &[
            ("exit", "roll back (boom)", "rolling back holding a"),
            ("candidate", "discard a", "waiting on trial holding b"),
            ("installed", "discard a, terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "waiting on trial holding a"),
            ("stop", "discard a, terminate 1", "draining to finish"),
        ],
    ),
    (
        || starting(WAITING, Alone, None),
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
        || starting(WAITING, OnTrial, None),
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
        || starting(PROBING, Proved, None),
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
        || starting(PROBING, Alone, Some("a")),
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
        || starting(PROBING, OnTrial, Some("a")),
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
        || starting(FAILED, Alone, None),
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
        || starting(FAILED, OnTrial, Some("a")),
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
        || State::Running { child: Child(1), since: seconds(50.0) },
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "running"),
            ("installed", "terminate 1", "draining to start"),
            ("not installed", "not installed (disk full)", "running"),
            ("restart", "terminate 1", "draining to start"),
            ("stop", "terminate 1", "draining to finish"),
        ],
    ),
    (
        || stopping(Phase::Settling { until: AT }, Next::Start),
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "settling to start"),
            ("not installed", "not installed (disk full)", "settling to start"),
            ("stop", "", "settling to finish"),
            ("deadline", "terminate 1", "draining to start"),
        ],
    ),
    (
        || stopping(Phase::Settling { until: AT }, Next::Finish),
        &[
            ("exit", "finish", "finished"),
            ("candidate", "discard b", "settling to finish"),
            ("not installed", "not installed (disk full)", "settling to finish"),
            ("deadline", "terminate 1", "draining to finish"),
        ],
    ),
    (
        || stopping(Phase::Draining { kill_at: AT }, Next::Start),
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "draining to start"),
            ("not installed", "not installed (disk full)", "draining to start"),
            ("stop", "", "draining to finish"),
            ("deadline", "kill 1", "killed to start"),
        ],
    ),
    (
        || stopping(Phase::Draining { kill_at: AT }, Next::Finish),
        &[
            ("exit", "finish", "finished"),
            ("candidate", "discard b", "draining to finish"),
            ("not installed", "not installed (disk full)", "draining to finish"),
            ("deadline", "kill 1", "killed to finish"),
        ],
    ),
    (
        || stopping(Phase::Killed, Next::Start),
        &[
            ("exit", "spawn", "launching"),
            ("candidate", "install b", "killed to start"),
            ("not installed", "not installed (disk full)", "killed to start"),
            ("stop", "", "killed to finish"),
        ],
    ),
    (
        || stopping(Phase::Killed, Next::Finish),
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
            let expected = reactions.iter().find(|(event, _, _)| *event == called);
            let expected = expected.map_or(("", before.as_str()), |(_, orders, next)| (*orders, *next));
            assert_eq!((orders.as_str(), after.as_str()), expected, "{before}, {called}");
        }
    }
}
