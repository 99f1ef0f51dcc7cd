//! The agent as process 1: who reaps, what is passed on, and how it ends.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::container::{Run, Volumes, needs_libraries};
use super::{collector_config, wait_running};
use crate::operation::yaml;
use crate::support::process::{self, free_port};
use crate::support::wait::{DEADLINE, holds_for, wait_for, wait_until};
use crate::support::{bin, needs};

fn quick<'a>(volumes: &Volumes, config: &str) -> Run<'a> {
    fs::write(volumes.config_file(), config).unwrap();
    Run::new(volumes).env("KM_MIN_UPTIME", "500ms").env("KM_LOG_LEVEL", "debug")
}

#[test]
fn orphans_are_reaped() {
    if !needs::root() {
        return;
    }
    let volumes = Volumes::new();
    let container = quick(&volumes, "fake: {}").fake().start();
    wait_running(&container);
    // What the collector orphans the agent adopts. So another one, as a command of `docker exec` is.
    let script = "fake: {fork: session, start: {exit: 1, after_ms: 300}}";
    fs::write(volumes.config().join("another.yaml"), script).unwrap();
    std::thread::scope(|scope| {
        // It ends when the orphan has, which holds its output.
        let exec = scope.spawn(|| container.exec(&["/fake", "--config", "/etc/kmagent/another.yaml"]));
        let held = |pid: &u32| process::command_line(*pid).get(1).is_some_and(|word| word == "hold");
        let orphan = wait_for("an orphan", DEADLINE, || container.children().into_iter().find(held));
        assert!(process::alive(orphan));
        process::signal(orphan, Signal::KILL);
        wait_until("the orphan to be reaped", || process::status(orphan).is_none());
        assert_eq!(exec.join().unwrap().code, Some(1));
    });
    assert_eq!(container.children(), [container.agent()], "nobody else, dead or alive");
}

#[test]
fn a_request_to_stop_ends_everything_with_0() {
    if !needs::root() {
        return;
    }
    for signals in [&[Signal::TERM][..], &[Signal::INT], &[Signal::TERM, Signal::TERM, Signal::INT]] {
        let volumes = Volumes::new();
        let mut container = quick(&volumes, &yaml(&collector_config(free_port()))).start();
        wait_running(&container);
        // Before it handles signals, SIGTERM would end it without a word.
        container.wait_log("a collector that is ready", |line| {
            line.is_collector() && line.msg().contains("Everything is ready")
        });
        assert!(container.is_healthy());
        let processes = container.processes();
        assert!(processes.len() == 2, "the agent and the collector: {processes:?}");
        signals.iter().for_each(|signal| container.signal(*signal));
        assert_eq!(container.wait_exit(), 0, "{signals:?}");
        container.wait_log("the collector's last word", |line| {
            line.is_collector() && line.msg().contains("Shutdown complete")
        });
        container.wait_log("the agent's last word", |line| line.msg() == "agent stopped");
        let asked = container.log().iter().filter(|line| line.msg() == "stopping").count();
        assert_eq!(asked, 1, "{signals:?}");
        assert!(!processes.into_iter().any(process::alive));
    }
}

#[test]
fn a_request_to_reload_is_passed_on_each_time() {
    if !needs::root() {
        return;
    }
    let volumes = Volumes::new();
    let mut container = quick(&volumes, "fake: {}").fake().start();
    wait_running(&container);
    let agent = container.agent();
    for count in 1..=2 {
        container.signal(Signal::HUP);
        let reloads = || container.log().iter().filter(|line| line.msg() == "settings reloaded").count();
        wait_until("a reload", || reloads() == count);
    }
    assert_eq!(container.agent(), agent);
    // A restart policy may start the container again, so `stop` says what to do, before the end of the container is its
    // own; and it is no failure.
    let stopped = container.exec(&["/usr/local/bin/kmagent", "stop"]);
    assert!(stopped.stdout.contains("stop the container, as by `docker stop`"), "{stopped:?}");
    assert!(stopped.stderr.is_empty() && matches!(stopped.code, None | Some(0)), "{stopped:?}");
    assert_eq!(container.wait_exit(), 0);
}

#[test]
fn what_asks_for_nothing_is_not_passed_on() {
    if !needs::root() {
        return;
    }
    let volumes = Volumes::new();
    let mut container = quick(&volumes, "fake: {}").fake().start();
    wait_running(&container);
    let agent = container.agent();
    let signals = [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::PIPE, Signal::QUIT, Signal::WINCH, Signal::CONT];
    // Each of the first five would end the agent.
    for signal in signals {
        container.signal(signal);
        let pending = || process::status(container.init).unwrap().field("ShdPnd") != "0000000000000000";
        wait_until("the signal to be taken", || !pending());
    }
    assert!(container.is_healthy());
    assert_eq!(container.agent(), agent);
    assert_eq!(container.stop(), 0);
}

/// A terminal's signals go to a whole process group, so to both.
#[test]
fn ctrl_c_ends_it_with_0() {
    if !needs::root() {
        return;
    }
    let volumes = Volumes::new();
    let mut typed = None;
    let mut container = quick(&volumes, "fake: {}").fake().start_by(|script| {
        let mut command = std::process::Command::new("script");
        let inside = format!("exec unshare --mount --pid --fork --kill-child sh -ec {}", quoted(script));
        command.args(["--quiet", "--return", "--command", &inside, "/dev/null"]);
        let (reader, writer) = std::io::pipe().unwrap();
        typed = Some(writer);
        command.stdin(reader);
        command
    });
    container.wait_status("a running collector", |status| status["collector"]["state"] == "running");
    std::io::Write::write_all(typed.as_mut().unwrap(), b"\x03").unwrap();
    assert_eq!(container.wait_exit(), 0);
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[test]
fn a_killed_agent_ends_the_container() {
    if !needs::root() {
        return;
    }
    let volumes = Volumes::new();
    let mut container = quick(&volumes, "fake: {fork: session}").fake().start();
    wait_running(&container);
    let processes = container.processes();
    assert!(processes.len() == 3, "the agent, the collector and what that left: {processes:?}");
    process::signal(container.agent(), Signal::KILL);
    assert_eq!(container.wait_exit(), 128 + 9);
    wait_until("their end", || !processes.iter().any(|pid| process::alive(*pid)));
}

#[test]
fn the_agent_s_own_status_is_the_container_s() {
    if !needs::root() {
        return;
    }
    let volumes = Volumes::new();
    let mut container = quick(&volumes, "fake: {}").env("KM_LOG_LEVEL", "loud").start();
    assert_eq!(container.wait_exit(), 78);
    container.wait_log("the reason", |line| line.text.contains("KM_LOG_LEVEL"));
}

#[test]
fn process_one_costs_next_to_nothing() {
    if !needs::root() {
        return;
    }
    let volumes = Volumes::new();
    let container = quick(&volumes, "fake: {}").fake().start();
    wait_running(&container);
    let status = process::status(container.init).unwrap();
    assert_eq!((status.field("Name"), status.number("Threads")), ("kmagent-init", 1));
    let (init, agent) = (status.number("RssAnon"), process::status(container.agent()).unwrap().number("RssAnon"));
    eprintln!("RssAnon of process 1: {init} KiB, of the agent: {agent} KiB");
    assert!(init < agent);
    // Measured: 112 KiB. What is relocated when it is loaded comes on top in a build that is not static.
    assert!(init <= 256 || needs_libraries(&bin::kmagent()), "{init} KiB");
    let before = process::context_switches(container.init);
    holds_for("process 1 asleep", Duration::from_secs(1), || process::context_switches(container.init) == before);
}
