//! Configs that validate and then fail: back to one that has proved itself.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{holds_polls, message, named, quick, scripted, settled, wait_no_strays, wait_polls, wait_running, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::process;

/// Valid, and dies when it starts.
fn dying(name: &str) -> Value {
    scripted(name, json!({"start": {"exit": 3}, "stderr": "Error: listen tcp: address already in use"}))
}

fn rejected(agent: &Agent) -> Value {
    serde_yaml::from_str(&agent.rejected()).unwrap_or_default()
}

#[track_caller]
fn wait_rolled_back(agent: &Agent, seen: usize) {
    let line = agent.wait_log_after(seen, "a roll back", |line| line.msg().starts_with("config rolled back"));
    assert!(line.field("revision").len() == 12 || line.field("revision") == "unknown", "{line:?}");
    wait_running(agent, seen);
}

#[test]
fn a_config_that_dies_at_start_is_rolled_back_reported_once_and_not_retried() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("config-check-interval", "168h"), &named("good"));
    api.wait_for_request("the first poll", |_| true);
    let log = agent.log().len();
    api.answer_config(dying("bad"));
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(65), "{output:?}");
    assert!(output.stderr.contains("was rolled back") && output.stderr.contains("status 3"), "{output:?}");
    wait_rolled_back(&agent, log);
    let of = |start: &str| {
        let log = agent.log();
        log.iter().rfind(|line| line.msg().starts_with(start)).unwrap().field("revision").to_string()
    };
    assert_eq!(of("config rolled back"), of("config installed"));
    assert_eq!(of("config promoted").len(), 12);
    holds_polls(&api, 3);
    let report = message(&api.requests()[2]);
    assert!(report.contains("exited with status 3") && report.contains("address already in use"), "{report}");
    assert_eq!((agent.config(), rejected(&agent)), (named("good"), dying("bad")));
    wait_no_strays(&agent);
    assert_eq!(agent.starts(), 3);

    let again = agent.run(["--check"]);
    assert_eq!(again.code, Some(65), "{again:?}");
    assert_eq!(agent.stop(), 0);
    agent.spawn();
    api.wait_for_request_after(4, "the poll after the restart", |request| message(request).contains("status 3"));
    wait_running(&agent, agent.log().len().saturating_sub(1));
    assert_eq!((agent.starts(), agent.records_of("validate").len()), (4, 1), "the rejected config was tried again");
}

#[test]
fn an_agent_that_starts_with_a_broken_config_falls_back() {
    let agent = settled(quick(), &named("good"));
    for broken in [yaml(&dying("bad")), "fake: [unclosed".to_string(), String::new()] {
        assert_eq!(agent.stop(), 0);
        fs::write(agent.config_file(), &broken).unwrap();
        let log = agent.log().len();
        agent.spawn();
        wait_rolled_back(&agent, log);
        assert_eq!(agent.config(), named("good"));
        assert_eq!(agent.rejected(), broken);
        assert!(agent.status().unwrap()["last_error_message"].as_str().unwrap().contains("rolled back"));
    }
    assert_eq!(agent.starts(), 7);
}

#[test]
fn a_config_that_vanished_is_put_back() {
    let agent = settled(quick(), &named("good"));
    fs::remove_file(agent.config_file()).unwrap();
    let log = agent.log().len();
    process::signal(agent.wait_collector(), Signal::KILL);
    wait_running(&agent, log);
    assert_eq!(agent.config(), named("good"));
    assert_eq!(agent.count_log(|line| line.field("problem").contains("missing") && line.level() == "warn"), 2);
    assert_eq!(agent.rejected(), "");
}

#[test]
fn a_file_that_was_broken_by_hand_is_rolled_back_when_it_is_used() {
    let agent = settled(quick(), &named("good"));
    let pid = agent.wait_collector();
    fs::write(agent.config_file(), yaml(&dying("by hand"))).unwrap();
    let log = agent.log().len();
    process::signal(pid, Signal::KILL);
    wait_rolled_back(&agent, log);
    assert_eq!((agent.config(), rejected(&agent)), (named("good"), dying("by hand")));
}

#[test]
fn a_good_change_by_hand_is_kept() {
    let agent = settled(quick(), &named("good"));
    fs::write(agent.config_file(), yaml(&named("by hand"))).unwrap();
    let log = agent.log().len();
    process::signal(agent.wait_collector(), Signal::KILL);
    wait_running(&agent, log);
    assert_eq!(agent.config(), named("by hand"));
    agent.wait_until("it, kept", || agent.proved() == yaml(&named("by hand")));
    agent.wait_log("a line", |line| line.msg() == "config was changed by hand; keeping a copy");
}

#[test]
fn without_a_fallback_it_keeps_trying_and_says_so() {
    let api = Api::plain();
    let agent = quick().api(&api).config(yaml(&dying("only"))).spawn();
    agent.wait_start(3);
    assert_eq!(agent.config(), dying("only"));
    // The first restart is at once, so it may be reported first.
    api.wait_for_request("the crash, and a pause", |request| {
        message(request).contains("address already in use") && request.json()["collector_status"] == "Stopped"
    });
    assert_eq!(agent.rejected(), "");
    // What repairs it is used at once, not after the delay.
    agent.wait_until("a backoff of 4 s", || {
        agent.count_log(|line| line.msg() == "collector state" && line.field("to") == "backoff") >= 3
    });
    let log = agent.log().len();
    api.answer_config(named("repaired"));
    wait_running(&agent, log);
    api.wait_for_request("a resolved problem", |request| message(request).is_empty());
    assert_eq!((agent.config(), agent.starts()), (named("repaired"), 5));
    let status = agent.status().unwrap();
    assert_eq!(status["config"]["changed_by"], "restart (nothing running to hand over from)");
}

#[test]
fn a_first_config_from_the_api_that_dies_is_replaced_by_the_next() {
    let api = Api::plain();
    api.answer_config(dying("first"));
    let agent = quick().api(&api).spawn();
    // The first restart is at once, so it may be reported first.
    api.wait_for_request("the failure, and a pause", |request| {
        message(request).contains("status 3") && request.json()["collector_status"] == "Stopped"
    });
    wait_polls(&agent, &api, 1);
    assert_eq!(agent.config(), dying("first"));
    api.answer_config(named("second"));
    wait_running(&agent, 0);
    assert_eq!(agent.config(), named("second"));
}

#[test]
fn an_agent_killed_during_a_probation_ends_it_at_the_next_start() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let log = agent.log().len();
    api.answer_config(scripted("bad", json!({"start": {"exit": 5, "after_ms": 250}})));
    agent.wait_start(2);
    agent.signal(Signal::KILL);
    agent.wait_exit();
    agent.spawn();
    wait_rolled_back(&agent, log);
    assert_eq!(agent.config(), named("good"));
    let report = api.wait_for_request("the roll back", |request| message(request).contains("status 5"));
    assert!(message(&report).contains("rolled back") || message(&report).contains("rejected"), "{}", message(&report));
    let validations = agent.records_of("validate").len();
    wait_polls(&agent, &api, 2);
    assert_eq!(agent.records_of("validate").len(), validations, "the rejected config was tried again");
}
