//! Collectors that print what nobody should: a gigabyte, a line of 10 MB, bytes that are no text.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Fate::{RolledBack, Trusted};
use super::{Case, Ground, Mode, better, builder, config, good, is_good, row, status, try_all, wait_good};
use crate::faults::system_calls::is_long;
use crate::operation::{through_shell, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::process;
use crate::support::wait::wait_for;

#[test]
fn lines_that_are_no_lines() {
    let dies = |print| json!({"print": print, "start": {"exit": 3}});
    let mut long = Case::new("prints a line of 10 MB", json!({"long_line_bytes": 10_000_000}), Trusted);
    // It still prints when it gets SIGTERM, as slowly as a debug build takes it.
    (long.stop_timeout, long.drain) = ("30s", Duration::from_secs(20));
    try_all(vec![
        long,
        Case::new("prints binary", json!({"print": "binary"}), Trusted),
        Case::new("prints binary and dies", dies("binary"), RolledBack("exited with status 3")),
        Case::new("prints invalid UTF-8 and dies", dies("latin"), RolledBack("caf\u{fffd} ")),
        Case::new("forges log lines and dies", dies("escapes"), RolledBack("exited with status 3")),
    ]);
}

/// The agent with its own log thrown away: nobody could keep it.
fn spawn_quietly(agent: &Agent) {
    let mut shell = through_shell(agent, "exec \"$0\" \"$@\" 2> \"$LOG\"");
    shell.env("LOG", Path::new("/dev/null"));
    agent.spawn_command(shell);
}

/// 1 GB; the quick form's share of it is what a debug build on a busy host manages.
#[test]
fn a_flood() {
    let flood: u64 = if is_long() { 1_000_000_000 } else { 32_000_000 };
    let api = Api::plain();
    let agent = builder(&api, Mode::Restart).config(yaml(&good())).build();
    spawn_quietly(&agent);
    wait_good(&agent, &good());
    let ground = Ground::of(&agent);
    let flooding = config("flood", json!({"flood_bytes": flood}));
    api.answer_config(flooding.clone());
    let pid = agent.wait_start(2);
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    let began_at = Instant::now();
    wait_for("the end of the flood", Duration::from_secs(1200), || {
        let asked_at = Instant::now();
        assert_eq!(status(&agent)["collector"]["pid"], pid);
        (asked, slowest) = (asked + 1, slowest.max(asked_at.elapsed()));
        (process::io(pid).get("wchar").copied().unwrap_or_default() >= flood).then_some(())
    });
    let took = began_at.elapsed();
    assert!(slowest < Duration::from_secs(5), "a status took {slowest:?}");
    wait_good(&agent, &flooding);
    let healed_at = Instant::now();
    api.answer_config(better());
    wait_for("the good config", Duration::from_secs(60), || is_good(&agent, &better()).then_some(()));
    let name = format!("floods {} MB", flood / 1_000_000);
    let does = format!(
        "trusts it; took {:.0} s, {asked} statuses meanwhile, the slowest {} ms",
        took.as_secs_f64(),
        slowest.as_millis()
    );
    row(&name, Mode::Restart, &does, "", healed_at.elapsed());
    ground.assert_nothing_left(&agent);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_stop_amid_a_flood() {
    let api = Api::plain();
    let agent = builder(&api, Mode::Restart).config(yaml(&good())).build();
    spawn_quietly(&agent);
    wait_good(&agent, &good());
    // More than it could print before the stop.
    api.answer_config(config("flood", json!({"flood_bytes": 2_000_000_000_u64})));
    let pid = agent.wait_start(2);
    agent.wait_until("the flood", || process::io(pid).get("wchar").is_some_and(|&written| written > 1_000_000));
    let began_at = Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(began_at.elapsed() < Duration::from_secs(6), "{:?}", began_at.elapsed());
    assert_eq!(agent.processes(), [0; 0]);
}
