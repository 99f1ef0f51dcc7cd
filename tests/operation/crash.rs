//! A collector that ends by itself is started again.

use rustix::process::Signal;
use serde_json::json;

use super::{
    is_running, message, named, quick, scripted, seconds_between, settled, wait_no_strays, wait_running, yaml,
};
use crate::support::agent::{Agent, Line};
use crate::support::api::Api;
use crate::support::process;

fn exits(line: &Line) -> bool {
    line.msg() == "collector exited unexpectedly"
}

/// From the crash number `index` (from 0) to the start that follows it, in seconds, as the log has it.
fn delay_after(agent: &Agent, index: usize) -> f64 {
    let log = agent.log();
    let crash = log.iter().enumerate().filter(|(_, line)| exits(line)).nth(index).unwrap();
    let start = log.iter().skip(crash.0).find(|line| line.msg() == "collector started").unwrap();
    seconds_between(crash.1, start)
}

/// ±20 %, and what a loaded host may add.
#[track_caller]
fn assert_delay(agent: &Agent, index: usize, base: f64) {
    let delay = delay_after(agent, index);
    assert!((base * 0.8..base * 1.2 + 0.5).contains(&delay), "{delay} s after crash {index}, for {base}");
}

fn backoffs(agent: &Agent) -> usize {
    agent.count_log(|line| line.msg() == "collector state" && line.field("to") == "backoff")
}

#[test]
fn a_proved_collector_is_restarted_at_once_whatever_ended_it() {
    let run = |signal, words: &str| {
        let api = Api::plain();
        // Longer than the time between polls: each crash is reported before it is resolved.
        let agent = settled(quick().api(&api).setting("min-uptime", "2s"), &named("a"));
        let (log, asked) = (agent.log().len(), api.requests().len());
        process::signal(agent.wait_collector(), signal);
        agent.wait_log_after(log, "the crash", |line| exits(line) && line.field("status") == words);
        let report = api.wait_for_request_after(asked, "the crash", |request| message(request).contains(words));
        assert_eq!(report.json()["collector_status"], "Running");
        wait_running(&agent, log);
        api.wait_for_request_after(asked + 1, "a resolved problem", |request| message(request).is_empty());
        let delay = delay_after(&agent, 0);
        assert!(delay < 0.5, "{delay} s");
        assert_eq!((agent.starts(), backoffs(&agent)), (2, 0));
        let status = agent.status().unwrap();
        assert_eq!((&status["collector"]["restarts"], &status["last_error_message"]), (&json!(1), &json!("")));
    };
    std::thread::scope(|scope| {
        // The stand-in ends with 0 on SIGTERM, and so does the real one.
        for (signal, words) in [
            (Signal::KILL, "was killed by SIGKILL"),
            (Signal::TERM, "exited with status 0"),
            (Signal::ABORT, "was killed by SIGABRT"),
        ] {
            scope.spawn(move || run(signal, words));
        }
    });
}

#[test]
fn crashes_in_ten_minutes_wait_longer_each_time_proved_or_not() {
    let config = scripted("a", json!({"start": {"exit": 9, "times": 3}, "stderr": "panic: early"}));
    // Long enough for the test to kill one early, however loaded the host is.
    let agent = quick().setting("min-uptime", "2s").config(yaml(&config)).spawn();
    wait_running(&agent, 0);
    assert!(delay_after(&agent, 0) < 0.5);
    for (index, base) in [(1, 1.0), (2, 2.0)] {
        assert_delay(&agent, index, base);
    }
    assert_eq!((agent.starts(), backoffs(&agent)), (4, 2));
    let states = agent.log().into_iter().filter(|line| line.msg() == "collector state");
    let said: Vec<f64> = states.filter_map(|line| line.json["next_start_seconds"].as_f64()).collect();
    assert!((0.8..1.2).contains(&said[0]) && (1.6..2.4).contains(&said[1]) && said.len() == 2, "{said:?}");
    // That it has proved itself does not end it: a collector may die a little later each time.
    let log = agent.log().len();
    process::signal(agent.wait_collector(), Signal::KILL);
    agent.wait_start(5);
    wait_running(&agent, log);
    assert_delay(&agent, 3, 4.0);
}

/// A report that meets it alive, and past its probation once more, is no all-clear.
#[test]
fn one_that_passes_its_probation_and_dies_again_and_again_stays_reported() {
    let api = Api::plain();
    let config = scripted("late", json!({"start": {"exit": 4, "after_ms": 1500}}));
    let agent = quick().api(&api).setting("confirm-time", "0").config(yaml(&config)).spawn();
    for proofs in 1..=4 {
        agent.wait_until("a collector that has proved itself", || agent.count_log(is_running) == proofs);
        let status = agent.status().unwrap();
        let asked = api.requests().len();
        agent.run(["--check"]);
        let report = api.wait_for_request_after(asked, "a report", |_| true);
        let told = [status["last_error_message"].as_str().unwrap().to_string(), message(&report)];
        // One exit is over when the next collector has proved itself.
        assert!(proofs <= 2 || told.iter().all(|it| it.contains("exited with status 4")), "{proofs}: {told:?}");
    }
    assert_eq!((agent.config(), backoffs(&agent)), (config, 2));
}

#[test]
fn a_signal_is_reported_by_its_name() {
    let run = |name: &'static str| {
        let agent = quick().config(yaml(&scripted("a", json!({"signal": name})))).spawn();
        let line = agent.wait_log(name, exits);
        let uptime = line.json["uptime_seconds"].to_string();
        assert!(uptime.split_once('.').is_none_or(|(_, digits)| digits.len() <= 3), "{uptime}");
        assert_eq!(line.field("status"), format!("was killed by SIG{name}"));
        let status = agent.wait_status("backoff", |status| status["collector"]["state"] == "backoff");
        assert!(status["last_error_message"].as_str().unwrap().contains(&format!("SIG{name}")), "{status}");
    };
    std::thread::scope(|scope| {
        for name in ["SEGV", "BUS", "ABRT", "HUP", "INT", "TERM", "KILL"] {
            scope.spawn(move || run(name));
        }
    });
}

#[test]
fn the_message_has_the_last_lines_and_fits() {
    let api = Api::plain();
    let lines: Vec<String> = (0..400).map(|number| format!("line {number} — naïve ✓ {}", "x".repeat(60))).collect();
    let config = scripted("a", json!({"start": {"exit": 2}, "stderr": lines.join("\n")}));
    let agent = quick().api(&api).config(yaml(&config)).spawn();
    let report = api.wait_for_request("the crash", |request| message(request).contains("exited with status 2"));
    let report = message(&report);
    assert!(report.len() <= 4096 && report.len() > 1500, "{} bytes", report.len());
    assert!(report.ends_with(&lines[399]), "{report}");
    assert!(report.starts_with("20") && report.contains("Z: the collector exited with status 2 after 0."), "{report}");
    assert!(!report.contains(&lines[0]));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn secrets_in_the_last_lines_are_masked() {
    let api = Api::plain();
    let mut config = scripted("a", json!({"start": {"exit": 2}, "stderr": "dial: test-key and sesame-12345 refused"}));
    config["exporters"] = json!({"other": {"headers": {"x-token": "sesame-12345"}}});
    let agent = quick().api(&api).config(yaml(&config)).spawn();
    let report = api.wait_for_request("the crash", |request| message(request).contains("refused"));
    assert!(message(&report).contains("dial: **** and **** refused"), "{}", message(&report));
    let passed_on = agent.wait_log("the line", |line| line.is_collector() && line.msg().starts_with("dial: "));
    assert_eq!(passed_on.msg(), "dial: **** and **** refused");
    let shown = agent.status().unwrap().to_string();
    assert!(shown.contains("****") && !shown.contains("sesame") && !shown.contains("test-key"), "{shown}");
}

#[test]
fn many_crashes_leave_nothing_behind() {
    let agent = settled(quick().setting("min-uptime", "100ms"), &named("a"));
    // What is written then is open for a moment: the poller answers when it is done.
    agent.run(["--check"]);
    agent.status();
    let descriptors = || process::descriptors(agent.pid());
    let before = descriptors();
    for count in 1..=4 {
        process::signal(agent.wait_collector(), Signal::KILL);
        agent.wait_until("the next proof", || agent.count_log(is_running) > count);
    }
    assert_eq!(agent.starts(), 5);
    agent.wait_until("no more descriptors than before", || descriptors() <= before);
    wait_no_strays(&agent);
    assert_eq!(agent.processes().len(), 2);
}
