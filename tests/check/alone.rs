//! `--check` on a host where no agent runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{bad_config, config, contents, files, host};
use crate::support::api::{Api, Reply};

#[test]
fn an_install_is_one_line_and_then_there_is_silence_and_no_write() {
    let api = Api::plain();
    api.answer_config(config("one"));
    let agent = host(&api).build();
    let output = agent.run(["--check"]);
    assert!(output.says().starts_with("installed config "), "{output:?}");
    assert_eq!(output.stdout.lines().count(), 1);
    assert_eq!(agent.config(), config("one"));
    let mode = fs::metadata(agent.config_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a config may hold credentials");

    let before = files(&agent);
    for answer in [
        json!({"restart_required": true, "config": config("one")}),
        json!({"restart_required": false, "config": config("one")}),
        json!({"restart_required": false, "config": null}),
        json!({}),
        json!({"restart_required": false, "config": config("one"), "unknown": [1]}),
    ] {
        api.answer(answer.clone());
        assert_eq!(agent.run(["--check"]).says(), "", "{answer}");
    }
    // Two of the answers ended the streak of requests, which is a record of its own.
    let ended = ["state/restart-requests.json", "state"].map(|name| agent.dir().join(name));
    let unrelated = |files: Vec<_>| files.into_iter().filter(|(path, _)| !ended.contains(path)).collect::<Vec<_>>();
    assert_eq!(unrelated(files(&agent).into_iter().collect()), unrelated(before.into_iter().collect()));
    let before = files(&agent);
    for _ in 0..3 {
        assert_eq!(agent.run(["--check"]).says(), "");
    }
    assert_eq!(files(&agent), before, "a check with nothing new wrote something");
    assert_eq!(agent.starts(), 0, "init runs the collector, not --check");
    assert_eq!(agent.records_of("validate").len(), 1);
    assert_eq!(agent.records_of("version").len(), 1, "asked of the program once");
}

#[test]
fn a_check_reports_exactly_the_nine_keys() {
    let api = Api::plain();
    let agent = host(&api).setting("host-name", "some-host").config("fake: {}").build();
    agent.run(["--check"]).says();
    let request = api.requests().remove(0);
    let report = request.json();
    let keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "agent_status",
        "agent_version",
        "architecture",
        "collector_status",
        "collector_version",
        "hostname",
        "is_docker",
        "last_error_message",
        "platform",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&report["hostname"], &report["collector_version"]), (&json!("some-host"), &json!("v0.165.0")));
    assert_eq!((&report["agent_status"], &report["collector_status"]), (&json!("Running"), &json!("Running")));
    assert_eq!(request.header("authorization"), Some("test-key"));
    assert_eq!(request.header("user-agent"), Some(concat!("kmagent/", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn an_install_keeps_the_mode_of_the_file_and_a_link_to_it() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let agent = host(&api).config("fake: {}").build();
    let real = agent.dir().join("etc/real.yaml");
    fs::rename(agent.config_file(), &real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real.yaml", agent.config_file()).unwrap();
    agent.run(["--check"]).says();
    assert!(agent.config_file().is_symlink());
    assert_eq!(agent.config(), config("new"));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_refused_config_is_65_reported_once_and_not_tried_again() {
    let api = Api::plain();
    api.answer_config(config("good"));
    let agent = host(&api).build();
    agent.run(["--check"]).says();
    let before = fs::read(agent.config_file()).unwrap();

    api.answer_config(bad_config());
    let seen = api.requests().len();
    agent.run(["--check"]).fails(65, "the collector rejects the config: fake: scripted to refuse this config");
    let reports: Vec<Value> = api.requests().iter().skip(seen).map(|request| request.json()).collect();
    assert_eq!(reports.len(), 2, "the refusal goes into a further report");
    assert_eq!(reports[0]["last_error_message"], "");
    assert!(reports[1]["last_error_message"].as_str().unwrap().contains("scripted to refuse"), "{reports:?}");

    let validations = agent.records_of("validate").len();
    let seen = api.requests().len();
    agent.run(["--check"]).fails(65, "is rejected: the collector rejects the config");
    assert_eq!(agent.records_of("validate").len(), validations);
    assert_eq!(api.requests().len(), seen + 1);
    assert_eq!(fs::read(agent.config_file()).unwrap(), before);

    // The server goes back to the active config, and the trouble is over.
    api.answer_config(config("good"));
    assert_eq!(agent.run(["--check"]).says(), "");
    assert_eq!(agent.run(["--check"]).says(), "");
    assert_eq!(api.requests().last().unwrap().json()["last_error_message"], "");
    // Rejected is rejected all the same.
    api.answer_config(bad_config());
    agent.run(["--check"]).fails(65, "is rejected");
    assert_eq!(agent.records_of("validate").len(), validations);
}

#[test]
fn a_new_config_without_restart_required_waits() {
    let api = Api::plain();
    api.answer(json!({"restart_required": false, "config": config("later")}));
    let agent = host(&api).config("fake: {}").build();
    assert_eq!(agent.run(["--check"]).says(), "");
    assert_eq!(agent.config(), json!({"fake": {}}));
    assert_eq!(agent.records_of("validate").len(), 0);
}

#[test]
fn an_empty_config_is_refused() {
    let api = Api::plain();
    api.answer_config(json!({}));
    let agent = host(&api).config("fake: {}").build();
    agent.run(["--check"]).fails(65, "empty config");
    assert_eq!(agent.config(), json!({"fake": {}}));
}

#[test]
fn what_the_next_check_can_cure_is_no_verdict_on_the_config() {
    let api = Api::plain();
    api.answer_config(json!({"fake": {"validate": "hang"}}));
    let agent = host(&api).setting("validate-timeout", "300ms").config("fake: {}").build();
    for validations in 1..=2 {
        agent.run(["--check"]).fails(75, "raise validate-timeout");
        assert_eq!(agent.records_of("validate").len(), validations);
    }
    assert_eq!(agent.config(), json!({"fake": {}}));
    assert!(!agent.state_dir().join("rejected.json").exists());

    let agent = host(&api).collector("/nonexistent/otelcol").config("fake: {}").build();
    agent.run(["--check"]).fails(69, "install one, or set `collector` to its path");
    assert!(!agent.state_dir().join("rejected.json").exists());
}

#[test]
fn a_dry_run_goes_through_every_step_and_changes_nothing() {
    let api = Api::plain();
    let agent = host(&api).setting("report-extended", true).config("fake: {}").build();
    let before = contents(&agent);
    let dry = || agent.run(["--check", "--dry-run"]);

    api.answer_config(config("new"));
    for validations in 1..=2 {
        let output = dry();
        assert!(output.says().starts_with("would install config "), "{output:?}");
        assert_eq!(agent.records_of("validate").len(), validations);
    }
    api.answer_config(bad_config());
    dry().fails(65, "scripted to refuse");
    api.answer(json!({"restart_required": true}));
    assert_eq!(dry().says(), "would restart the collector\n");
    assert_eq!(dry().says(), "would restart the collector\n", "a dry run uses no request up");
    api.answer(json!({"restart_required": false}));
    assert_eq!(dry().says(), "");
    api.reply(Reply::status(503, &[], ""));
    dry().fails(75, "HTTP status 503");

    assert_eq!(contents(&agent), before);
    assert!(!agent.run_dir().exists() && !agent.state_dir().exists());

    // What was dry is still there to be done.
    api.answer_config(config("new"));
    assert!(agent.run(["--check"]).says().starts_with("installed config "));
    api.answer_config(bad_config());
    agent.run(["--check"]).fails(65, "scripted to refuse");
    let before = contents(&agent);
    dry().fails(65, "is rejected");
    api.answer_config(config("new"));
    dry().says();
    assert_eq!(contents(&agent), before, "not even the record of what is resolved");
}

#[test]
fn checks_without_a_place_for_state_still_decide() {
    let api = Api::plain();
    let nowhere = |builder: crate::support::agent::Builder| {
        let below_a_file = builder.dir().join("etc/agent.yaml/state").display().to_string();
        builder.setting("state-dir", below_a_file).config("fake: {}").build()
    };
    let agent = nowhere(host(&api));
    api.answer_config(bad_config());
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(65), "{output:?}");
    assert!(
        output.stderr.contains("scripted to refuse") && output.stderr.contains("cannot save the rejected revision"),
        "{output:?}"
    );
    assert!(api.requests()[1].json()["last_error_message"].as_str().unwrap().contains("scripted to refuse"));

    // Without a copy to go back to, nothing is installed.
    api.answer_config(config("new"));
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(73), "{output:?}");
    assert!(output.stderr.contains("kmagent: cannot save the current config"), "{output:?}");
    assert_eq!(agent.config(), json!({"fake": {}}));
}

#[test]
fn a_config_that_violates_the_policy_is_65_once_judged_and_not_reported_anew() {
    let api = Api::plain();
    let bad = json!({"fake": {}, "receivers": {"journald": {"journalctl_path": "/tmp/x"}}});
    api.answer_config(bad.clone());
    let agent = host(&api).config("fake: {}").build();
    let before = files(&agent);
    let said = "the policy refuses the config: receivers::journald::journalctl_path: it names a program to run";
    agent.run(["--check", "--dry-run"]).fails(65, said);
    assert_eq!(files(&agent), before, "a dry run wrote something");
    let seen = api.requests().len();
    agent.run(["--check"]).fails(65, said);
    assert_eq!(api.requests().len(), seen + 2, "the refusal goes into a further report");
    let before = files(&agent);
    agent.run(["--check"]).fails(65, said);
    assert_eq!((api.requests().len(), files(&agent)), (seen + 3, before));
    assert_eq!((agent.records_of("validate").len(), agent.config()), (0, json!({"fake": {}})));

    // Another policy is another judgement.
    fs::write(agent.dir().join("etc/policy.yaml"), "allow: [receivers::journald]").unwrap();
    agent.run(["--check", "--dry-run"]).says();
    assert!(agent.run(["--check"]).says().starts_with("installed config "));
    // What it has now is confirmed: no agent promotes it here.
    fs::remove_file(agent.dir().join("etc/policy.yaml")).unwrap();
    let mut next = bad;
    next["name"] = json!("next");
    api.answer_config(next);
    let output = agent.run(["--check"]);
    assert!(output.stdout.starts_with("installed config "), "{output:?}");
    assert!(output.stderr.contains("active config violates the policy; it stays in use"), "{output:?}");
    assert_eq!(agent.run(["--check"]).says(), "", "said again");
}
