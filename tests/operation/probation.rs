//! The end of a probation: the health check has the last word.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::{is_running, message, named, quick, scripted, settled, wait_running, yaml};
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
    let kept = std::fs::read_to_string(agent.dir().join("etc/config.yaml.rejected")).unwrap();
    assert_eq!(serde_yaml::from_str::<Value>(&kept).unwrap(), config);
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
    let kept = std::fs::read_to_string(agent.state_dir().join("last-known-good.yaml")).unwrap();
    assert_eq!((agent.config(), serde_yaml::from_str::<Value>(&kept).unwrap()), (config.clone(), config));
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
