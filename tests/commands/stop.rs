//! `stop`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::process;

fn quick() -> Agent {
    Agent::builder().config("fake: {}").build()
}

#[test]
fn stop_is_silent_and_the_next_start_works_at_once() {
    let agent = quick();
    for round in 1..=5 {
        agent.spawn();
        let collector = agent.wait_start(round);
        let output = agent.run(["stop"]);
        assert_eq!(output.says(), "");
        assert!(!process::alive(collector), "stop came back before the collector's end");
        assert!(!agent.socket().exists());
        // The harness does not wait for the former one here: nothing but `stop` stands between.
        assert_eq!(agent.wait_exit(), 79);
    }
    agent.run(["stop"]).fails(69, "no agent is running");
}

#[test]
fn stop_waits_for_a_collector_that_drains() {
    let agent = Agent::builder().config("fake: {drain_ms: 1500}").spawn();
    let collector = agent.wait_start(1);
    let stopping = thread::scope(|scope| {
        let stop = scope.spawn(|| agent.run(["stop"]));
        let status = agent.wait_status("stopping", |status| status["collector"]["state"] == "stopping");
        assert_eq!(status["collector"]["pid"], collector);
        stop.join().unwrap()
    });
    assert_eq!(stopping.says(), "");
    assert!(!process::alive(collector));
    assert_eq!(agent.wait_exit(), 79);
}

#[test]
fn several_stops_at_once_all_succeed_and_hold_no_start_up() {
    let agent = Agent::builder().config("fake: {drain_ms: 300}").spawn();
    for _ in 0..4 {
        agent.wait_until("an agent that answers", || {
            // A late stop of the last round may have met it on its way up.
            if agent.exit_status().is_some() {
                agent.spawn();
            }
            agent.status().is_some_and(|status| status["pid"] == agent.pid())
        });
        thread::scope(|scope| {
            let stops: Vec<_> = (0..4).map(|_| scope.spawn(|| agent.run(["stop"]))).collect();
            let mut stops = stops.into_iter();
            let first = stops.next().unwrap().join().unwrap();
            assert!(matches!(first.code, Some(0 | 69)), "{first:?}");
            agent.wait_exit();
            // The others may be in their last steps: they must neither be taken for an agent nor wait for the next one.
            agent.spawn();
            for stop in stops {
                let output = stop.join().unwrap();
                assert!(matches!(output.code, Some(0 | 69)), "{output:?}");
            }
        });
    }
    let refused = agent.log().into_iter().find(|line| line.text.contains("already uses"));
    assert!(refused.is_none(), "{refused:?}");
}

#[test]
fn stop_of_an_agent_that_is_killed_meanwhile_succeeds() {
    let agent = Agent::builder().config("fake: {ignore_sigterm: true}").setting("stop-timeout", "60s").spawn();
    agent.wait_start(1);
    let output = thread::scope(|scope| {
        let stop = scope.spawn(|| agent.run(["stop"]));
        agent.wait_status("stopping", |status| status["collector"]["state"] == "stopping");
        agent.signal(Signal::KILL);
        stop.join().unwrap()
    });
    assert_eq!(output.says(), "");
    assert_eq!(agent.wait_exit(), -9);
}

/// As systemd does with `RuntimeDirectory=`, the moment that the agent has ended.
#[test]
fn stop_succeeds_when_the_run_directory_goes_with_the_agent() {
    let agent = Agent::builder().config("fake: {drain_ms: 2000}").spawn();
    agent.wait_start(1);
    let output = thread::scope(|scope| {
        let stop = scope.spawn(|| agent.run(["stop"]));
        agent.wait_status("stopping", |status| status["collector"]["state"] == "stopping");
        // The descriptors of those who wait stay good.
        fs::remove_dir_all(agent.run_dir()).unwrap();
        stop.join().unwrap()
    });
    assert_eq!(output.says(), "");
    assert_eq!(agent.wait_exit(), 79);
}

#[test]
fn stop_works_beside_a_broken_settings_file() {
    let agent = quick();
    agent.spawn();
    agent.wait_start(1);
    let good = fs::read_to_string(agent.settings_file()).unwrap();
    fs::write(agent.settings_file(), format!("{good}no-such-setting: 1\nmin-uptime: soon\n")).unwrap();
    assert_eq!(agent.run(["status", "--json"]).code, Some(0));
    assert_eq!(agent.run(["stop"]).says(), "");
    assert_eq!(agent.wait_exit(), 79);
}

/// Falling back on the default run directory would stop another agent.
#[test]
fn stop_refuses_a_named_settings_file_that_it_cannot_read() {
    let agent = quick();
    fs::write(agent.settings_file(), "run-dir: [\n").unwrap();
    for command in ["stop", "status"] {
        agent.run([command]).fails(78, "agent.yaml");
    }
    fs::remove_file(agent.settings_file()).unwrap();
    for command in ["stop", "status"] {
        agent.run([command]).fails(78, "it does not exist");
        let run_dir = agent.run_dir().display().to_string();
        agent.run([command, "--run-dir", &run_dir]).fails(69, "no agent is running");
    }
}

#[test]
fn stop_ends_an_agent_whose_collector_is_in_backoff_or_missing() {
    let config = serde_yaml::to_string(&json!({"fake": {"start": {"exit": 1}}})).unwrap();
    for agent in
        [Agent::builder().config(config), Agent::builder().config("fake: {}").collector("/nonexistent/otelcol")]
    {
        let agent = agent.spawn();
        agent.wait_status("backoff", |status| status["collector"]["state"] == "backoff");
        assert_eq!(agent.run(["stop"]).says(), "");
        assert_eq!(agent.wait_exit(), 79);
    }
}

/// A stopped process, or one that hangs in the kernel: who waits for it would wait for an hour.
#[test]
fn stop_does_not_wait_for_an_agent_that_does_not_answer() {
    let agent = quick();
    agent.spawn();
    agent.wait_start(1);
    agent.signal(Signal::STOP);
    agent.run(["stop"]).fails(75, "the agent did not answer within 10s");
    agent.signal(Signal::CONT);
    assert_eq!(agent.run(["stop"]).says(), "");
}

/// Of an earlier version, which does not say how long it takes: it is waited for as long as the settings allow.
#[test]
fn stop_of_an_agent_that_does_not_say_how_long_it_takes_has_an_end() {
    let agent = quick();
    agent.spawn();
    let status = agent.wait_status("an agent", |_| true);
    assert_eq!(agent.stop(), 0);
    let (socket, status) = (agent.socket(), json!({ "status": status }).to_string() + "\n");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::spawn(move || {
        let mut stopping = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            match line.contains("status") {
                true => stream.write_all(status.as_bytes()).unwrap(),
                false => stopping.push(stream),
            }
        }
    });
    let output = agent.run(["--stop-timeout", "200ms", "stop"]);
    output.fails(75, "the agent did not answer within 10.2s");
    assert!(output.stderr.starts_with("kmagent: the agent is stopping; it may take 10.2s"), "{output:?}");
}
