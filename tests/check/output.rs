//! `--json`, `--splay`, and several at once.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{bad_config, config, host, noting};
use crate::support::agent::Agent;
use crate::support::api::{Api, Reply};
use crate::support::bin::Output;

/// Exit status, result and message of a `--check --json`, which says the same in its exit status.
#[track_caller]
fn outcome(output: &Output) -> (u64, String, String) {
    assert_eq!(output.stdout.lines().count(), 1, "{output:?}");
    let json: Value = serde_json::from_str(&output.stdout).unwrap();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["exit", "message", "result"]);
    assert_eq!(json["exit"].as_i64().unwrap(), i64::from(output.code.unwrap()), "{output:?}");
    let text = |key: &str| json[key].as_str().unwrap().to_string();
    (json["exit"].as_u64().unwrap(), text("result"), text("message"))
}

#[test]
fn json_says_every_outcome() {
    let api = Api::plain();
    let agent = noting(host(&api), "! grep -q refused etc/config.yaml").build();
    let request = |config: Value| Reply::json(&json!({"restart_required": true, "config": config}));
    for (reply, args, exit, result, message) in [
        (request(config("one")), "--check --dry-run", 0, "would-install", "would install config "),
        (request(config("one")), "--check", 0, "installed", "installed config "),
        (request(config("one")), "--check", 0, "unchanged", "the config is up to date"),
        (Reply::json(&json!({})), "--check", 0, "unchanged", "the config is up to date"),
        (request(Value::Null), "--check --dry-run", 0, "would-restart", "would restart the collector"),
        (request(Value::Null), "--check", 0, "restarted", "restarted the collector, as the API requested"),
        (request(bad_config()), "--check", 65, "rejected", "scripted to refuse"),
        (request(bad_config()), "--check", 65, "rejected", "is rejected"),
        (request(config("refused")), "--check", 65, "rolled-back", "on-change exited with status 1"),
        (Reply::status(503, &[], "busy"), "--check", 75, "failed", "HTTP status 503; the server says: busy"),
        (Reply::status(401, &[], ""), "--check", 77, "failed", "check api-key"),
        (Reply::status(200, &[], "<html>"), "--check", 76, "failed", "the answer cannot be read"),
    ] {
        api.reply(reply);
        let output = agent.run(args.split(' ').chain(["--json"]));
        let got = outcome(&output);
        assert_eq!((got.0, got.1.as_str()), (exit, result), "{output:?}");
        assert!(got.2.contains(message), "{output:?}");
        // People who read the mail of cron, or a terminal, see it too.
        assert_eq!(output.stderr.is_empty(), exit == 0, "{output:?}");
        assert!(output.stderr.lines().all(|line| line.starts_with("kmagent: ")), "{output:?}");
    }
}

#[test]
fn json_is_the_same_with_an_agent() {
    let api = Api::plain();
    api.answer_config(config("one"));
    let agent = host(&api).setting("config-check-interval", 0).spawn();
    let check = || outcome(&agent.run(["--check", "--json"]));
    agent.wait_until("the control socket", || agent.socket().exists());
    let installed = check();
    assert_eq!((installed.0, installed.1.as_str()), (0, "installed"));
    assert_eq!(check().1, "unchanged");
    api.answer_config(bad_config());
    assert_eq!((check().0, check().1.as_str()), (65, "rejected"));
    api.reply(Reply::status(500, &[], ""));
    assert_eq!((check().0, check().1.as_str()), (75, "failed"));
}

#[test]
fn splay_sleeps_a_random_part_of_what_is_given() {
    let api = Api::plain();
    let agent = host(&api).build();
    let elapsed: Vec<Duration> = (0..8)
        .map(|_| {
            let began_at = Instant::now();
            assert_eq!(agent.run(["--check", "--splay", "400ms"]).says(), "");
            api.requests().last().unwrap().at - began_at
        })
        .collect();
    // The shortest sleep comes close to none, so what it took is what the rest takes.
    let least = elapsed.iter().min().unwrap();
    let slept: Vec<Duration> = elapsed.iter().map(|elapsed| *elapsed - *least).collect();
    assert!(slept.iter().any(|slept| *slept > Duration::from_millis(40)), "{elapsed:?}");
    assert!(*least < Duration::from_secs(2), "{elapsed:?}");
    assert_eq!(agent.run(["--check", "--splay=0"]).says(), "");
}

#[test]
fn only_one_at_a_time() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let agent = noting(host(&api), "touch started; while [ -e block ]; do sleep 0.02; done").build();
    fs::write(agent.dir().join("block"), "").unwrap();
    let mut first = agent.command(["--check"]).stdout(Stdio::null()).spawn().unwrap();
    agent.wait_until("on-change", || agent.dir().join("started").exists());
    agent.run(["--check"]).fails(75, "already uses");
    let output = agent.run(["start"]);
    assert_eq!(output.code, Some(75), "{output:?}");
    assert!(output.stderr.contains("or try again later"), "{output:?}");
    // It asks nobody's leave, since it changes nothing.
    assert_eq!(agent.run(["--check", "--dry-run"]).code, Some(0));
    for command in ["status", "stop"] {
        agent.run([command]).fails(69, "no agent is running");
    }
    fs::remove_file(agent.dir().join("block")).unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!(agent.run(["--check"]).says(), "");
}

#[test]
fn a_hanging_api_takes_no_longer_than_poll_timeout() {
    let api = Api::plain();
    api.reply(Reply::Hang);
    for builder in [host(&api), host(&api).config("fake: {}")] {
        let resident = builder.setting("poll-timeout", "500ms").setting("config-check-interval", 0).build();
        let began_at = Instant::now();
        resident.run(["--check"]).fails(75, "no complete answer within 500ms");
        resident.spawn();
        resident.wait_until("the control socket", || resident.socket().exists());
        resident.run(["--check"]).fails(75, "raise poll-timeout");
        assert!(began_at.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn what_a_collector_prints_cannot_play_with_the_terminal() {
    let api = Api::plain();
    let agent = Agent::builder().api(&api).setting("log-level", "info");
    let agent = agent.setting("on-change", "printf 'red \\033[31m and\\rback'; exit 1").build();
    api.answer_config(config("new"));
    let output = agent.run(["--check"]);
    output.fails(65, "red  [31m and back");
}
