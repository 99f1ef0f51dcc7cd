//! `restart_required`: how an operator asks for a restart, and how often it is honoured.

use serde_json::{Value, json};

use super::{identity, message, named, quick, settled, wait_good, wait_polls, wait_running, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;

/// A request, and the same answer over and over: one restart, that keeps the file as it is.
fn expect_one_restart(agent: &Agent, api: &Api, answer: &Value) {
    let (file, starts, log) = (identity(&agent.config_file()), agent.starts(), agent.log().len());
    let validations = agent.records_of("validate").len();
    api.answer(answer.clone());
    agent.wait_start(starts + 1);
    wait_running(agent, log);
    wait_polls(agent, api, 3);
    assert_eq!((agent.starts(), identity(&agent.config_file())), (starts + 1, file), "{answer}");
    // Whether it would start again.
    assert_eq!(agent.records_of("validate").len(), validations + 1);
}

#[test]
fn answers_in_a_row_are_one_request() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    expect_one_restart(&agent, &api, &json!({"restart_required": true}));
    // After an answer without it, it is another one.
    api.answer(json!({"restart_required": false}));
    wait_polls(&agent, &api, 2);
    expect_one_restart(&agent, &api, &json!({"restart_required": true, "config": named("a")}));
    assert_eq!(agent.count_log(|line| line.msg() == "the API requested a collector restart"), 2);
}

#[test]
fn a_request_is_remembered_by_the_next_agent() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    expect_one_restart(&agent, &api, &json!({"restart_required": true, "config": named("a")}));
    assert_eq!(agent.stop(), 0);
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    wait_polls(&agent, &api, 2);
    assert_eq!(agent.starts(), 3, "the same request was honoured again");
}

#[test]
fn an_installed_config_needs_no_second_restart() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    let log = agent.log().len();
    api.answer_config(named("b"));
    wait_running(&agent, log);
    wait_polls(&agent, &api, 3);
    assert_eq!((agent.starts(), agent.config()), (2, named("b")));
}

/// By an operator, by hand: what runs is not given up for it.
#[test]
fn a_request_is_put_off_while_the_collector_refuses_the_config_active() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    let (pid, asked) = (agent.wait_collector(), api.requests().len());
    std::fs::write(agent.config_file(), "fake: {validate: fail}").unwrap();
    api.answer(json!({"restart_required": true}));
    let words = "restart requested by the API was skipped: the collector rejects the active config";
    let report = api.wait_for_request_after(asked, "the reason", |request| message(request).contains(words));
    assert!(message(&report).contains("scripted to refuse this config"), "{}", message(&report));
    let output = agent.run(["--check"]);
    output.fails(65, words);
    assert_eq!((agent.wait_collector(), agent.starts()), (pid, 1));

    // Not asked for any more, it is no problem any more.
    api.answer(json!({"restart_required": false}));
    let asked = api.requests().len();
    api.wait_for_request_after(asked, "no problem", |request| message(request).is_empty());
    // Asked for again, and the config is good again: the request was not lost.
    std::fs::write(agent.config_file(), yaml(&named("b"))).unwrap();
    api.answer(json!({"restart_required": true}));
    wait_good(&agent, &named("b"));
    assert_eq!(agent.starts(), 2);
}

#[test]
fn a_request_without_a_config_anywhere_starts_nothing() {
    let api = Api::plain();
    api.answer(json!({"restart_required": true}));
    let agent = quick().api(&api).spawn();
    wait_polls(&agent, &api, 3);
    assert_eq!(agent.starts(), 0);
    agent.wait_status("stopped", |status| status["collector"]["state"] == "stopped");
}
