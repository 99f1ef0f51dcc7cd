//! What ends a rejection: another overlay, another collector, `kmagent retry`; and what does not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{message, named, quick, scripted, settled, wait_polls, wait_running};
use crate::support::agent::Agent;
use crate::support::api::{Api, Reply};
use crate::support::bin;

/// Ready, and dead a moment later.
fn failing(name: &str) -> Value {
    scripted(name, json!({"start": {"exit": 5, "after_ms": 100}}))
}

fn tries(agent: &Agent) -> usize {
    agent.records_of("validate").len()
}

/// Runs `good`; `offered` was rejected.
fn rejected(api: &Api, agent: &Agent, offered: &Value, words: &str) {
    api.answer_config(offered.clone());
    api.wait_for_request("the rejection", |request| message(request).contains(words));
    wait_polls(agent, api, 2);
    assert_eq!((agent.config(), tries(agent)), (named("good"), 1));
}

#[test]
fn a_mistake_in_the_overlay_is_said_to_be_one_and_the_config_is_installed_when_it_is_corrected() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let overlay = builder.dir().join("local.yaml");
    fs::write(&overlay, "site: {}").unwrap();
    let agent = settled(builder.setting("local-config", overlay.display().to_string()), &named("good"));
    fs::write(&overlay, "fake: {validate: fail}").unwrap();
    api.answer_config(named("better"));
    let report = api.wait_for_request("the refusal", |request| message(request).contains("scripted to refuse"));
    let words = format!("the collector rejects the overlay {}: ", overlay.display());
    assert!(message(&report).contains(&words), "{}", message(&report));
    wait_polls(&agent, &api, 2);
    let seen = agent.log().len();
    fs::write(&overlay, "site: {name: x}").unwrap();
    wait_running(&agent, seen);
    assert_eq!(agent.config(), named("better"));
    api.wait_for_request_after(api.requests().len(), "no problem", |request| message(request).is_empty());
}

#[test]
fn a_mistake_of_the_config_is_not_said_to_be_the_overlays() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let overlay = builder.dir().join("local.yaml");
    fs::write(&overlay, "site: {}").unwrap();
    let agent = settled(builder.setting("local-config", overlay.display().to_string()), &named("good"));
    api.answer_config(scripted("bad", json!({"validate": "fail"})));
    let report = api.wait_for_request("the refusal", |request| message(request).contains("scripted to refuse"));
    assert!(message(&report).contains("the collector rejects the config: "), "{}", message(&report));
    assert_eq!(agent.config(), named("good"));
}

/// `chmod` to the mode that it has changes the ctime.
#[test]
fn a_collector_that_was_touched_is_the_same() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let program = builder.dir().join("collector");
    let mode = |mode| fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    fs::copy(bin::fake(), &program).unwrap();
    mode(0o755);
    let agent = settled(builder.collector(&program), &named("good"));
    rejected(&api, &agent, &scripted("bad", json!({"validate": "fail"})), "scripted to refuse");
    for touched in [0o755, 0o700] {
        mode(touched);
        wait_polls(&agent, &api, 2);
        assert_eq!(tries(&agent), 1, "tried again");
    }
    // Another one, which differs in one byte that does not matter.
    let bytes: Vec<u8> = fs::read(&program).unwrap().into_iter().chain([0]).collect();
    let other = agent.dir().join("other");
    fs::write(&other, bytes).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&other, &program).unwrap();
    agent.wait_until("another try", || tries(&agent) == 2);
}

#[test]
fn what_has_served_and_failed_is_not_tried_again_at_a_start_but_by_an_operator() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    rejected(&api, &agent, &failing("bad"), "status 5");
    assert_eq!(agent.stop(), 0);
    let mut start = agent.command(["start"]);
    start.env("SOMETHING", "else");
    agent.spawn_command(start);
    wait_polls(&agent, &api, 3);
    assert_eq!(tries(&agent), 1, "tried again");
    let output = agent.run(["retry"]);
    output.fails(65, "was rolled back: the collector exited with status 5");
    assert_eq!((agent.config(), tries(&agent)), (named("good"), 2));
    wait_polls(&agent, &api, 2);
    assert_eq!(tries(&agent), 2, "tried again");
}

#[test]
fn retry_says_what_a_check_would_where_nothing_is_rejected() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    api.answer(json!({"restart_required": false, "config": named("good")}));
    assert_eq!(agent.run(["retry"]).says(), "the config is up to date\n");
    api.answer_config(named("better"));
    let output = agent.run(["retry"]);
    assert!(output.says().starts_with("installed config ") || output.says().contains("up to date"), "{output:?}");
}

/// A client that waits knows for how long; and an agent that cannot do this says so.
#[test]
fn retry_is_told_at_once_how_long_it_may_take() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    api.reply(Reply::Hang);
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.write_all(b"{\"command\":\"retry\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    let seconds = reply["waiting"]["seconds"].as_u64().unwrap();
    assert!((60..600).contains(&seconds), "{reply}");
    api.answer(json!({}));
    assert_eq!(agent.stop(), 0);
    let listener = UnixListener::bind(agent.socket()).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(b"{\"error\":\"unknown variant\"}\n").unwrap();
        }
    });
    agent.run(["retry"]).fails(69, "the running agent is an older one");
}

#[test]
fn without_an_agent_it_forgets_the_rejection_and_the_next_start_tries() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    rejected(&api, &agent, &failing("bad"), "status 5");
    assert_eq!(agent.stop(), 0);
    let record = agent.state_dir().join("rejected.json");
    let kept: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    let name = &kept["revision"].as_str().unwrap()[..12];
    let said = format!("config {name} is no longer rejected: the next check tries it\n");
    assert_eq!((agent.run(["retry"]).says(), record.exists()), (said.as_str(), false));
    assert_eq!(agent.run(["retry"]).says(), "no config is rejected\n");
    agent.spawn();
    agent.wait_until("another try", || tries(&agent) == 2);
    agent.signal(Signal::TERM);
    agent.wait_exit();
    assert!(Path::new(&agent.run_dir().join("lock")).exists());
}
