//! The file of a Unix socket that a killed collector leaves.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{quick, scripted, wait_running};
use crate::support::agent::{Agent, Line};
use crate::support::{needs, process};

/// On a host where binds are seen, with the file's path.
fn listening(unix: &Path) -> Option<Value> {
    let is_seen = kmagent::collector::handover::supported::supported().is_ok();
    let script = json!({"unix": unix, "ignore_sigterm": true});
    needs::that(is_seen, "the kernel reports no binds").then(|| scripted("a", script))
}

fn is_removed(line: &Line) -> bool {
    line.msg() == "removed the socket file of a collector that was killed"
}

/// With a collector whose socket is recorded.
fn started(agent: &Agent) -> u32 {
    agent.spawn();
    wait_running(agent, 0);
    agent.wait_until("the socket's record", || {
        fs::read_to_string(agent.run_dir().join("collectors.json")).is_ok_and(|text| text.contains("x.sock"))
    });
    agent.wait_collector()
}

#[test]
fn it_is_removed_when_the_collector_is_killed_and_when_the_agent_was() {
    let builder = quick().setting("stop-timeout", "300ms");
    let socket = builder.dir().join("x.sock");
    let Some(config) = listening(&socket) else { return };
    let agent = builder.config(super::yaml(&config)).build();
    let collector = started(&agent);
    process::signal(collector, Signal::KILL);
    agent.wait_start(2);
    agent.wait_log("its end", is_removed);
    agent.wait_status("a collector again", |status| status["collector"]["is_ready"] == true);
    assert_eq!(agent.starts(), 2, "it took more than one start");
    // The next agent ends what is left, and removes its socket.
    agent.signal(Signal::KILL);
    agent.wait_exit();
    assert!(socket.exists());
    let seen = agent.log().len();
    agent.spawn();
    agent.wait_log_after(seen, "its end", is_removed);
    wait_running(&agent, seen);
    assert_eq!(agent.starts(), 3);
}

/// What another process has made in its place, and what was there before, is left alone and named.
#[test]
fn what_is_not_our_own_is_left_alone_and_named() {
    let builder = quick();
    let socket = builder.dir().join("x.sock");
    let Some(config) = listening(&socket) else { return };
    let agent = builder.config(super::yaml(&config)).build();
    let collector = started(&agent);
    fs::remove_file(&socket).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    process::signal(collector, Signal::KILL);
    let problem = agent.wait_for("the problem", || {
        let problem = agent.status()?["last_error_message"].as_str()?.to_string();
        problem.contains(&format!("{} is there already", socket.display())).then_some(problem)
    });
    assert!(problem.contains("delete it") && socket.exists(), "{problem}");
    assert_eq!(agent.count_log(is_removed), 0);
    fs::remove_file(&socket).unwrap();
    agent.wait_status("a collector again", |status| status["collector"]["is_ready"] == true);
}
