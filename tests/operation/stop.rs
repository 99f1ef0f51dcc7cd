//! A stop, whatever the agent is doing.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{named, quick, scripted, settled, strays, yaml};
use crate::support::agent::Agent;
use crate::support::api::{Api, Reply};
use crate::support::{bin, machine, needs, process};

/// The agent has ended with 0 and left nothing.
#[track_caller]
fn assert_stopped(agent: &Agent) {
    assert_ended(agent, 0);
}

#[track_caller]
fn assert_ended(agent: &Agent, status: i32) {
    assert_eq!(agent.wait_exit(), status);
    assert_eq!(agent.processes(), [0; 0], "processes are left");
    assert!(!agent.socket().exists());
    assert_eq!(strays(agent), [""; 0]);
}

fn hanging() -> Value {
    scripted("hanging", json!({"ignore_sigterm": true}))
}

#[test]
fn each_signal_drains_the_collector_and_ends_with_0() {
    let run = |signal| {
        let agent = settled(quick(), &scripted("a", json!({"drain_ms": 200})));
        agent.signal(signal);
        assert_stopped(&agent);
        agent.wait_log("the drain", |line| line.text.contains("Shutdown complete"));
        let stopped = agent.wait_log("the end", |line| line.msg() == "collector stopped");
        assert_eq!(stopped.field("status"), "exited with status 0");
        agent.wait_log("the agent's last line", |line| line.msg() == "agent stopped");
    };
    std::thread::scope(|scope| {
        for signal in [Signal::TERM, Signal::INT] {
            scope.spawn(move || run(signal));
        }
    });
}

#[test]
fn during_the_start_the_collector_is_not_killed_before_it_can_drain() {
    let agent = quick().config(yaml(&named("a"))).spawn();
    agent.wait_start(1);
    agent.signal(Signal::TERM);
    assert_stopped(&agent);
    agent.wait_log("the drain", |line| line.text.contains("Shutdown complete"));
}

#[test]
fn at_any_moment_of_the_agents_own_start() {
    for _ in 0..10 {
        let agent = quick().config(yaml(&named("a"))).spawn();
        // Sooner or later than the handler, the threads, the spawn: chance decides which.
        agent.signal(Signal::TERM);
        let exit = agent.wait_exit();
        assert!(exit == 0 || exit == -15, "{exit}");
        agent.wait_until("nothing left", || agent.processes().is_empty());
    }
}

#[test]
fn during_a_backoff() {
    let agent = quick().config(yaml(&scripted("a", json!({"start": {"exit": 1}})))).spawn();
    agent.wait_status("backoff", |status| status["collector"]["state"] == "backoff");
    agent.signal(Signal::TERM);
    assert_stopped(&agent);
}

#[test]
fn a_collector_that_hangs_is_killed_after_the_stop_timeout_and_a_second_signal_changes_nothing() {
    let agent = settled(quick().setting("stop-timeout", "1500ms"), &hanging());
    let asked_at = Instant::now();
    agent.signal(Signal::TERM);
    agent.wait_status("stopping", |status| status["collector"]["state"] == "stopping");
    agent.signal(Signal::TERM);
    agent.signal(Signal::INT);
    assert_stopped(&agent);
    let took = asked_at.elapsed().as_secs_f64();
    assert!(took >= 1.4, "killed after {took} s already");
    let stopped = agent.wait_log("the end", |line| line.msg() == "collector stopped");
    assert_eq!(stopped.field("status"), "was killed by SIGKILL");
    agent.wait_log("a warning", |line| line.level() == "warn" && line.msg().contains("stop-timeout"));
}

#[test]
fn a_collector_that_hangs_does_not_hold_up_its_successor_for_longer() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("stop-timeout", "1s"), &hanging());
    let old = agent.wait_collector();
    api.answer_config(named("b"));
    agent.wait_start(2);
    assert!(!process::alive(old));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_stop_during_a_change_ends_with_the_new_config_in_place() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &scripted("a", json!({"drain_ms": 1500})));
    api.answer_config(named("b"));
    agent.wait_log("the install", |line| line.msg() == "config installed");
    agent.signal(Signal::TERM);
    assert_stopped(&agent);
    assert_eq!((agent.config(), agent.starts()), (named("b"), 1));
}

#[test]
fn a_suspended_collector_is_continued_and_drains() {
    let agent = settled(quick(), &named("a"));
    let pid = agent.wait_collector();
    process::signal(pid, Signal::STOP);
    agent.wait_until("a suspended collector", || process::status(pid).is_some_and(|status| status.state() == 'T'));
    agent.signal(Signal::TERM);
    assert_stopped(&agent);
    agent.wait_log("the drain", |line| line.text.contains("Shutdown complete"));
}

#[test]
fn while_a_validation_hangs() {
    let api = Api::plain();
    // A child of its own, as a wrapper may have: nobody tells that one by a signal that its parent's parent has gone.
    let builder = quick().api(&api);
    let wrapper = builder.dir().join("wrapper");
    let fake = bin::fake().display().to_string();
    let script = format!("#!/bin/sh\n[ \"$1\" != validate ] || {{ {fake} \"$@\"; exit; }}\nexec {fake} \"$@\"\n");
    bin::write_program(&wrapper, &script);
    let agent = settled(builder.collector(wrapper), &named("a"));
    api.answer_config(scripted("b", json!({"validate": "hang"})));
    agent.wait_until("a validation", || !agent.records_of("validate").is_empty());
    assert_ne!(strays(&agent), [""; 0], "there is no candidate to be swept");
    let asked_at = Instant::now();
    agent.signal(Signal::TERM);
    assert_stopped(&agent);
    assert!(asked_at.elapsed().as_secs() < 5);
    assert_eq!(agent.config(), named("a"));
    assert_eq!(agent.count_log(|line| line.msg().contains("not applied")), 0, "what is ended by a stop is no failure");
}

#[test]
fn while_the_api_hangs() {
    let api = Api::plain();
    api.reply(Reply::Hang);
    let agent = settled(quick().api(&api).setting("poll-timeout", "1m"), &named("a"));
    api.wait_for_request("a poll", |_| true);
    let asked_at = Instant::now();
    agent.signal(Signal::TERM);
    assert_stopped(&agent);
    assert!(asked_at.elapsed().as_secs() < 5);
}

#[test]
fn the_command_waits_for_the_end() {
    let agent = settled(quick(), &scripted("a", json!({"drain_ms": 500})));
    let output = agent.run(["stop"]);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    assert_eq!(agent.processes(), [0; 0], "the command did not wait");
    // A status of its own, so that no service manager starts it again.
    assert_ended(&agent, 79);
    assert_eq!(agent.run(["stop"]).code, Some(69));
}

#[test]
fn a_grandchild_in_the_collectors_group_ends_with_it() {
    if !needs::that(machine::emulator().is_none(), "an emulator does not show processes as the kernel does") {
        return;
    }
    let agent = settled(quick(), &scripted("a", json!({"fork": true})));
    agent.wait_until("the grandchild", || agent.records_of("grandchild").len() == 1);
    agent.signal(Signal::TERM);
    assert_stopped(&agent);
}

#[test]
fn a_grandchild_that_left_the_group_and_holds_the_output_does_not_hold_up_anything() {
    if !needs::that(machine::emulator().is_none(), "an emulator does not show processes as the kernel does") {
        return;
    }
    let agent = settled(quick(), &scripted("a", json!({"fork": "session"})));
    agent.wait_until("the grandchild", || agent.records_of("grandchild").len() == 1);
    let grandchild = agent.records_of("grandchild")[0]["pid"].as_u64().unwrap() as u32;
    // First a crash, then a stop.
    let pid = agent.wait_collector();
    process::signal(pid, Signal::KILL);
    agent.wait_start(2);
    assert!(!process::alive(grandchild), "it is beside the next collector");
    agent.signal(Signal::TERM);
    assert_stopped(&agent);
}
