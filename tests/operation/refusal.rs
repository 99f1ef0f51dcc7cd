//! Candidates that the collector's own check refuses, or that it cannot check.

use serde_json::{Value, json};

use super::{
    holds_polls, identity, message, named, quick, scripted, settled, wait_good, wait_no_strays, wait_polls,
    wait_running,
};
use crate::support::agent::Agent;
use crate::support::api::Api;

/// Refused with a message that shows a secret of the config.
fn leaking() -> Value {
    let mut config = named("leaking");
    config["exporters"] = json!({"other": {"password": "sesame-12345"}});
    config["service"] = json!({"pipelines": {"logs": {"exporters": ["sesame-12345"]}}});
    config
}

fn validations(agent: &Agent) -> usize {
    agent.records_of("validate").len()
}

#[test]
fn a_refused_config_changes_nothing_and_is_remembered() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let (before, pid) = (identity(&agent.config_file()), agent.wait_collector());
    api.answer_config(leaking());
    let report = api.wait_for_request("the refusal", |request| message(request).contains("rejects the config"));
    assert!(message(&report).contains(r#"references exporter "****" which is not configured"#), "{}", message(&report));
    assert_eq!(report.json()["collector_status"], "Running");
    wait_polls(&agent, &api, 3);
    assert_eq!(validations(&agent), 1, "validated again");
    assert_eq!((agent.wait_collector(), identity(&agent.config_file())), (pid, before));
    wait_no_strays(&agent);
    assert_eq!(agent.count_log(|line| line.msg().starts_with("new config rejected")), 1);
    let status = agent.status().unwrap();
    let text = [
        agent.log().iter().map(|line| line.text.as_str()).collect::<String>(),
        std::fs::read_to_string(agent.state_dir().join("rejected.json")).unwrap(),
        status.to_string(),
    ];
    assert!(text.iter().all(|text| text.contains("****") && !text.contains("sesame-12345")), "{text:?}");
    assert_eq!(agent.stop(), 0);

    let asked = api.requests().len();
    agent.spawn();
    let first = api.wait_for_request_after(asked, "a poll after the restart", |_| true);
    assert!(message(&first).contains("rejects the config"), "forgotten: {}", message(&first));
    wait_polls(&agent, &api, 2);
    assert_eq!((validations(&agent), agent.config()), (1, named("good")));

    // Another config resolves it, and the rejected one is still not tried again.
    api.answer_config(named("better"));
    api.wait_for_request_after(asked, "a resolved problem", |request| message(request).is_empty());
    assert_eq!(agent.config(), named("better"));
    api.answer_config(leaking());
    api.wait_for_request_after(asked, "the rejected one", |request| message(request).contains("rejects the config"));
    assert_eq!((validations(&agent), agent.config()), (2, named("better")));
}

#[test]
fn the_server_takes_a_refused_config_back() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    api.answer_config(scripted("bad", json!({"validate": "fail"})));
    api.wait_for_request("the refusal", |request| message(request).contains("scripted to refuse"));
    let asked = api.requests().len();
    api.answer(json!({"restart_required": false, "config": named("good")}));
    api.wait_for_request_after(asked, "a resolved problem", |request| message(request).is_empty());
    assert_eq!(agent.starts(), 1);
}

#[test]
fn the_extra_poll_after_a_refusal_is_one() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("config-check-interval", "168h"), &named("good"));
    api.wait_for_request("the first poll", |_| true);
    api.answer_config(scripted("bad", json!({"validate": "fail"})));
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(65), "{output:?}");
    assert!(output.stderr.contains("scripted to refuse"), "{output:?}");
    let report = api.wait_for_request("the refusal", |request| message(request).contains("scripted to refuse"));
    assert_eq!(report.at, api.requests()[2].at, "not the very next poll");
    holds_polls(&api, 3);
}

#[test]
fn an_empty_config_is_refused_once_and_for_all() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("config-check-interval", "168h"), &named("good"));
    api.wait_for_request("the first poll", |_| true);
    api.answer_config(json!({}));
    assert_eq!(agent.run(["--check"]).code, Some(65));
    api.wait_for_request("the refusal", |request| message(request).contains("empty config"));
    holds_polls(&api, 3);
    assert_eq!((agent.config(), agent.starts(), validations(&agent)), (named("good"), 1, 0));
}

#[test]
fn a_server_that_sends_two_bad_configs_in_turn_keeps_nobody_busy() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("config-check-interval", "168h"), &named("good"));
    api.wait_for_request("the first poll", |_| true);
    for turn in 0..200 {
        api.answer_once(json!({
            "restart_required": true,
            "config": scripted(["bad", "worse"][turn % 2], json!({"validate": "fail"})),
        }));
    }
    assert_eq!(agent.run(["--check"]).code, Some(65));
    holds_polls(&api, 3);
    assert_eq!(validations(&agent), 2);
}

#[test]
fn a_check_that_hangs_is_given_up_and_tried_again() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("validate-timeout", "1s"), &named("good"));
    let pid = agent.wait_collector();
    api.answer_config(scripted("b", json!({"validate": "hang"})));
    let report = api.wait_for_request("the time-out", |request| message(request).contains("did not end within 1s"));
    assert!(message(&report).contains("validate-timeout"), "no remedy: {}", message(&report));
    agent.wait_until("a second try", || validations(&agent) >= 2);
    assert_eq!((agent.wait_collector(), agent.config()), (pid, named("good")));
    let log = agent.log().len();
    api.answer_config(named("c"));
    wait_running(&agent, log);
    assert_eq!(agent.config(), named("c"));
    let asked = api.requests().len();
    api.wait_for_request_after(asked, "a resolved problem", |request| message(request).is_empty());
    assert!(agent.processes().len() <= 2, "a hung check is left: {:?}", agent.processes());
    wait_no_strays(&agent);
}

/// The refusal quotes the config; only an old collector's own error for the command says that there is none.
#[test]
fn a_refusal_that_quotes_the_words_of_a_missing_command_is_a_refusal() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let pid = agent.wait_collector();
    api.answer_config(scripted("b", json!({"validate": "unknown command"})));
    api.wait_for_request("the refusal", |request| message(request).contains("unknown variant `unknown command`"));
    assert_eq!((agent.wait_collector(), agent.config()), (pid, named("good")));
}

#[test]
fn a_collector_that_cannot_check_relies_on_its_probation() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    api.answer_config(scripted("b", json!({"validate": "missing", "start": {"exit": 4}})));
    api.wait_for_request("the roll back", |request| message(request).contains("exited with status 4"));
    agent.wait_until("the previous config", || agent.config() == named("good"));
    let unchecked = scripted("c", json!({"validate": "missing"}));
    api.answer_config(unchecked.clone());
    wait_good(&agent, &unchecked);
}
