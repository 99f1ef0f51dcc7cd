//! The resident agent with the stand-in collector, theme by theme of the man page's OPERATION section.

mod agent_death;
mod api_failure;
mod bootstrap;
mod collector_process;
mod crash;
mod descendants;
mod disk;
mod generations;
mod install;
mod large_config;
mod linked_config;
mod notify;
pub mod output;
mod policy;
mod polling;
mod probation;
mod refusal;
mod reload;
mod restart;
mod restart_request;
mod retry;
mod rollback;
mod run_dir;
mod stop;
mod unix_sockets;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Builder, Line};
use crate::support::api::{Api, Request};
use crate::support::wait::{holds_for, wait_until};

/// A config for the stand-in that differs from others by its name.
fn named(name: &str) -> Value {
    scripted(name, json!({}))
}

/// The same, with a script (fake_collector.rs).
fn scripted(name: &str, script: Value) -> Value {
    json!({"fake": script, "name": name})
}

pub fn yaml(config: &Value) -> String {
    serde_yaml::to_string(config).unwrap()
}

/// With a probation that is short for a test and long for a crash at start.
fn quick() -> Builder {
    Agent::builder().setting("min-uptime", "500ms")
}

/// An agent whose collector runs a config that has proved itself.
#[track_caller]
pub fn settled(builder: Builder, config: &Value) -> Agent {
    let agent = builder.config(yaml(config)).spawn();
    wait_running(&agent, 0);
    agent
}

/// `start` by way of a shell, whose script ends with `exec` of `"$0" "$@"`.
pub fn through_shell(agent: &Agent, script: &str) -> Command {
    let start = agent.command(["start"]);
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().envs(start.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell.arg("-c").arg(script).arg(start.get_program()).args(start.get_args());
    shell.stdin(Stdio::null()).current_dir(agent.dir());
    shell
}

pub fn is_running(line: &Line) -> bool {
    line.msg() == "collector state" && line.field("to") == "running"
}

/// Waits until a collector has proved itself, by the log from line `seen` on.
#[track_caller]
pub fn wait_running(agent: &Agent, seen: usize) {
    agent.wait_log_after(seen, "a collector that has proved itself", is_running);
}

/// Waits until this config is active and has been promoted.
#[track_caller]
fn wait_good(agent: &Agent, config: &Value) {
    let read = |path| fs::read_to_string(path).map_or(Value::Null, |text| serde_yaml::from_str(&text).unwrap());
    agent.wait_until("the config, kept", || read(agent.config_file()) == *config && agent.proved_config() == *config);
}

/// Waits until the API has been asked `count` times more.
#[track_caller]
fn wait_polls(agent: &Agent, api: &Api, count: usize) {
    wait_asked(agent, api, api.requests().len() + count);
}

/// Waits until the API has been asked `count` times in all.
#[track_caller]
fn wait_asked(agent: &Agent, api: &Api, count: usize) {
    agent.wait_until("more polls", || api.requests().len() >= count);
}

/// Asserts that the API has been asked `count` times and is not asked again.
#[track_caller]
fn holds_polls(api: &Api, count: usize) {
    wait_until("the polls so far", || api.requests().len() >= count);
    holds_for("no further poll", Duration::from_millis(1500), || api.requests().len() == count);
}

pub fn message(request: &Request) -> String {
    request.json()["last_error_message"].as_str().unwrap_or_default().to_string()
}

/// Changes when a file is replaced, and when it is written to.
fn identity(path: &Path) -> (u64, i64, i64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

/// Candidates and other unfinished files, wherever the agent writes.
fn strays(agent: &Agent) -> Vec<String> {
    let names = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let all = names(&agent.dir().join("etc")).chain(names(&agent.state_dir()));
    all.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with('.')).collect()
}

/// A record that is being written has such a name for a moment, one that is left keeps it.
#[track_caller]
fn wait_no_strays(agent: &Agent) {
    agent.wait_until("no stray file", || strays(agent).is_empty());
}

/// From one log line to a later one, by their time stamps.
pub fn seconds_between(from: &Line, to: &Line) -> f64 {
    let seconds = |line: &Line| {
        // 2026-11-22T14:04:37.123Z
        let time = line.field("ts")[11..23].split(':').map(|part| part.parse::<f64>().unwrap());
        time.fold(0.0, |sum, part| sum * 60.0 + part)
    };
    // Midnight may lie between them.
    (seconds(to) - seconds(from)).rem_euclid(86_400.0)
}
