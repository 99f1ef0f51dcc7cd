//! Collectors that do not end when they should, leave processes behind, or stand still.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::Fate::{RolledBack, Trusted};
use super::{Case, Ground, Mode, builder, good, heal, row, status, story, try_all, wait_reported};
use crate::operation::{message, settled};
use crate::support::api::Api;
use crate::support::process;

#[test]
fn when_they_are_asked_to_end() {
    let mut deaf = Case::new("ignores SIGTERM", json!({"ignore_sigterm": true}), Trusted);
    (deaf.stop_timeout, deaf.drain) = ("2s", Duration::from_secs(2));
    let mut busy = Case::new("drains for longer than stop-timeout", json!({"drain_ms": 60_000}), Trusted);
    (busy.stop_timeout, busy.drain) = ("2s", Duration::from_secs(2));
    try_all(vec![deaf, busy]);
}

/// With the default stop-timeout of 30 s, in real time.
#[test]
fn when_they_take_25_s_to_drain() {
    let mut slow = Case::new("takes 25 s to drain", json!({"drain_ms": 25_000}), Trusted);
    (slow.stop_timeout, slow.drain, slow.is_slow) = ("30s", Duration::from_secs(25), true);
    try_all(vec![slow]);
}

#[test]
fn when_they_have_grandchildren() {
    let dying = |fork| json!({"fork": fork, "start": {"exit": 3, "after_ms": 200}});
    let mut cases = vec![
        Case::new("has a grandchild in its group that holds its pipe", json!({"fork": true}), Trusted),
        Case::new("dies before its grandchild in its group", dying("group"), RolledBack("exited with status 3")),
        Case::new("leaves a grandchild in another session", json!({"fork": "session"}), Trusted),
        Case::new(
            "dies before its grandchild in another session",
            dying("session"),
            RolledBack("exited with status 3"),
        ),
    ];
    // A grandchild may be the collector of a wrapper, so it has the whole stop-timeout.
    for case in &mut cases {
        (case.stop_timeout, case.drain) = ("2s", Duration::from_secs(2));
    }
    try_all(cases);
}

#[test]
fn when_they_stand_still_from_the_start() {
    try_all(vec![
        Case::new("stops itself (SIGSTOP)", json!({"stop_self": true}), RolledBack("is suspended by a signal")),
        Case::new("closes its outputs", json!({"close_outputs": true}), Trusted),
    ]);
}

/// By a debugger or an operator: it is reported, and not changed.
#[test]
fn when_they_are_suspended() {
    let api = Api::plain();
    let agent = settled(builder(&api, Mode::Restart).setting("stop-timeout", "30s"), &good());
    let ground = Ground::of(&agent);
    let (seen, asked, pid) = (agent.log().len(), api.requests().len(), agent.wait_collector());
    process::signal(pid, Signal::STOP);
    let report = wait_reported(&api, asked, "is suspended");
    assert!(report.contains(&format!("kill -CONT {pid}")), "no remedy: {report}");
    assert!(status(&agent)["last_error_message"].as_str().unwrap().contains("is suspended"));
    assert_eq!((agent.wait_collector(), agent.starts()), (pid, 1));

    process::signal(pid, Signal::CONT);
    let asked = api.requests().len();
    api.wait_for_request_after(asked, "no problem any more", |request| message(request).is_empty());
    assert_eq!(agent.count_log(|line| line.msg() == "collector suspended"), 1, "said once");

    // The API's request for a restart helps too, and it drains.
    process::signal(pid, Signal::STOP);
    let asked_at = Instant::now();
    api.answer(json!({"restart_required": true}));
    agent.wait_start(2);
    let took = asked_at.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}, as if it had been killed");
    agent.wait_log_after(seen, "the drain", |line| line.text.contains("Shutdown complete"));
    let story = story(&agent.log()[seen..]);
    heal(&agent, &api, Duration::ZERO);
    ground.assert_nothing_left(&agent);
    row(
        "SIGSTOP from outside",
        Mode::Restart,
        &format!("{story}, leaves it alone; a restart continues it"),
        &report,
        took,
    );

    process::signal(agent.wait_collector(), Signal::STOP);
    let began_at = Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(began_at.elapsed() < Duration::from_secs(20), "as if it had been killed");
    assert_eq!(agent.processes(), [0; 0]);
}
