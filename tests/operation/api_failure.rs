//! An API that is down, refuses, or talks nonsense: the collector stays as it is, and the poller lives.

use std::time::Duration;

use serde_json::{Value, json};

use super::{identity, message, named, quick, settled, wait_asked, wait_good, wait_no_strays, wait_polls};
use crate::support::agent::{Agent, Line};
use crate::support::api::{Api, Reply};

fn failures(agent: &Agent) -> Vec<Line> {
    agent.log().into_iter().filter(|line| line.msg().starts_with("config check failed")).collect()
}

/// Seconds between polls, from number `from` (from 0) on.
fn gaps(api: &Api, from: usize) -> Vec<f64> {
    let at: Vec<_> = api.requests().iter().map(|request| request.at).collect();
    at[from..].windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
}

#[test]
fn no_answer_that_is_not_one_changes_anything() {
    let api = Api::plain();
    let builder = quick().api(&api).setting("config-check-interval", "168h").setting("max-config-size", "64KiB");
    let agent = settled(builder.setting("poll-timeout", "2s"), &named("a"));
    let before = (agent.wait_collector(), identity(&agent.config_file()));
    api.wait_for_request("the first poll", |_| true);
    let ok = |body: &str| Reply::status(200, &[], body);
    let huge = json!({"restart_required": true, "config": {"fake": {}, "bulk": "x".repeat(70_000)}});
    let elsewhere = [("Location", "http://127.0.0.1:1/elsewhere")];
    for (reply, exit, reason) in [
        (Reply::status(401, &[], "no such key: test-key"), 77, "api-key"),
        (Reply::status(403, &[], ""), 77, "403"),
        (Reply::status(404, &[], ""), 0, "update-endpoint"),
        (Reply::status(429, &[("Retry-After", "7")], ""), 75, "429"),
        (Reply::status(500, &[], "x".repeat(5000)), 75, "500"),
        (Reply::status(503, &[], "<html>busy</html>"), 75, "503"),
        (Reply::status(302, &elsewhere, ""), 0, "not followed"),
        (Reply::status(307, &elsewhere, ""), 0, "not followed"),
        (ok("{"), 76, "cannot be read"),
        (ok("[]"), 76, "cannot be read"),
        (ok(""), 76, "empty"),
        (ok("{} {}"), 76, "trailing"),
        (ok(r#"{"config": []}"#), 76, "object"),
        (ok(r#"{"config": "a: 1"}"#), 76, "object"),
        (ok(r#"{"restart_required": "yes"}"#), 76, "restart_required"),
        (Reply::json(&huge), 76, "max-config-size"),
        (Reply::Close, 75, "config check"),
        (Reply::Reset, 75, "config check"),
        (Reply::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), 0, "config check"),
        (Reply::Hang, 75, "2"),
    ] {
        let what = format!("{:.80}", format!("{reply:?}"));
        api.reply_once(reply);
        let output = agent.run(["--check"]);
        assert!(output.code != Some(0) && (exit == 0 || output.code == Some(exit)), "{what}: {output:?}");
        assert!(output.stderr.contains(reason), "{what}: no {reason}: {}", output.stderr);
        assert!(output.stderr.len() < 1000 && !output.stderr.contains("test-key"), "{what}: {}", output.stderr);
    }
    assert_eq!((agent.wait_collector(), identity(&agent.config_file())), before);
    wait_no_strays(&agent);
    assert_eq!(agent.starts(), 1);
    assert_eq!(failures(&agent).len(), 20, "one line for each new reason");
    let status = agent.status().unwrap();
    assert!(status["polling"]["error"].is_string(), "{status}");

    api.answer_config(named("b"));
    assert_eq!(agent.run(["--check"]).code, Some(0));
    agent.wait_log("the recovery", |line| line.msg() == "the API answers again");
    assert_eq!(agent.status().unwrap()["polling"]["error"], Value::Null);
    assert_eq!(agent.config(), named("b"));
}

#[test]
fn an_api_that_is_down_at_the_start_is_found_later() {
    let api = Api::plain();
    api.stop();
    let agent = settled(quick().api(&api), &named("a"));
    agent.wait_until("a failure", || failures(&agent).len() == 1);
    api.answer_config(named("b"));
    api.restart();
    wait_good(&agent, &named("b"));
    assert_eq!(failures(&agent).len(), 1);
    // The same, later on.
    api.stop();
    agent.wait_until("another failure", || failures(&agent).len() == 2);
    let pid = agent.wait_collector();
    api.restart();
    wait_polls(&agent, &api, 1);
    assert_eq!(agent.wait_collector(), pid);
}

#[test]
fn failures_back_off_log_once_and_one_answer_ends_them() {
    let api = Api::plain();
    api.reply(Reply::status(500, &[], "busy"));
    // What the server says differs each time; the reason is the same.
    api.reply_once(Reply::status(500, &[], "busy, see request 4711"));
    let agent = settled(quick().api(&api), &named("a"));
    wait_asked(&agent, &api, 4);
    let after_start = gaps(&api, 0);
    assert!(after_start[0] < 1.7, "the first pause ends anywhere in the interval: {after_start:?}");
    for (gap, base) in after_start.into_iter().skip(1).zip([2.0, 4.0]) {
        assert!((base * 0.8..base * 1.1 + 0.7).contains(&gap), "{gap} s for {base}");
    }
    let lines = failures(&agent);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].level() == "warn" && lines[0].json["next_check_seconds"].as_u64().unwrap() <= 1, "{lines:?}");
    // An operator may ask meanwhile, and the answer ends it.
    api.answer(json!({}));
    let asked = api.requests().len();
    assert_eq!(agent.run(["--check"]).code, Some(0));
    wait_polls(&agent, &api, 2);
    let after = gaps(&api, asked);
    assert!(after.iter().all(|gap| (0.8..1.8).contains(gap)), "{after:?}");
}

#[test]
fn retry_after_is_kept_to() {
    let api = Api::plain();
    api.reply_once(Reply::status(429, &[("Retry-After", "3")], "slow down"));
    let agent = settled(quick().api(&api), &named("a"));
    wait_asked(&agent, &api, 3);
    let gaps = gaps(&api, 0);
    assert!((2.9..4.5).contains(&gaps[0]) && gaps[1] < 1.8, "{gaps:?}");
}

#[test]
fn a_key_that_is_refused_is_reported_only_to_the_operator() {
    let api = Api::plain();
    api.reply(Reply::status(401, &[], "test-key is unknown"));
    let agent = settled(quick().api(&api), &named("a"));
    agent.wait_until("a failure", || failures(&agent).len() == 1);
    let line = &failures(&agent)[0];
    assert_eq!((line.level(), line.field("answer")), ("error", "**** is unknown"), "{line:?}");
    assert!(line.field("error").ends_with("HTTP status 401; check api-key"), "{line:?}");
    api.answer(json!({}));
    let report = api.wait_for_request_after(api.requests().len(), "the next poll", |_| true);
    assert_eq!(message(&report), "", "the API's own failures are reported to it");
    assert_eq!(agent.count_log(|line| line.text.contains("test-key")), 0);
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_bounded_in_time() {
    let api = Api::plain();
    let slow = Reply::Drip { pause: Duration::from_millis(100), status: 200, body: vec![b' '; 10_000] };
    api.reply_once(slow);
    let agent = settled(quick().api(&api).setting("poll-timeout", "1s"), &named("a"));
    agent.wait_until("a failure", || failures(&agent).len() == 1);
    wait_polls(&agent, &api, 1);
    assert_eq!(agent.stop(), 0);
}
