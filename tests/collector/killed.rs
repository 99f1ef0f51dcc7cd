//! SIGKILL: whatever dies, the host recovers by itself.

use std::collections::BTreeSet;

use rustix::process::Signal;

use super::{Site, message, settled, wait_proved, wait_running};
use crate::support::process;

#[test]
fn a_killed_collector_is_back_with_its_ports() {
    let site = Site::new();
    let agent = site.settled();
    let mut pids = BTreeSet::new();
    for round in 0..3 {
        let (pid, seen) = (agent.wait_collector(), agent.log().len());
        assert!(pids.insert(pid));
        site.delivers(&agent, &format!("round {round}"));
        process::signal(pid, Signal::KILL);
        // The first time at once, then after 1 and 2 s.
        let state = agent.wait_log_after(seen, "the next state", |line| line.msg() == "collector state");
        assert_eq!(state.field("to"), if round == 0 { "starting" } else { "backoff" });
        agent.wait_log_after(seen, "the reason", |line| line.field("status") == "was killed by SIGKILL");
        wait_running(&agent, seen);
    }
    site.delivers(&agent, "after all");
    assert_eq!(agent.config(), site.config());
    // More than once in ten minutes, which stays a problem for as long.
    let report = site.api.wait_for_request_after(site.api.requests().len(), "a report", |_| true);
    assert!(message(&report).contains("was killed by SIGKILL"), "{}", message(&report));
}

#[test]
fn a_killed_agent_leaves_no_orphan_and_the_next_one_starts() {
    let site = Site::new();
    let agent = site.settled();
    site.delivers(&agent, "before");
    let pid = agent.wait_collector();
    agent.signal(Signal::KILL);
    assert_eq!(agent.wait_exit(), -9);
    agent.wait_until("the collector's end", || !process::alive(pid));
    assert_eq!(agent.processes(), [0; 0]);
    // The last thread of a dying process has the ports.
    agent.wait_until("a free port", || !process::port_answers(site.otlp));
    let seen = agent.log().len();
    agent.spawn();
    wait_running(&agent, seen);
    site.delivers(&agent, "after");
    assert_eq!(agent.stop(), 0);
}

/// Killed in the middle of an install: the next agent ends what the first one began.
#[test]
fn an_agent_killed_during_a_probation_is_followed_by_one_that_ends_it() {
    let site = Site::new();
    let agent = settled(site.patient(), &site.config());
    agent.wait_collector();
    let config = site.config_with("batch", serde_json::json!({"timeout": "10ms"}));
    site.api.answer_config(config.clone());
    let seen = agent.log().len();
    agent.wait_log_after(seen, "the start of the new config", |line| line.msg() == "collector started");
    agent.signal(Signal::KILL);
    agent.wait_exit();
    agent.wait_until("the end of everything", || agent.processes().is_empty());
    wait_proved(&agent, &config, &site.config());
    let seen = agent.log().len();
    agent.spawn();
    wait_running(&agent, seen);
    wait_proved(&agent, &config, &config);
    site.delivers(&agent, "through the new config");
}
