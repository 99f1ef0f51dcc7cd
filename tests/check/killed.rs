//! A `--check` that is killed on its way, and the next one, which sets things right.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{changes, config, host, noting};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::process;

/// For `noting`: an `on-change` that waits as long as there is a file `block`.
const BLOCKING: &str = "touch started; while [ -e block ]; do sleep 0.02; done";

fn block(agent: &Agent) {
    fs::write(agent.dir().join("block"), "").unwrap();
}

fn unblock(agent: &Agent) {
    fs::remove_file(agent.dir().join("block")).unwrap();
}

/// Runs a `--check` until its `on-change` has started, and kills it there.
fn kill_in_on_change(agent: &Agent) {
    let mut command = agent.command(["--check"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    agent.wait_until("on-change", || agent.dir().join("started").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    // The command goes with it, so that the next check's does not run beside it.
    agent.wait_until("the end of on-change", || agent.processes().is_empty());
    fs::remove_file(agent.dir().join("started")).unwrap();
}

fn unfinished(agent: &Agent) -> std::path::PathBuf {
    agent.state_dir().join("unfinished-install.json")
}

#[test]
fn between_install_and_on_change() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let agent = noting(host(&api), BLOCKING).config("fake: {stderr: old}").build();
    block(&agent);
    kill_in_on_change(&agent);
    assert_eq!(agent.config(), config("new"));
    assert!(unfinished(&agent).exists());

    unblock(&agent);
    let output = agent.run(["--check"]);
    assert!(output.says().starts_with("installed config "), "{output:?}");
    assert_eq!(changes(&agent), ["new", "new"]);
    assert!(!unfinished(&agent).exists());
    assert_eq!(agent.run(["--check"]).says(), "");
    assert_eq!(changes(&agent).len(), 2);
}

#[test]
fn between_install_and_an_on_change_that_fails() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let agent = noting(host(&api), &format!("{BLOCKING}; grep -q old etc/config.yaml"));
    let agent = agent.config("fake: {stderr: old}").build();
    block(&agent);
    kill_in_on_change(&agent);
    unblock(&agent);
    agent.run(["--check"]).fails(65, "was rolled back: on-change exited with status 1");
    assert_eq!(agent.config(), config("old"));
    assert_eq!(changes(&agent), ["new", "new", "old"]);
    agent.run(["--check"]).fails(65, "is rejected");
    assert_eq!(changes(&agent).len(), 3);
}

#[test]
fn in_the_middle_of_a_roll_back() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let script = format!("grep -q old etc/config.yaml || exit 4; {BLOCKING}");
    let agent = noting(host(&api), &script).config("fake: {stderr: old}").build();
    block(&agent);
    kill_in_on_change(&agent);
    assert_eq!(agent.config(), config("old"));

    unblock(&agent);
    let output = agent.run(["--check"]);
    output.fails(65, "was rolled back: on-change exited with status 4");
    assert_eq!(changes(&agent), ["new", "old", "old"], "whether the former config is used was not known");
    assert!(!unfinished(&agent).exists());
    agent.run(["--check"]).fails(65, "is rejected");
    assert_eq!(changes(&agent).len(), 3);
}

#[test]
fn right_before_the_install() {
    let api = Api::plain();
    let agent = noting(host(&api), "true").config("fake: {stderr: old}").build();
    api.answer(json!({}));
    agent.run(["--check"]).says();
    // What such a check leaves: its note, and a candidate.
    let note = json!({"revision": "0".repeat(64), "replaced": true});
    fs::write(unfinished(&agent), note.to_string()).unwrap();
    let candidate = agent.dir().join("etc/.config.yaml.candidate-4711-0");
    fs::write(&candidate, "fake: {}").unwrap();
    assert_eq!(agent.run(["--check"]).says(), "");
    assert_eq!(changes(&agent), [""; 0]);
    assert!(!unfinished(&agent).exists() && !candidate.exists());
}

#[test]
fn in_validate() {
    let api = Api::plain();
    api.answer_config(json!({"fake": {"validate": "hang"}}));
    let agent = host(&api).config("fake: {stderr: old}").build();
    let before = fs::read(agent.config_file()).unwrap();
    let mut command = agent.command(["--check"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    agent.wait_until("validate", || !agent.records_of("validate").is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    agent.wait_until("the end of validate", || agent.processes().is_empty());

    api.answer(json!({}));
    assert_eq!(agent.run(["--check"]).says(), "");
    let names: Vec<String> = fs::read_dir(agent.dir().join("etc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("candidate"))
        .collect();
    assert_eq!(names, [""; 0]);
    assert_eq!(fs::read(agent.config_file()).unwrap(), before);
}

/// An agent that starts in between takes the new config as its own: it proves itself or is rolled back as any other.
#[test]
fn and_an_agent_comes_next() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let agent = noting(host(&api), BLOCKING).config("fake: {stderr: old}").build();
    block(&agent);
    kill_in_on_change(&agent);
    agent.spawn();
    let status = agent.wait_status("running", |status| status["collector"]["state"] == "running");
    assert_eq!(status["last_error_message"], Value::String(String::new()));
    assert_eq!(agent.run(["--check"]).says(), "");
    assert_eq!(agent.config(), config("new"));
    process::signal(agent.pid(), Signal::TERM);
    assert_eq!(agent.wait_exit(), 0);
}

/// The check that was killed was an earlier version's.
#[test]
fn before_there_were_generations() {
    let api = Api::plain();
    api.answer_config(config("new"));
    let on_change = format!("{BLOCKING}; grep -q old etc/config.yaml");
    let agent = noting(host(&api), &on_change).config("fake: {stderr: old}").build();
    block(&agent);
    kill_in_on_change(&agent);
    let state = agent.state_dir();
    fs::remove_dir_all(state.join("generations")).unwrap();
    fs::remove_file(state.join("generations.json")).unwrap();
    fs::write(state.join("previous.yaml"), "fake: {stderr: old}\n").unwrap();
    let mut record: Value = serde_json::from_slice(&fs::read(unfinished(&agent)).unwrap()).unwrap();
    assert!(record.as_object_mut().unwrap().remove("former").is_some());
    fs::write(unfinished(&agent), record.to_string()).unwrap();

    unblock(&agent);
    agent.run(["--check"]).fails(65, "was rolled back: on-change");
    assert_eq!((changes(&agent), agent.config()), (vec!["new".into(), "new".into(), "old".into()], config("old")));
    assert!(!state.join("previous.yaml").exists() && agent.rejected().contains("new"));
}

/// The next check may be a day away.
#[test]
fn what_is_left_during_a_check_is_removed_at_its_end() {
    let api = Api::plain();
    let stray = "etc/.config.yaml.candidate-4711-0";
    let agent = noting(host(&api), &format!("touch {stray}")).config("name: old").build();
    api.answer_config(config("new"));
    agent.run(["--check"]).says();
    assert!(!agent.dir().join(stray).exists());
}
