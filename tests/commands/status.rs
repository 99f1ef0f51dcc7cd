//! `status` and `status --json`.

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
    ("/config/changed_by", "string?"),
    ("/config/rejected_revision", "string?"),
    ("/config/rejected_because", "string?"),
    ("/config/rejected_kept", "string?"),
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
