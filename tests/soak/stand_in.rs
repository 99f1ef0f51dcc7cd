//! Changes and crashes by the thousand, with the stand-in collector, which is fast; several agents at once.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::feed::{Fate, Feed, is_promotion};
use super::gauge::Gauge;
use super::{at_once, is_long, say};
use crate::support::agent::{Agent, Builder};
use crate::support::process;
use crate::support::wait::{DEADLINE, poll_for};

/// Every tenth config is a bad one: of these in turn one is refused and one is rolled back.
const BAD_EVERY: usize = 10;
/// Every fifth crash is the second of its config, and comes before the collector has passed its probation.
const SECOND_EVERY: usize = 5;

/// How many agents, how many times each, and how often they are looked at; the first look is when everything has
/// happened once.
struct Plan {
    agents: usize,
    times: usize,
    look_every: usize,
}

fn plan(quick: Plan, long: Plan) -> Plan {
    if is_long() { long } else { quick }
}

/// The shortest probation that there is; and no record of each start, which would be read again by the next.
fn quick(builder: Builder) -> Builder {
    symlink("/dev/null", builder.dir().join("fake.log")).unwrap();
    builder.setting("min-uptime", "100ms")
}

fn row(number: usize, port: u16) -> (Value, Fate) {
    let (script, fate) = match number % (2 * BAD_EVERY) {
        number if number == BAD_EVERY => (json!({"validate": "fail"}), Fate::Refused),
        0 if number > 0 => (json!({"start": {"exit": 3}}), Fate::RolledBack),
        _ => (json!({"serve_otlp": true}), Fate::Promoted),
    };
    let http = json!({"endpoint": format!("127.0.0.1:{port}")});
    let config = json!({
        "fake": script,
        "number": number,
        "receivers": {"otlp": {"protocols": {"http": http}}},
        "exporters": {"nop": {}},
        "service": {"pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["nop"]}}},
    });
    (config, fate)
}

#[test]
fn changes_leave_nothing_behind() {
    let quick = Plan { agents: 8, times: 25, look_every: 5 };
    let plan = plan(quick, Plan { agents: 8, times: 1250, look_every: 125 });
    let began_at = Instant::now();
    at_once(plan.agents, |number| {
        let mode = if number % 2 == 0 { "handover" } else { "restart" };
        change(&plan, mode, number);
    });
    let count = plan.agents * plan.times;
    say(&format!("{count} changes with {} agents in {:.0} s", plan.agents, began_at.elapsed().as_secs_f64()));
}

fn change(plan: &Plan, mode: &str, number: usize) {
    let port = process::free_port();
    let feed = Feed::start(move |number| row(number, port));
    let agent = quick(feed.builder()).setting("restart-mode", mode).spawn();
    agent.wait_log("a first config that has proved itself", is_promotion);
    let mut gauge = Gauge::default();
    for allowed in looks(plan, 2 * BAD_EVERY + 1) {
        feed.allow(allowed);
        let patience = Duration::from_secs(60) * plan.look_every as u32;
        let done = poll_for(patience, || (feed.reported() == allowed && is_settled(&agent)).then_some(()));
        assert!(
            done.is_some(),
            "reported the outcome of {} of {allowed} changes, status {:?}",
            feed.reported(),
            agent.status()
        );
        gauge.look(&agent, &format!("agent {number}, restart-mode {mode:<8} {allowed:>4} changes"));
    }
    gauge.assert_level();
    let [promoted, rolled_back, refused] = feed.assert_accounts(&agent);
    // The config that it started with is one of the promoted.
    assert_eq!(promoted - 1 + rolled_back + refused, plan.times);
    let handed_over = agent.count_log(|line| line.msg() == "new connections go to the new collector");
    assert_eq!(handed_over, if mode == "handover" { promoted - 1 } else { 0 }, "hand-overs");
    assert_eq!(agent.stop(), 0);
    assert_eq!(agent.processes(), [0; 0], "left running");
}

#[test]
fn crashes_leave_nothing_behind() {
    let quick = Plan { agents: 4, times: 20, look_every: 4 };
    let plan = plan(quick, Plan { agents: 8, times: 1250, look_every: 125 });
    let began_at = Instant::now();
    at_once(plan.agents, |number| crash(&plan, number));
    let count = plan.agents * plan.times;
    say(&format!("{count} crashes with {} agents in {:.0} s", plan.agents, began_at.elapsed().as_secs_f64()));
}

fn crash(plan: &Plan, number: usize) {
    // None of them dumps core.
    const SIGNALS: [Signal; 5] = [Signal::KILL, Signal::TERM, Signal::HUP, Signal::USR1, Signal::ALARM];
    // Each its own, since no two collectors share a port by accident.
    let port = process::free_port();
    // None but good ones.
    let feed = Feed::start(move |number| row(number * 2 * BAD_EVERY + 1, port));
    let builder = quick(feed.builder()).setting("restart-mode", "restart").setting("confirm-time", "0s");
    let agent = builder.spawn();
    let (mut seen, mut crashes, mut changes, mut gauge) = (0, 0, 0, Gauge::default());
    agent.next_log(&mut seen, "a first config that has proved itself", is_promotion);
    let mut pid = agent.wait_collector();
    for count in looks(plan, SECOND_EVERY + 1) {
        while crashes < count {
            // Another config has not failed yet: it is started again at once. The second time there is a delay.
            let is_second = crashes % SECOND_EVERY == SECOND_EVERY - 1;
            if !is_second {
                let is_changed = poll_for(DEADLINE, || is_settled(&agent).then_some(()));
                assert!(is_changed.is_some(), "crash {crashes}: {:?}", agent.status());
                changes += 1;
                feed.allow(changes);
                pid = started(&agent, &mut seen);
                agent.next_log(&mut seen, "another config that has proved itself", is_promotion);
            }
            assert!(process::signal(pid, SIGNALS[crashes % SIGNALS.len()]), "crash {crashes}: no process {pid}");
            crashes += 1;
            pid = started(&agent, &mut seen);
        }
        let is_reported = || feed.restarts() == (crashes + changes) as u64 && is_settled(&agent);
        agent.wait_until("a collector that has proved itself after the last crash", is_reported);
        gauge.look(&agent, &format!("agent {number}, {crashes:>4} crashes"));
    }
    gauge.assert_level();
    assert_eq!(agent.count_log(|line| line.msg() == "collector exited unexpectedly"), plan.times);
    let delayed = agent.count_log(|line| line.msg() == "collector state" && line.field("to") == "backoff");
    assert_eq!(delayed, plan.times / SECOND_EVERY, "delayed restarts");
    let status = agent.status().unwrap();
    assert_eq!(status["collector"]["restarts"], (plan.times + changes) as u64, "{status}");
    assert_eq!(agent.stop(), 0);
    assert_eq!(agent.processes(), [0; 0], "left running");
}

fn started(agent: &Agent, seen: &mut usize) -> u32 {
    let started = agent.next_log(seen, "a start", |line| line.msg() == "collector started");
    started.json["pid"].as_u64().unwrap() as u32
}

/// Whether one collector runs, has proved itself, and there is nothing to report.
fn is_settled(agent: &Agent) -> bool {
    let status = agent.status().unwrap_or_default();
    status["collector"]["state"] == "running"
}

/// After how many times to look: when everything has happened once, then every so often, and at the end.
fn looks(plan: &Plan, first: usize) -> impl Iterator<Item = usize> {
    let (times, every) = (plan.times, plan.look_every);
    (first..times).step_by(every).chain([times])
}
