//! `status` and `status --json`.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::operation::is_running;
use crate::support::agent::{Agent, Line};
use crate::support::api::{Api, Reply};
use crate::support::bin;

/// What scripts may rely on: the keys of `status --json`, and the type of each.
const CONTRACT: [(&str, &str); 35] = [
    ("/agent_version", "string"),
    ("/pid", "number"),
    ("/uptime_seconds", "number"),
    ("/collector/state", "string"),
    ("/collector/state_since", "number"),
    ("/collector/is_ready", "boolean"),
    ("/collector/next_start_seconds", "number?"),
    ("/collector/program", "string?"),
    ("/collector/version", "string?"),
    ("/collector/pid", "number?"),
    ("/collector/uptime_seconds", "number?"),
    ("/collector/restarts", "number"),
    ("/collector/outlives_agent", "boolean"),
    ("/config/path", "string"),
    ("/config/revision", "string?"),
    ("/config/revision_unknown_because", "string?"),
    ("/config/changed_by", "string?"),
    ("/config/standing", "string?"),
    ("/config/installed_at", "number?"),
    ("/config/confirmed_in_seconds", "number?"),
    ("/config/rejected_revision", "string?"),
    ("/config/rejected_because", "string?"),
    ("/config/rejected_at", "number?"),
    ("/config/rejected_is_offered", "boolean"),
    ("/config/pending_revision", "string?"),
    ("/config/pending_since", "number?"),
    ("/config/rejected_kept", "string?"),
    ("/polling/endpoint", "string?"),
    ("/polling/local_because", "string?"),
    ("/polling/succeeded_at", "number?"),
    ("/polling/error", "string?"),
    ("/polling/failing_since", "number?"),
    ("/polling/next_check_seconds", "number?"),
    ("/settings_problem", "string?"),
    ("/last_error_at", "number?"),
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
    for (key, value) in [("state", json!("stopped")), ("pid", Value::Null), ("uptime_seconds", Value::Null)] {
        assert_eq!(bare["collector"][key], value);
    }
    assert_eq!((&bare["collector"]["restarts"], &bare["collector"]["is_ready"]), (&json!(0), &json!(false)));
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
    assert_eq!(refusing["config"]["rejected_is_offered"], true);
    assert_eq!(refusing["last_error_at"], refusing["config"]["rejected_at"]);

    api.reply(Reply::status(503, &[], "later"));
    let failing = agent.wait_status("a failing API", |status| status["polling"]["error"].is_string());
    holds_the_contract(&failing);
    assert_eq!(failing["polling"]["error"], "HTTP status 503; the server says: later");
    let text = agent.run(["status"]).says().to_string();
    assert_eq!(text.matches(&api.url()).count(), 1, "{text}");
}

/// The lines of `status`: names and texts.
fn lines(text: &str) -> Vec<(&str, &str)> {
    text.lines().map(|line| line.split_at(11)).map(|(name, text)| (name.trim(), text)).collect()
}

fn unwrapped(text: &str) -> String {
    text.replace("\n           ", " ")
}

#[test]
fn text_says_the_same() {
    let api = Api::plain();
    api.answer_config(json!({"fake": {}}));
    let agent = Agent::builder().api(&api).spawn();
    let json = agent.wait_status("running", |status| {
        let (collector, polling) = (&status["collector"], &status["polling"]);
        let is_known = collector["version"].is_string() && polling["succeeded_at"].is_u64();
        is_known && collector["state"] == "running" && status["config"]["revision"].is_string()
    });
    let text = unwrapped(agent.run(["status"]).says());
    let lines = lines(&text);
    let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["collector", "program", "config", "changed by", "polling", "agent"], "{text}");
    assert!(lines[0].1.starts_with("running since "), "{text}");
    assert!(lines[0].1.contains(&format!(" ago), pid {}, 0 restarts", json["collector"]["pid"])), "{text}");
    let program = format!("{}, {}", json["collector"]["version"].as_str().unwrap(), bin::fake().display());
    assert_eq!(lines[1].1, program);
    assert!(lines[2].1.contains(&json["config"]["revision"].as_str().unwrap()[..12]), "{text}");
    assert!(lines[4].1.starts_with(&format!("{}, answered ", api.url())), "{text}");
    assert!(lines[4].1.contains("s ago, next check in "), "{text}");
    assert!(lines[5].1.contains(&format!("pid {}", agent.pid())), "{text}");
}

/// The cause first, once; and a rejected config only while it is offered.
#[test]
fn a_problem_comes_first_and_a_rejection_is_shown_while_it_is_offered() {
    let api = Api::plain();
    api.answer_config(json!({"fake": {}}));
    let agent = Agent::builder().api(&api).spawn();
    agent.wait_status("running", |status| status["collector"]["state"] == "running");
    api.answer_config(json!({"fake": {"validate": "fail"}}));
    let rejected = agent.wait_status("a rejected config", |status| status["config"]["rejected_is_offered"] == true);
    let text = agent.run(["status"]).says().to_string();
    assert!(text.starts_with("problem    since ") && text.matches("scripted to refuse").count() == 1, "{text}");
    let rejected_lines: Vec<_> = text.lines().filter(|line| line.starts_with("rejected ")).collect();
    assert!(
        matches!(rejected_lines[..], [line] if line.starts_with("rejected   kept as /")),
        "the problem says it: {text}"
    );
    api.answer_config(json!({"fake": {}}));
    let good = agent.wait_status("no rejection", |status| status["config"]["rejected_is_offered"] == false);
    assert_eq!(
        good["config"]["rejected_revision"], rejected["config"]["rejected_revision"],
        "it is known all the same"
    );
    let text = agent.run(["status"]).says().to_string();
    assert!(!text.contains("rejected") && text.starts_with("collector "), "{text}");
}

#[test]
fn a_problem_began_with_the_first_crash() {
    let agent = Agent::builder().config("fake: {start: {exit: 3}}").spawn();
    let crashed = |count: u64| {
        let is_waiting = |status: &Value| {
            status["collector"]["restarts"].as_u64() >= Some(count) && status["collector"]["state"] == "backoff"
        };
        agent.wait_status("a crash", is_waiting)
    };
    let (first, later) = (crashed(0), crashed(3));
    assert!(later["last_error_message"].as_str().unwrap().contains("exited with status 3"), "{later}");
    assert!(later["collector"]["state_since"].as_u64() > first["last_error_at"].as_u64(), "{first} {later}");
    assert_eq!(later["last_error_at"], first["last_error_at"]);
    assert!(later["collector"]["next_start_seconds"].is_u64(), "{later}");
    let text = agent.run(["status"]).says().to_string();
    assert!(lines(&text)[1].1.starts_with("backoff since ") && text.contains(", next start in "), "{text}");
}

/// What is read on a small terminal: the cause is the first line of a long problem and its last.
#[test]
fn a_status_fits_a_screen_whatever_is_wrong() {
    let api = Api::plain();
    let noise = format!("{}\\n", "noise ".repeat(10)).repeat(50);
    let script = format!("fake: {{stderr: \"{noise}the last line\", start: {{exit: 3}}}}");
    let agent = Agent::builder().api(&api).setting("min-uptime", "3s").config(script).spawn();
    agent.wait_status("a crash", |status| status["collector"]["state"] == "backoff");
    api.reply(Reply::status(503, &[], "é".repeat(400)));
    agent.wait_status("a failing API", |status| status["polling"]["error"].is_string());
    let text = agent.run(["status"]).says().to_string();
    assert_eq!(text.lines().count(), 14, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.lines().next().unwrap().contains("the collector exited with status 3"), "{text}");
    assert!(text.contains("the last line\n") && text.contains(" …\n"), "{text}");
}

/// A failing API, too, is a cause, and what is known from before it failed stays.
#[test]
fn an_api_that_fails_comes_first_with_its_last_answer() {
    let api = Api::plain();
    let agent = Agent::builder().api(&api).config("fake: {}").spawn();
    let answered = agent.wait_status("an answer", |status| {
        status["polling"]["succeeded_at"].is_u64() && status["collector"]["state"] == "running"
    });
    api.reply(Reply::status(503, &[], "later"));
    let failing = agent.wait_status("a failing API", |status| status["polling"]["error"].is_string());
    assert!(failing["polling"]["succeeded_at"].as_u64() >= answered["polling"]["succeeded_at"].as_u64());
    assert!(failing["polling"]["failing_since"].as_u64() >= failing["polling"]["succeeded_at"].as_u64());
    let next = failing["polling"]["next_check_seconds"].as_u64().unwrap();
    assert!(next <= 2, "{failing}");
    let text = unwrapped(agent.run(["status"]).says());
    assert!(text.starts_with("polling    failing since ") && text.contains("; last answer "), "{text}");
    assert!(text.contains("next check in "), "{text}");
}

#[test]
fn an_offer_that_is_not_to_be_applied_yet_is_pending() {
    let api = Api::plain();
    api.answer(json!({"config": {"fake": {"stderr": "later"}}}));
    let agent = Agent::builder().api(&api).config("fake: {}").spawn();
    let pending = agent.wait_status("a pending config", |status| status["config"]["pending_revision"].is_string());
    let revision = pending["config"]["pending_revision"].as_str().unwrap();
    let seen = api.requests().len();
    agent.wait_until("more checks", || api.requests().len() > seen + 2);
    let later = agent.status().unwrap();
    assert_eq!(later["config"]["pending_since"], pending["config"]["pending_since"]);
    let text = agent.run(["status"]).says().to_string();
    assert!(text.contains(&format!("\npending    {} since ", &revision[..12])), "{text}");
    let is_line = |line: &Line| line.msg() == "config pending: the API does not ask to apply it yet";
    assert_eq!(agent.count_log(is_line), 1);
    assert_eq!(agent.wait_log("the line", is_line).field("revision"), &revision[..12]);
    api.answer_config(json!({"fake": {"stderr": "later"}}));
    let applied = agent.wait_status("the config", |status| status["config"]["revision"] == revision);
    assert_eq!(applied["config"]["pending_revision"], Value::Null);
}

/// For probes: 0 only with a collector that has passed its probation, and lives.
#[test]
fn ready_is_0_only_with_a_collector_that_runs() {
    let agent = Agent::builder().config("fake: {}").build();
    let probe = || {
        let output = agent.run(["status", "--ready"]);
        assert_eq!(output.stdout.lines().count() + output.stderr.lines().count(), 1, "{output:?}");
        output
    };
    probe().fails(69, "no agent is running");
    agent.spawn();
    let ready = agent.wait_for("a collector that runs", || {
        let output = probe();
        // Before its socket is there, too.
        assert!(matches!(output.code, Some(0 | 69 | 75)), "{output:?}");
        Some(output).filter(|output| output.code == Some(0))
    });
    assert!(ready.stdout.starts_with("ready: collector running since "), "{ready:?}");
    assert_eq!(agent.status().unwrap()["collector"]["state"], "running");
    crate::support::process::signal(agent.wait_collector(), Signal::STOP);
    agent.wait_until("a suspended collector", || probe().code == Some(69));
    probe().fails(69, "the collector is suspended");
    crate::support::process::signal(agent.wait_collector(), Signal::CONT);

    let agent = Agent::builder().config("fake: {start: {exit: 3}, stderr: \"two\\nlines\"}").spawn();
    agent.wait_status("a pause of seconds", |status| {
        status["collector"]["state"] == "backoff" && status["collector"]["restarts"].as_u64() >= Some(4)
    });
    let output = agent.run(["status", "--ready"]);
    output.fails(69, "not ready: collector backoff since ");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(output.stderr.trim_end().ends_with("; its last lines: two"), "{output:?}");
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
fn it_says_whether_the_config_is_confirmed() {
    for (min_uptime, confirm_time, standing, words) in [
        ("1h", "0", "probation", ", on probation since "),
        ("100ms", "2h", "unconfirmed", ", unconfirmed, confirmed in 1h 59m"),
        ("100ms", "0", "confirmed", ", confirmed"),
    ] {
        let builder = Agent::builder().config("fake: {}").setting("min-uptime", min_uptime);
        let agent = builder.setting("confirm-time", confirm_time).spawn();
        let status = agent.wait_status(standing, |status| status["config"]["standing"] == standing);
        let left = status["config"]["confirmed_in_seconds"].as_u64();
        assert_eq!(left.is_some_and(|left| left > 7000), standing == "unconfirmed", "{status}");
        assert!(status["config"]["installed_at"].is_u64(), "{status}");
        let text = agent.run(["status"]).says().to_string();
        let text = unwrapped(&text);
        let config = lines(&text).into_iter().find(|(name, _)| *name == "config").unwrap().1;
        assert!(config.contains(words), "{text}");
        assert_eq!(config.ends_with(words), standing != "probation", "{text}");
        // What an operator has just written has no standing before it was read.
        fs::write(agent.config_file(), "fake: {}\nname: edited").unwrap();
        let edited = if standing == "probation" { "probation" } else { "unapplied" };
        agent.wait_status("the edited one", |status| status["config"]["standing"] == edited);
        let words = "edited; the collector runs an earlier one until `kmagent restart`";
        assert_eq!(unwrapped(agent.run(["status"]).says()).contains(words), edited == "unapplied");
    }
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
    assert!(unwrapped(agent.run(["status"]).says()).contains("revision unknown: cannot parse "));
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
    let components = if cfg!(debug_assertions) && std::env::var_os("KMAGENT_BIN").is_none() { 10_000 } else { 100_000 };
    let large: String = (0..components)
        .map(|n| format!("  otlp/{n}:\n    protocols:\n      grpc:\n        endpoint: localhost:1\n"))
        .collect();
    let agents = ["", &large].map(|receivers| {
        let config = format!("fake: {{}}\nreceivers:\n{receivers}");
        Agent::builder().setting("max-config-size", "32MiB").config(config).spawn()
    });
    let costs = agents.each_ref().map(|agent| {
        // Before the first start the supervisor itself reads it.
        agent.wait_log("a start", |line| line.msg() == "collector started");
        agent.wait_log("a collector that has proved itself", is_running);
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
