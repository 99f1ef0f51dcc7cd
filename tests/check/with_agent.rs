//! `--check` on a host where an agent runs: it is asked, and its outcome is shown.

use std::fs;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{bad_config, config, contents, host};
use crate::support::agent::{Agent, Builder};
use crate::support::api::{Api, Reply};
use crate::support::bin;

/// Never polls by itself, so that each request is a check's.
fn asked_only(builder: Builder) -> Agent {
    let agent = builder.setting("config-check-interval", 0).spawn();
    agent.wait_until("the control socket", || agent.socket().exists());
    agent
}

/// What is active may still be rolled back, so that "up to date" would be too early to say.
#[test]
fn a_check_in_the_middle_of_a_probation_waits_for_the_verdict() {
    let api = Api::plain();
    let agent = asked_only(host(&api).config("fake: {stderr: old}").setting("min-uptime", "2s"));
    agent.wait_status("a config that has proved itself", |status| status["collector"]["state"] == "running");
    api.answer_config(json!({"fake": {"start": {"exit": 3, "after_ms": 1500}}}));
    thread::scope(|scope| {
        let first = scope.spawn(|| agent.run(["--check"]));
        agent.wait_start(2);
        let second = agent.run(["--check"]);
        for output in [first.join().unwrap(), second] {
            output.fails(65, "was rolled back: ");
        }
    });
}

#[test]
fn every_outcome() {
    let api = Api::plain();
    let agent = asked_only(host(&api).config("fake: {stderr: old}"));
    let first = agent.wait_start(1);
    agent.wait_status("a config that has proved itself", |status| status["collector"]["state"] == "running");
    assert_eq!(agent.run(["--check"]).says(), "");

    api.answer_config(config("new"));
    let output = agent.run(["--check"]);
    assert!(output.says().starts_with("installed config "), "{output:?}");
    let second = agent.wait_collector();
    assert_ne!(second, first);
    assert_eq!(agent.status().unwrap()["collector"]["state"], "running", "the outcome is known after probation only");
    assert_eq!(agent.run(["--check"]).says(), "");

    api.answer(json!({"restart_required": false}));
    assert_eq!(agent.run(["--check"]).says(), "");
    api.answer(json!({"restart_required": true}));
    assert_eq!(agent.run(["--check"]).says(), "restarting the collector, as the API requested\n");
    assert_eq!(agent.run(["--check"]).says(), "");
    let third = agent.wait_start(3);
    agent.wait_status("running again", |status| status["collector"]["state"] == "running");

    let before = fs::read(agent.config_file()).unwrap();
    api.answer_config(bad_config());
    agent.run(["--check"]).fails(65, "scripted to refuse this config");
    agent.run(["--check"]).fails(65, "is rejected");
    assert_eq!(agent.collectors(), [third]);

    let dies = json!({"fake": {"stderr": "Error: a good reason", "start": {"exit": 3}}});
    api.answer_config(dies);
    let output = agent.run(["--check"]);
    output.fails(65, "was rolled back: ");
    assert!(output.stderr.contains("a good reason"), "{output:?}");
    assert_eq!(fs::read(agent.config_file()).unwrap(), before);
    agent.run(["--check"]).fails(65, "is rejected");

    for (reply, code, text) in [
        (Reply::status(503, &[], ""), 75, "HTTP status 503"),
        (Reply::status(403, &[], ""), 77, "check api-key"),
        (Reply::status(200, &[], "?"), 76, "cannot be read"),
    ] {
        api.reply(reply);
        agent.run(["--check"]).fails(code, text);
    }
    api.stop();
    agent.run(["--check"]).fails(75, "onnection refused");
    agent.wait_status("all is well", |status| status["collector"]["state"] == "running");
}

#[test]
fn in_local_mode_it_says_so_and_starts_what_a_person_has_put_there() {
    let agent = Agent::builder().setting("log-level", "info").spawn();
    let status = agent.wait_status("the reason", |status| status["last_error_message"] != "");
    let message = status["last_error_message"].as_str().unwrap();
    assert!(message.contains("put one there, then `kmagent --check`"), "{message}");
    agent.run(["--check"]).fails(78, "no API endpoint: there is no API key: set api-key-file");

    fs::write(agent.config_file(), "fake: {}").unwrap();
    let output = agent.run(["--check"]);
    assert!(output.says().contains("starting the collector"), "{output:?}");
    agent.wait_start(1);
    agent.run(["--check"]).fails(78, "no API endpoint");
    agent.run(["--check", "--dry-run"]).fails(78, "no API endpoint");
    agent.wait_status("no harm", |status| status["collector"]["state"] == "running");
    assert_eq!(agent.starts(), 1);
}

#[test]
fn a_dry_run_disturbs_neither_the_agent_nor_a_file() {
    let api = Api::plain();
    let agent = asked_only(host(&api).setting("report-extended", true).config("fake: {stderr: old}"));
    let collector = agent.wait_start(1);
    agent.wait_status("running", |status| status["collector"]["state"] == "running");
    api.answer_once(json!({}));
    agent.run(["--check"]).says();
    let (files, status) = (contents(&agent), agent.status().unwrap());
    let dry = || agent.run(["--check", "--dry-run"]);

    api.answer_config(config("new"));
    assert!(dry().says().starts_with("would install config "));
    assert_eq!(api.requests().last().unwrap().json()["collector_status"], "Running");
    api.answer_config(bad_config());
    dry().fails(65, "scripted to refuse");
    api.answer(json!({"restart_required": true}));
    assert_eq!(dry().says(), "would restart the collector\n");
    api.answer_config(config("old"));
    dry().says();
    api.stop();
    dry().fails(75, "");

    assert_eq!(contents(&agent), files);
    assert_eq!(agent.collectors(), [collector]);
    // What passes with time passes.
    let lasting = |mut status: Value| {
        status["config"].as_object_mut().unwrap().remove("confirmed_in_seconds").unwrap();
        ["config", "last_error_message", "polling"].map(|key| status[key].clone())
    };
    assert_eq!(lasting(agent.status().unwrap()), lasting(status));
}

#[test]
fn several_at_once_all_get_an_answer() {
    let api = Api::plain();
    let agent = asked_only(host(&api).config("fake: {stderr: old}"));
    agent.wait_status("running", |status| status["collector"]["state"] == "running");
    api.answer_config(config("new"));
    thread::scope(|scope| {
        let checks: Vec<_> = (0..5).map(|_| scope.spawn(|| agent.run(["--check"]))).collect();
        for check in checks {
            let output = check.join().unwrap();
            assert!(output.says().is_empty() || output.stdout.starts_with("installed config "), "{output:?}");
        }
    });
    assert_eq!(agent.config(), config("new"));
    assert_eq!(agent.starts(), 2, "one install");
}

#[test]
fn an_agent_that_ends_meanwhile_is_a_try_again() {
    let api = Api::plain();
    api.answer_config(config("new"));
    for signal in [Signal::TERM, Signal::KILL] {
        let agent = asked_only(host(&api).setting("min-uptime", "60s"));
        let output = thread::scope(|scope| {
            let check = scope.spawn(|| agent.run(["--check"]));
            agent.wait_start(1);
            agent.signal(signal);
            check.join().unwrap()
        });
        output.fails(75, "the agent ended during the check: try again");
        agent.wait_exit();
    }
}

#[test]
fn a_config_that_fails_with_none_to_go_back_to_is_65() {
    let api = Api::plain();
    api.answer_config(json!({"fake": {"start": {"exit": 3}}}));
    let agent = asked_only(host(&api));
    let output = agent.run(["--check", "--json"]);
    assert_eq!(output.code, Some(65), "{output:?}");
    let outcome: Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(outcome["message"].as_str().unwrap().contains("there is none to go back to"), "{outcome}");
}

/// The agent removes its own unfinished files when it ends, and those of the dead; not the candidate that a living
/// check has the collector look at.
#[test]
fn an_agent_that_stops_leaves_a_dry_run_its_candidate() {
    let api = Api::plain();
    let builder = host(&api).config("fake: {stderr: old}");
    let (collector, dir) = (builder.dir().join("collector"), builder.dir().to_path_buf());
    let script = r#"#!/bin/sh
[ "$1" != validate ] || { touch DIR/asked; until [ -e DIR/go ]; do sleep 0.02; done; }
exec FAKE "$@"
"#;
    let script = script.replace("DIR", &dir.display().to_string());
    bin::write_program(&collector, &script.replace("FAKE", &bin::fake().display().to_string()));
    let agent = asked_only(builder.collector(&collector));
    agent.wait_status("running", |status| status["collector"]["state"] == "running");
    api.answer_config(config("new"));
    let candidates = || -> Vec<_> {
        let entries = fs::read_dir(dir.join("etc")).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| name.to_string_lossy().starts_with(".config.yaml.candidate-")).collect()
    };
    fs::write(dir.join("etc/.config.yaml.candidate-1-0"), "left by another").unwrap();
    thread::scope(|scope| {
        let dry = scope.spawn(|| agent.run(["--check", "--dry-run"]));
        agent.wait_until("the collector is asked", || dir.join("asked").exists());
        assert_eq!(candidates().len(), 2);
        assert_eq!(agent.stop(), 0);
        assert_eq!(candidates().len(), 1);
        fs::write(dir.join("go"), "").unwrap();
        assert!(dry.join().unwrap().says().starts_with("would install config "));
    });
    assert_eq!(candidates().len(), 0);
}
