//! `status` and `status --json`.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::api::{Api, Reply};

/// What scripts may rely on: the keys of `status --json`, and the type of each.
const CONTRACT: [(&str, &str); 19] = [
    ("/agent_version", "string"),
    ("/pid", "number"),
    ("/uptime_seconds", "number"),
    ("/collector/state", "string"),
    ("/collector/pid", "number?"),
    ("/collector/uptime_seconds", "number?"),
    ("/collector/restarts", "number"),
    ("/collector/outlives_agent", "boolean"),
    ("/config/path", "string"),
    ("/config/revision", "string?"),
    ("/config/revision_unknown_because", "string?"),
    ("/config/changed_by", "string?"),
    ("/config/rejected_revision", "string?"),
    ("/config/rejected_because", "string?"),
    ("/polling/endpoint", "string?"),
    ("/polling/local_because", "string?"),
    ("/polling/succeeded_at", "number?"),
    ("/polling/error", "string?"),
    ("/settings_problem", "string?"),
];

fn leaves(prefix: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object() {
        Some(map) => map.iter().for_each(|(key, value)| leaves(&format!("{prefix}/{key}"), value, found)),
        None => found.push(prefix.to_string()),
    }
}

#[track_caller]
fn holds_the_contract(status: &Value) {
    let mut found = Vec::new();
    leaves("", status, &mut found);
    found.sort();
    let mut expected: Vec<&str> = CONTRACT.iter().map(|(key, _)| *key).chain(["/last_error_message"]).collect();
    expected.sort();
    assert_eq!(found, expected, "{status}");
    for (key, kind) in CONTRACT {
        let value = status.pointer(key).unwrap();
        let fits = match kind.trim_end_matches('?') {
            "number" => value.is_u64(),
            "boolean" => value.is_boolean(),
            _ => value.is_string(),
        };
        assert!(fits || (kind.ends_with('?') && value.is_null()), "{key} is {value}");
    }
}

#[test]
fn json_holds_its_contract_in_every_state() {
    let api = Api::plain();
    let agent = Agent::builder().api(&api).spawn();
    let bare = agent.wait_status("an answer of the API", |status| status["polling"]["succeeded_at"].is_u64());
    holds_the_contract(&bare);
    assert_eq!(
        bare["collector"],
        json!({"state": "stopped", "pid": null, "uptime_seconds": null, "restarts": 0, "outlives_agent": false})
    );
    assert_eq!(bare["config"]["revision"], Value::Null);
    assert_eq!(bare["pid"], agent.pid());
    assert_eq!(bare["agent_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(bare["polling"]["endpoint"], api.url());
    let message = bare["last_error_message"].as_str().unwrap();
    assert!(message.contains("there is no collector config"), "{message}");

    api.answer_config(json!({"fake": {}}));
    let running = agent.wait_status("running", |status| status["collector"]["state"] == "running");
    holds_the_contract(&running);
    assert_eq!(running["collector"]["pid"], agent.wait_collector());
    assert_eq!(running["config"]["path"], agent.config_file().display().to_string());
    assert_eq!(running["config"]["revision"].as_str().unwrap().len(), 64);
    assert_eq!(running["last_error_message"], "");

    api.answer_config(json!({"fake": {"validate": "fail"}}));
    let refusing = agent.wait_status("a rejected config", |status| status["config"]["rejected_revision"].is_string());
    holds_the_contract(&refusing);
    assert!(refusing["config"]["rejected_because"].as_str().unwrap().contains("scripted to refuse"), "{refusing}");
    assert_eq!(refusing["config"]["revision"], running["config"]["revision"]);
    assert_eq!(refusing["collector"]["pid"], running["collector"]["pid"]);

    api.reply(Reply::status(503, &[], "later"));
    let failing = agent.wait_status("a failing API", |status| status["polling"]["error"].is_string());
    holds_the_contract(&failing);
    assert_eq!(failing["polling"]["error"], "HTTP status 503; the server says: later");
    let text = agent.run(["status"]).says().to_string();
    assert_eq!(text.matches(&api.url()).count(), 1, "{text}");
}

#[test]
fn text_says_the_same() {
    let api = Api::plain();
    api.answer_config(json!({"fake": {}}));
    let agent = Agent::builder().api(&api).spawn();
    let json = agent.wait_status("running", |status| status["collector"]["state"] == "running");
    let text = agent.run(["status"]).says().to_string();
    let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_at(11)).collect();
    let names: Vec<&str> = lines.iter().map(|(name, _)| name.trim()).collect();
    assert_eq!(names, ["agent", "collector", "config", "changed by", "polling"], "{text}");
    assert!(lines[0].1.contains(&format!("pid {}", agent.pid())), "{text}");
    assert!(lines[1].1.starts_with(&format!("running, pid {}, up ", json["collector"]["pid"])), "{text}");
    assert!(lines[2].1.contains(&json["config"]["revision"].as_str().unwrap()[..12]), "{text}");
    assert!(lines[4].1.starts_with(&format!("{}, answered 20", api.url())), "{text}");

    api.answer_config(json!({"fake": {"validate": "fail"}}));
    agent.wait_status("a rejected config", |status| status["config"]["rejected_revision"].is_string());
    let text = agent.run(["status"]).says().to_string();
    assert!(text.contains("\nrejected   revision ") && text.contains("\nproblem    20"), "{text}");
    assert!(text.contains("scripted to refuse"), "{text}");
}

#[test]
fn restarts_and_the_last_problem_are_reported() {
    // The problem stands until the next collector has proved itself.
    let agent = Agent::builder().config("fake: {stderr: a last line}").setting("min-uptime", "3s").spawn();
    agent.wait_status("running", |status| status["collector"]["state"] == "running");
    crate::support::process::signal(agent.wait_start(1), Signal::KILL);
    let status = agent.wait_status("a restart", |status| status["collector"]["restarts"] == 1);
    let message = status["last_error_message"].as_str().unwrap();
    assert!(message.contains("was killed by SIGKILL") && message.contains("a last line"), "{message}");
    assert_eq!(status["polling"]["endpoint"], Value::Null);
    let reason = status["polling"]["local_because"].as_str().unwrap();
    assert!(reason.contains("there is no API key"), "{reason}");
    let text = agent.run(["status"]).says().to_string();
    assert!(text.contains(", 1 restart\n"), "{text}");
    assert!(text.contains("polling    none: there is no API key"), "{text}");
}

/// And what is no file is no config either.
#[test]
fn a_config_that_cannot_be_read_is_not_called_none() {
    let agent = Agent::builder().config("fake: {}").spawn();
    agent.wait_status("running", |status| status["collector"]["state"] == "running");
    fs::write(agent.config_file(), "fake: [\n").unwrap();
    let status = agent.status().unwrap();
    let reason = status["config"]["revision_unknown_because"].as_str().unwrap();
    assert!(status["config"]["revision"].is_null() && reason.starts_with("cannot parse "), "{status}");
    assert!(agent.run(["status"]).says().contains("revision unknown: cannot parse "));
    fs::remove_file(agent.config_file()).unwrap();
    let status = agent.status().unwrap();
    assert_eq!(
        (&status["config"]["revision"], &status["config"]["revision_unknown_because"]),
        (&json!(null), &json!(null))
    );
    assert!(agent.run(["status"]).says().contains(", no such file\n"));
}

/// The poller reads it, and may be at a check that takes its time.
#[test]
fn an_edited_config_is_waited_for_a_moment_and_no_longer() {
    let api = Api::plain();
    let agent = Agent::builder().api(&api).config("fake: {}").spawn();
    let before = agent.wait_status("running", |status| status["collector"]["state"] == "running");
    let known = before["config"]["revision"].as_str().unwrap().to_string();
    api.reply(Reply::Hang);
    let asked = api.requests().len();
    agent.wait_until("a check that hangs", || api.requests().len() > asked);
    assert_eq!(agent.status().unwrap()["config"]["revision"], known.as_str());
    fs::write(agent.config_file(), "fake: {stderr: edited}").unwrap();
    let began = Instant::now();
    let status = agent.status().unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "it has waited for the check");
    let reason = &status["config"]["revision_unknown_because"];
    assert_eq!(reason, "the file has changed and was not read yet");
    api.answer(json!({}));
    agent.wait_status("the new revision", |status| {
        status["config"]["revision"].as_str().is_some_and(|revision| revision != known)
    });
}

/// Of the supervisor's thread, in proc_pid_schedstat's first field.
fn processor_time(agent: &Agent) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", agent.pid())).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The least that the supervisor spends on one status, of ten.
fn cost_of_status(agent: &Agent) -> Duration {
    let once = |_| {
        let before = processor_time(agent);
        agent.status().unwrap();
        processor_time(agent) - before
    };
    (0..10).map(once).min().unwrap()
}

#[test]
fn a_status_costs_the_supervisor_the_same_whatever_the_size_of_the_config() {
    // The debug build reads a tenth as fast.
    let components = if cfg!(debug_assertions) && std::env::var_os("KMAGENT_BIN").is_none() { 20_000 } else { 100_000 };
    let large: String = (0..components)
        .map(|n| format!("  otlp/{n}:\n    protocols:\n      grpc:\n        endpoint: localhost:1\n"))
        .collect();
    let agents = ["", &large].map(|receivers| {
        let config = format!("fake: {{}}\nreceivers:\n{receivers}");
        Agent::builder().setting("max-config-size", "32MiB").config(config).spawn()
    });
    let costs = agents.each_ref().map(|agent| {
        agent.wait_status("a revision", |status| status["config"]["revision"].is_string());
        cost_of_status(agent)
    });
    assert!(costs[1] < costs[0] * 3, "{costs:?}");
}

#[test]
fn without_an_agent_it_is_69() {
    let agent = Agent::builder().build();
    for args in [vec!["status"], vec!["status", "--json"]] {
        agent.run(args).fails(69, "no agent is running");
    }
    assert!(!agent.run_dir().exists(), "asking must not make anything");
}

#[test]
fn an_agent_that_hangs_is_75_in_bounded_time() {
    let agent = Agent::builder().config("fake: {}").spawn();
    agent.wait_start(1);
    agent.signal(Signal::STOP);
    agent.run(["status"]).fails(75, "the agent did not answer within 10s");
}
