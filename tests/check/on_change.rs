//! `on-change`: the command that makes init's collector use what `--check` has installed.

use std::fs;

use serde_json::{Value, json};

use super::{changes, config, host, noting};
use crate::support::agent::Agent;
use crate::support::api::Api;

fn requests_file(agent: &Agent) -> std::path::PathBuf {
    agent.state_dir().join("restart-requests.json")
}

/// As if the last request had been honoured so many seconds ago.
fn age_the_request(agent: &Agent, seconds: u64) {
    let kept: Value = serde_json::from_slice(&fs::read(requests_file(agent)).unwrap()).unwrap();
    let at = kept["honoured_at"].as_u64().unwrap();
    fs::write(requests_file(agent), json!({"honoured_at": at - seconds}).to_string()).unwrap();
}

#[test]
fn it_runs_once_after_an_install_and_sees_the_new_config() {
    let api = Api::plain();
    let agent = noting(host(&api), "true").config("fake: {stderr: old}").build();
    agent.run(["--check"]).says();
    assert_eq!(changes(&agent), [""; 0], "nothing has changed");
    for (name, runs) in [("one", 1), ("one", 1), ("two", 2), ("two", 2)] {
        api.answer_config(config(name));
        let output = agent.run(["--check"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(changes(&agent).len(), runs);
    }
    assert_eq!(changes(&agent), ["one", "two"]);
    assert!(!agent.state_dir().join("unfinished-install.json").exists());
}

/// Between two checks nobody has looked at what the overlay was when it failed.
#[test]
fn a_config_that_fails_by_the_overlay_is_installed_when_that_is_corrected() {
    let api = Api::plain();
    let builder = host(&api);
    let overlay = builder.dir().join("local.yaml");
    fs::write(&overlay, "site: wrong").unwrap();
    let builder = builder.setting("local-config", overlay.display().to_string());
    let agent =
        noting(builder, "! grep -q new etc/config.yaml || ! grep -q wrong local.yaml").config("name: old").build();
    api.answer_config(config("new"));
    agent.run(["--check"]).fails(65, "was rolled back");
    fs::write(&overlay, "site: right").unwrap();
    assert!(agent.run(["--check"]).says().starts_with("installed config"));
    assert_eq!(agent.config(), config("new"));
}

#[test]
fn a_restart_request_runs_it_at_most_once_an_hour() {
    let api = Api::plain();
    api.answer(json!({"restart_required": true}));
    let agent = noting(host(&api), "true").config("fake: {stderr: old}").build();
    let runs_after_a_check = || {
        let output = agent.run(["--check"]);
        output.says();
        changes(&agent).len()
    };
    assert_eq!(agent.run(["--check"]).says(), "restarted the collector, as the API requested\n");
    assert_eq!(changes(&agent), ["old"]);
    for _ in 0..3 {
        assert_eq!(runs_after_a_check(), 1, "answers in a row are one request");
    }
    age_the_request(&agent, 3500);
    assert_eq!(runs_after_a_check(), 1);
    age_the_request(&agent, 200);
    assert_eq!(runs_after_a_check(), 2);
    // An answer that does not ask ends the row.
    api.answer_once(json!({"restart_required": false}));
    assert_eq!(runs_after_a_check(), 2);
    assert_eq!(runs_after_a_check(), 3);
    // The active config, with a request: that is how an operator asks.
    api.answer_once(json!({"restart_required": false, "config": config("old")}));
    api.answer_config(config("old"));
    assert_eq!(runs_after_a_check(), 3);
    assert_eq!(runs_after_a_check(), 4);
    // Nonsense in the record counts as none.
    fs::write(requests_file(&agent), "{{").unwrap();
    assert_eq!(runs_after_a_check(), 5);
    assert_eq!(runs_after_a_check(), 5);
}

#[test]
fn without_it_a_restart_request_is_said_to_be_in_vain() {
    let api = Api::plain();
    api.answer(json!({"restart_required": true}));
    let agent = host(&api).config("fake: {}").build();
    let output = agent.run(["--check"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""));
    assert!(output.stderr.contains("restart requested by the API was skipped: set on-change"), "{output:?}");
    assert_eq!(agent.run(["--check"]).says(), "", "once an hour is enough");
}

#[test]
fn its_failure_rolls_back_runs_it_again_and_is_reported() {
    let api = Api::plain();
    let agent = noting(host(&api), "grep -q old etc/config.yaml || { echo why it failed >&2; exit 7; }");
    let agent = agent.config("fake: {stderr: old}").build();
    let before = fs::read(agent.config_file()).unwrap();
    api.answer_config(config("new"));
    let output = agent.run(["--check"]);
    output.fails(65, "was rolled back: on-change exited with status 7: why it failed");
    assert_eq!(changes(&agent), ["new", "old"]);
    assert_eq!(fs::read(agent.config_file()).unwrap(), before);
    assert_eq!(serde_yaml::from_str::<Value>(&agent.rejected()).unwrap(), config("new"));

    let report: Vec<String> =
        api.requests().iter().map(|request| request.json()["last_error_message"].to_string()).collect();
    assert_eq!(report.len(), 2);
    assert!(report[0] == "\"\"" && report[1].contains("why it failed"), "{report:?}");

    agent.run(["--check"]).fails(65, "is rejected: on-change exited with status 7");
    assert_eq!(changes(&agent).len(), 2, "a rejected config is not tried again");
    api.answer_config(config("old"));
    assert_eq!(agent.run(["--check"]).code, Some(0));
    api.answer_config(json!({"fake": {"stderr": "newer old"}}));
    assert!(agent.run(["--check"]).says().starts_with("installed config "));
    agent.run(["--check"]).says();
    assert_eq!(api.requests().last().unwrap().json()["last_error_message"], "");
}

#[test]
fn a_first_config_that_fails_is_taken_away_again() {
    let api = Api::plain();
    api.answer_config(config("first"));
    let agent = noting(host(&api), "exit 3").build();
    agent.run(["--check"]).fails(65, "was rolled back: on-change exited with status 3");
    assert!(!agent.config_file().exists());
    assert_eq!(changes(&agent), ["first"], "there is nothing to run it again for");
    assert_eq!(api.requests().last().unwrap().json()["collector_status"], "Stopped");
    agent.run(["--check"]).fails(65, "is rejected");
}

#[test]
fn a_failure_with_both_configs_is_said() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let agent = noting(host(&api), "kill -TERM $$").config("fake: {stderr: old}").build();
    let output = agent.run(["--check"]);
    output.fails(65, "on-change was killed by SIGTERM; with the previous config too, on-change was killed by SIGTERM");
    assert_eq!(changes(&agent), ["new", "old"]);
    assert_eq!(agent.config(), config("old"));
}

#[test]
fn a_failing_restart_is_an_error_and_changes_no_config() {
    let api = Api::plain();
    api.answer(json!({"restart_required": true}));
    let agent = noting(host(&api), "exit 3").config("fake: {stderr: old}").build();
    agent.run(["--check"]).fails(69, "restart that the API requested failed: on-change exited with status 3");
    assert_eq!(agent.config(), config("old"));
    assert_eq!(agent.run(["--check"]).says(), "");
}

#[test]
fn it_is_a_shell_command_with_nothing_on_stdin_that_prints_nothing_when_all_is_well() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let agent = noting(host(&api), "read line || echo no input > input; echo loud; echo louder >&2").build();
    let output = agent.run(["--check"]);
    assert!(output.says().starts_with("installed") && output.stdout.lines().count() == 1, "{output:?}");
    assert_eq!(fs::read_to_string(agent.dir().join("input")).unwrap(), "no input\n");
}

/// Otherwise a service that could not be restarted for a moment would keep what was rolled back, and nobody would ever
/// tell it.
#[test]
fn it_runs_at_each_check_until_something_uses_the_former_config_again() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let agent =
        noting(host(&api), "[ ! -e down ] && ! grep -q new etc/config.yaml").config("fake: {stderr: old}").build();
    fs::write(agent.dir().join("down"), "").unwrap();
    agent.run(["--check"]).fails(65, "with the previous config too, on-change exited with status 1");
    assert_eq!(changes(&agent), ["new", "old"]);
    // It keeps nobody from the next config.
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(65), "{output:?}");
    assert!(output.stderr.contains("will retry") && output.stderr.contains("is rejected"), "{output:?}");
    fs::remove_file(agent.dir().join("down")).unwrap();
    agent.run(["--check"]).fails(65, "was rolled back");
    agent.run(["--check"]).fails(65, "is rejected");
    assert_eq!(changes(&agent), ["new", "old", "old", "old"]);
}
