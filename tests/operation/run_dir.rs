//! A run directory that is cleaned under the agent, and one that goes by two names.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use super::{message, named, quick, scripted, settled, wait_running};
use crate::support::agent::{Agent, Line};
use crate::support::api::Api;
use crate::support::process;

/// As tmp cleaners, people and logind leave a run directory.
const CLEANERS: [fn(&Path); 4] = [
    |run| fs::read_dir(run).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap()),
    |run| fs::remove_dir_all(run).unwrap(),
    |run| fs::remove_file(run.join("lock")).unwrap(),
    |run| fs::remove_file(run.join("control.sock")).unwrap(),
];

fn is_restored(line: &Line) -> bool {
    line.msg() == "run directory was cleaned; its files are restored"
}

#[track_caller]
fn is_refused(agent: &Agent, args: &[&str]) {
    let output = agent.run(args);
    let expected = format!("another kmagent (pid {}) already uses ", agent.pid());
    assert!(output.code == Some(75) && output.stderr.contains(&expected), "{output:?}");
}

#[track_caller]
fn answers(agent: &Agent, collector: u32) {
    let status = agent.status().expect("it does not answer");
    assert_eq!((&status["pid"], &status["collector"]["pid"]), (&json!(agent.pid()), &json!(collector)));
}

#[test]
fn an_agent_whose_run_directory_was_cleaned_stays_alone_and_is_found_again() {
    let api = Api::plain();
    let stubborn = scripted("a", json!({"ignore_sigterm": true}));
    let agent = settled(quick().api(&api).setting("config-check-interval", "2s"), &stubborn);
    let collector = agent.wait_collector();
    for (count, clean) in CLEANERS.into_iter().enumerate() {
        clean(&agent.run_dir());
        is_refused(&agent, &["start"]);
        let status = agent.run(["status"]);
        assert!(matches!(status.code, Some(0 | 75)) && !status.stderr.contains("no agent is running"), "{status:?}");
        agent.wait_until("its files", || agent.count_log(is_restored) > count);
        answers(&agent, collector);
        for name in ["lock", "control.sock", "collectors.json"] {
            assert!(agent.run_dir().join(name).exists(), "{name} is missing");
        }
        assert_eq!(agent.run(["--check"]).code, Some(0));
    }
    assert_eq!((agent.starts(), agent.collectors()), (1, vec![collector]), "its collector was ended");
    // What the next agent needs to know is there too.
    agent.signal(Signal::KILL);
    agent.wait_exit();
    assert!(process::alive(collector));
    let seen = agent.log().len();
    agent.spawn();
    wait_running(&agent, seen);
    assert!(!process::alive(collector) && agent.collectors().len() == 1);
    assert_eq!(agent.run(["stop"]).code, Some(0));
    agent.wait_exit();
    assert!(!agent.socket().exists());
}

/// A file is in its place: the API learns that.
#[test]
fn a_run_directory_that_cannot_be_restored_is_reported_until_it_can() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    let collector = agent.wait_collector();
    fs::remove_dir_all(agent.run_dir()).unwrap();
    fs::write(agent.run_dir(), "").unwrap();
    let report = api.wait_for_request("the problem", |request| message(request).contains("the run directory"));
    assert!(message(&report).contains(&agent.run_dir().display().to_string()), "{report:?}");
    fs::remove_file(agent.run_dir()).unwrap();
    let seen = api.requests().len();
    api.wait_for_request_after(seen, "no problem", |request| message(request).is_empty());
    assert_eq!(agent.count_log(|line| line.msg().starts_with("cannot restore the run directory")), 1);
    assert_eq!((agent.starts(), agent.wait_collector()), (1, collector));
    answers(&agent, collector);
}

/// Also without config checks.
#[test]
fn in_local_mode_the_names_come_back_too() {
    let agent = settled(quick(), &named("a"));
    let collector = agent.wait_collector();
    for (count, clean) in CLEANERS.into_iter().enumerate() {
        clean(&agent.run_dir());
        agent.wait_until("its files", || agent.count_log(is_restored) > count);
        answers(&agent, collector);
    }
    assert_eq!(agent.starts(), 1);
}

/// What is mounted over the directory, say, or one above it that was moved: no removal there tells it.
#[test]
fn names_that_are_away_unseen_come_back_with_the_collector_s_next_start_or_at_sighup() {
    let builder = quick();
    let outer = builder.dir().join("outer");
    let agent = settled(builder.setting("run-dir", outer.join("run").display().to_string()), &named("a"));
    let away = |count: usize| fs::rename(&outer, agent.dir().join(format!("away-{count}"))).unwrap();
    away(1);
    is_refused(&agent, &["start"]);
    agent.run(["stop"]).fails(75, "cannot be reached");
    process::signal(agent.wait_collector(), Signal::KILL);
    agent.wait_start(2);
    agent.wait_until("the agent", || agent.run(["status"]).code == Some(0));
    // Or at once, as the text says.
    away(2);
    agent.run(["status"]).fails(75, &format!("`kill -HUP {}`", agent.pid()));
    agent.signal(Signal::HUP);
    agent.wait_until("the agent", || agent.run(["status"]).code == Some(0));
    assert_eq!(agent.count_log(is_restored), 2);
    // And a name that leads to another directory by then.
    away(3);
    let other = agent.dir().join("other");
    fs::create_dir_all(other.join("run")).unwrap();
    std::os::unix::fs::symlink(&other, &outer).unwrap();
    is_refused(&agent, &["start"]);
}

/// `/var/run` and `/run`: one agent, and the next one ends what a killed one has left.
#[test]
fn a_run_directory_by_another_name_is_the_same() {
    let stubborn = scripted("a", json!({"ignore_sigterm": true}));
    let agent = settled(quick(), &stubborn);
    let collector = agent.wait_collector();
    let link = agent.dir().join("linked");
    std::os::unix::fs::symlink(agent.dir(), &link).unwrap();
    let other_name = link.join("run").display().to_string();
    is_refused(&agent, &["--run-dir", &other_name, "start"]);
    agent.run(["--run-dir", &other_name, "status"]).says();
    fs::remove_dir_all(agent.run_dir()).unwrap();
    is_refused(&agent, &["--run-dir", &other_name, "start"]);
    process::signal(collector, Signal::KILL);
    agent.wait_start(2);
    let collector = agent.wait_collector();
    agent.signal(Signal::KILL);
    agent.wait_exit();
    let mut command = agent.command(["start"]);
    command.args(["--run-dir", &other_name]);
    let seen = agent.log().len();
    agent.spawn_command(command);
    wait_running(&agent, seen);
    assert!(!process::alive(collector) && agent.collectors().len() == 1, "two collectors");
}
