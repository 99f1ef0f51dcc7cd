//! The collector's output is passed on and never blocks it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{quick, scripted, settled, through_shell, yaml};
use crate::support::agent::Agent;
use crate::support::wait::{holds_for, wait_for, wait_until};
use crate::support::{machine, process};

const MEGABYTE: usize = 1_000_000;

/// The agent with its stderr in `file`, which may be a FIFO.
fn spawn_into(agent: &Agent, file: &Path) {
    let mut shell = through_shell(agent, "exec \"$0\" \"$@\" 2> \"$LOG\"");
    shell.env("LOG", file);
    agent.spawn_command(shell);
}

fn written(pid: u32) -> u64 {
    process::io(pid).get("wchar").copied().unwrap_or_default()
}

#[test]
fn a_flood_is_taken_and_the_agent_stays_responsive() {
    let flood = if machine::emulator().is_some() { 10 } else { 100 } * MEGABYTE;
    let agent = quick().config(yaml(&scripted("a", json!({"flood_bytes": flood})))).build();
    spawn_into(&agent, Path::new("/dev/null"));
    let pid = agent.wait_start(1);
    let mut answers = 0;
    // 100 MB through a debug build on a loaded host.
    wait_for("the flood's end", Duration::from_secs(120), || {
        answers += u32::from(agent.status().is_some());
        (written(pid) >= flood as u64).then_some(())
    });
    assert!(answers > 0);
    assert!(process::status(agent.pid()).unwrap().number("VmRSS") < 64 * 1024, "the agent hoards the flood");
    assert_eq!((agent.starts(), agent.stop()), (1, 0));
}

#[test]
fn a_log_that_nobody_reads_blocks_neither_agent_nor_collector() {
    let flood = 4 * MEGABYTE;
    let agent = quick().config(yaml(&scripted("a", json!({"flood_bytes": flood})))).build();
    let fifo = agent.dir().join("log");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Both ends: nothing blocks, and nobody reads.
    let _held = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    spawn_into(&agent, &fifo);
    let pid = agent.wait_start(1);
    wait_until("the flood's end", || written(pid) >= flood as u64);
    agent.wait_status("running", |status| status["collector"]["state"] == "running");
    assert_eq!((agent.starts(), agent.stop()), (1, 0));
}

#[test]
fn lines_are_passed_on_whole_up_to_64_kib() {
    let agent =
        settled(quick(), &scripted("a", json!({"long_line_bytes": 150_000, "stderr": "first ✓\n\tsecond \"q\""})));
    let long = |line: &crate::support::agent::Line| line.is_collector() && line.msg().starts_with("xxx");
    agent.wait_until("the long line in parts", || {
        let log = agent.log();
        let parts: Vec<usize> = log.iter().filter(|line| long(line)).map(|line| line.msg().len()).collect();
        parts == [65_536, 65_536, 150_000 - 2 * 65_536]
    });
    for text in ["first ✓", "\tsecond \"q\""] {
        agent.wait_log(text, |line| line.is_collector() && line.msg() == text);
    }
}

#[test]
fn a_collector_that_closes_its_outputs_is_supervised_all_the_same() {
    let agent = settled(quick(), &scripted("a", json!({"close_outputs": true})));
    let switches = || process::context_switches(agent.pid());
    let before = switches();
    holds_for("no busy loop on the closed pipe", Duration::from_secs(1), || switches() < before + 20);
    process::signal(agent.wait_collector(), rustix::process::Signal::KILL);
    agent.wait_start(2);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn text_logs_pass_lines_on_as_they_are() {
    let builder = quick().setting("log-format", "text");
    let agent = builder.config(yaml(&scripted("a", json!({"stderr": "as it is: {\"a\": 1}"})))).spawn();
    agent.wait_log("the line", |line| line.text == "as it is: {\"a\": 1}");
    assert_eq!(agent.stop(), 0);
}
