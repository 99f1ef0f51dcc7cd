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

/// As zap writes them, and Go when it ends.
const ERROR: &str = "2026-11-30T02:40:58.340Z\terror\tinternal/queue.go:1\tExporting failed.\t{\"a\": 1}";
const TRACE: &str = "go.opentelemetry.io/collector/exporter.(*x).send\n\t/home/runner/x.go:115";
const INFO: &str = "2026-11-30T02:40:58.341Z\tinfo\tx.go:1\tstarted";

#[test]
fn lines_have_the_level_of_the_collectors_own() {
    let json = r#"{"level":"warn","ts":1795981721.1,"msg":"from JSON"}"#;
    let stderr = format!("plain\n\ttab\n{ERROR}\n{TRACE}\n{INFO}\n{json}\npanic: nil map\n\ngoroutine 1 [running]:");
    // Nothing follows the panic, and yet it comes.
    let builder = quick().setting("start-timeout", "1s");
    let agent = settled(builder, &scripted("a", json!({"stderr": stderr, "quiet": true})));
    agent.wait_log("the panic", |line| line.msg() == "panic: nil map\n\ngoroutine 1 [running]:");
    let lines: Vec<(String, String)> = (agent.log().iter())
        .filter(|line| line.is_collector())
        .map(|line| (line.level().to_string(), line.msg().to_string()))
        .collect();
    let expected = [
        ("info", "plain"),
        ("info", "\ttab"),
        ("error", &format!("{ERROR}\n{TRACE}")),
        ("info", INFO),
        ("warn", json),
        ("error", "panic: nil map\n\ngoroutine 1 [running]:"),
    ];
    assert_eq!(lines, expected.map(|(level, msg)| (level.to_string(), msg.to_string())));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn the_journal_gets_the_severity_of_each_line() {
    for (format, is_journal) in [("json", true), ("text", true), ("text", false)] {
        let script = json!({"stderr": format!("{INFO}\n{ERROR}\n{TRACE}\n<0>x")});
        let agent = quick().setting("log-format", format).config(yaml(&scripted("a", script))).build();
        let log = agent.dir().join("log");
        let stream = if is_journal { "$(stat -c %d:%i \"$LOG\")" } else { "1:1" };
        let script = format!(": > \"$LOG\"; export JOURNAL_STREAM={stream}; exec \"$0\" \"$@\" 2> \"$LOG\"");
        let mut shell = through_shell(&agent, &script);
        shell.env("LOG", &log);
        agent.spawn_command(shell);
        agent.wait_status("running", |status| status["collector"]["state"] == "running");
        assert_eq!(agent.stop(), 0);
        let text = fs::read_to_string(&log).unwrap();
        let has = |severity: &str, what: &str| {
            let is_it = |line: &str| line.contains(what) && is_journal == line.starts_with(severity);
            assert!(text.lines().any(is_it), "{format}, journal {is_journal}: {severity} {what}\n{text}");
        };
        has("<6>", "agent started");
        has("<6>", "started");
        has("<3>", "Exporting failed.");
        has("<3>", "x.go:115");
        assert!(!text.contains("\n<0>"), "{text}");
        assert!(text.lines().all(|line| is_journal == line.starts_with('<')), "{text}");
    }
}

#[test]
fn so_many_lines_a_minute_are_logged_and_errors_besides() {
    let lines: Vec<String> = (0..400).map(|number| format!("line {number} of many")).collect();
    let stderr = format!("{}\n{ERROR}\n{INFO}\nthe last words", lines.join("\n"));
    let script = json!({"stderr": stderr, "start": {"exit": 3, "after_ms": 1500, "times": 1}});
    let agent = quick().setting("collector-log-rate", 10).config(yaml(&scripted("a", script))).spawn();
    agent.wait_log("the end", |line| line.msg() == "collector exited unexpectedly");
    let log = agent.log();
    let end = log.iter().position(|line| line.msg() == "collector exited unexpectedly").unwrap();
    let logged: Vec<&str> = log[..end].iter().filter(|line| line.is_collector()).map(|line| line.msg()).collect();
    let shown = |number: usize| logged.contains(&&*lines[number]);
    assert!((0..10).all(shown) && !shown(10) && !shown(200), "{logged:?}");
    assert!(logged.contains(&ERROR), "{logged:?}");
    // What explains the crash, in the order in which it was printed.
    assert!(shown(399) && logged[..logged.len() - 1].contains(&INFO), "{logged:?}");
    assert!(logged.contains(&"the last words"), "{logged:?}");
    let said = log[..end].iter().find(|line| line.msg().starts_with("suppressed ")).expect("a count");
    let count = said.json["count"].as_u64().unwrap();
    // The error besides, and "Everything is ready".
    assert_eq!(count + logged.len() as u64 - 1, 400 + 3, "{logged:?}");
    assert_eq!((said.level(), agent.stop()), ("warn", 0));
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
