//! A probation begins when the collector is ready; at its end, and later, the health check has the last word.

use std::fs;
use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{is_running, message, named, quick, scripted, seconds_between, settled, wait_polls, wait_running, yaml};
use crate::support::api::Api;
use crate::support::process;

/// Declares a health check at `declared`; the stand-in serves `script`.
fn checked(name: &str, declared: u16, script: Value) -> Value {
    let mut config = scripted(name, script);
    config["extensions"] = json!({"health_check": {"endpoint": format!("127.0.0.1:{declared}")}});
    config["service"] = json!({"extensions": ["health_check"]});
    config
}

/// Offers a config and expects it to be rolled back with a reason that has `reason`.
fn expect_rolled_back(config: Value, reason: &str) {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    api.answer_config(config.clone());
    let report = api.wait_for_request("the roll back", |request| message(request).contains(reason));
    assert!(message(&report).contains("health check"), "{}", message(&report));
    agent.wait_until("two proofs", || agent.count_log(is_running) == 2);
    assert_eq!((agent.config(), agent.starts()), (named("good"), 3));
    assert_eq!(serde_yaml::from_str::<Value>(&agent.rejected()).unwrap(), config);
    assert_eq!(agent.count_log(|line| line.msg().starts_with("config rolled back")), 1);
}

#[test]
fn an_answer_of_503_rolls_back() {
    let port = process::free_port();
    expect_rolled_back(checked("bad", port, json!({"health": {"port": port, "status": 503}})), "answered 503");
}

#[test]
fn a_closed_port_rolls_back() {
    let (declared, served) = (process::free_port(), process::free_port());
    expect_rolled_back(checked("bad", declared, json!({"health": {"port": served}})), "cannot be reached");
}

#[test]
fn silence_rolls_back() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = checked("bad", silent.local_addr().unwrap().port(), json!({"health": {"port": process::free_port()}}));
    expect_rolled_back(config, "did not answer within 5 s");
}

#[test]
fn an_answer_of_200_promotes() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let port = process::free_port();
    let config = checked("healthy", port, json!({}));
    let log = agent.log().len();
    api.answer_config(config.clone());
    wait_running(&agent, log);
    agent.wait_until("the config, kept", || agent.proved_config() == config);
    assert_eq!(agent.config(), config);
    assert!(process::port_answers(port));
}

#[test]
fn an_unhealthy_collector_with_nothing_to_go_back_to_is_kept_and_asked_again() {
    let api = Api::plain();
    let port = process::free_port();
    let config = checked("only", port, json!({"health": {"port": port, "after_ms": 1500}}));
    let agent = quick().api(&api).config(yaml(&config)).spawn();
    let report = api.wait_for_request("its ill health", |request| message(request).contains("answered 503"));
    assert_eq!(report.json()["collector_status"], "Running");
    wait_running(&agent, 0);
    api.wait_for_request_after(api.requests().len(), "a resolved problem", |request| message(request).is_empty());
    assert_eq!(agent.starts(), 1);
}

/// A good config is not rolled back because a cold start is slower than min-uptime.
#[test]
fn a_slow_start_is_no_failure() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let log = agent.log().len();
    let config = checked("slow", process::free_port(), json!({"ready_after_ms": 2000}));
    api.answer_config(config.clone());
    wait_running(&agent, log);
    assert_eq!((agent.config(), agent.starts()), (config, 2));
}

/// Nor if the agent ends meanwhile, and after a restart of it.
#[test]
fn a_slow_start_under_another_agent_is_no_failure() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let config = scripted("slow", json!({"ready_after_ms": 2000}));
    api.answer_config(config.clone());
    agent.wait_start(2);
    agent.signal(Signal::KILL);
    agent.wait_exit();
    for _ in 0..2 {
        let log = agent.log().len();
        agent.spawn();
        wait_running(&agent, log);
        assert_eq!(agent.stop(), 0);
    }
    assert_eq!((agent.config(), agent.starts()), (config, 4));
    assert_eq!(agent.count_log(|line| line.msg().starts_with("config rolled back")), 0);
}

#[test]
fn what_dies_after_it_was_ready_has_proved_nothing_however_long_it_took_to_start() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let log = agent.log().len();
    let death = json!({"exit": 1, "after_ms": 50});
    api.answer_config(scripted("bad", json!({"ready_after_ms": 1500, "start": death})));
    wait_running(&agent, log);
    assert_eq!((agent.config(), agent.starts()), (named("good"), 3));
}

/// Its log level keeps it from saying that it is ready.
#[test]
fn one_that_says_nothing_is_ready_when_its_health_check_is_or_start_timeout_has_passed() {
    let port = process::free_port();
    let health = json!({"quiet": true, "health": {"port": port, "after_ms": 1500}});
    let agent = settled(quick(), &checked("quiet", port, health));
    let states = agent.log();
    let at = |to: &str| states.iter().find(|line| line.msg() == "collector state" && line.field("to") == to).unwrap();
    let seconds = seconds_between(at("starting"), at("running"));
    assert!((2.0..30.0).contains(&seconds), "{seconds} s");

    let agent = settled(quick().setting("start-timeout", "2s"), &scripted("mute", json!({"quiet": true})));
    let states = agent.log();
    let at = |to: &str| states.iter().find(|line| line.msg() == "collector state" && line.field("to") == to).unwrap();
    let seconds = seconds_between(at("starting"), at("running"));
    assert!((2.5..30.0).contains(&seconds), "{seconds} s");
}

/// As it is awake for a config check; nothing is restarted for it.
#[test]
fn ill_health_after_the_probation_is_reported_until_it_is_over() {
    let api = Api::plain();
    let (port, builder) = (process::free_port(), quick().api(&api));
    let is_ill = builder.dir().join("ill");
    let script = json!({"health": {"port": port, "ill_while": is_ill}});
    let agent = builder.config(yaml(&checked("a", port, script))).spawn();
    wait_running(&agent, 0);
    fs::write(&is_ill, "").unwrap();
    let report = api.wait_for_request("its ill health", |request| message(request).contains("answered 503"));
    assert!(message(&report).contains("the collector is unhealthy: the health check "), "{}", message(&report));
    assert_eq!(report.json()["collector_status"], "Running");
    let status = agent.status().unwrap();
    assert_eq!(status["collector"]["state"], "running");
    assert!(status["last_error_message"].as_str().unwrap().contains("answered 503"), "{status}");
    fs::remove_file(&is_ill).unwrap();
    api.wait_for_request_after(api.requests().len(), "a resolved problem", |request| message(request).is_empty());
    assert_eq!(agent.starts(), 1);
    let said = |words: &str| agent.count_log(|line| line.msg().starts_with(words));
    assert_eq!((said("collector unhealthy"), said("collector healthy again")), (1, 1));
}

/// The one that was started last had another.
#[test]
fn after_a_failed_hand_over_the_old_collector_is_asked_at_its_own_health_check() {
    let api = Api::plain();
    let (own, other) = (process::free_port(), process::free_port());
    let builder = quick().setting("restart-mode", "handover").api(&api);
    let agent = builder.config(yaml(&checked("a", own, json!({"health": {"port": own}})))).spawn();
    wait_running(&agent, 0);
    api.answer_config(checked("b", other, json!({"start": {"exit": 3}})));
    agent.wait_log("the roll back", |line| line.msg() == "config rolled back");
    let collector = agent.wait_collector();
    wait_polls(&agent, &api, 3);
    assert_eq!(agent.count_log(|line| line.msg().starts_with("collector unhealthy")), 0);
    assert_eq!((agent.starts(), agent.wait_collector()), (2, collector), "it was no hand-over");
}

#[test]
fn a_crash_shortly_before_the_end_rolls_back() {
    let api = Api::plain();
    let agent = settled(quick().setting("min-uptime", "1500ms").api(&api), &named("good"));
    let log = agent.log().len();
    api.answer_config(scripted("bad", json!({"start": {"signal": "SEGV", "after_ms": 600}})));
    api.wait_for_request("the roll back", |request| message(request).contains("SIGSEGV"));
    wait_running(&agent, log);
    assert_eq!(agent.config(), named("good"));
}
