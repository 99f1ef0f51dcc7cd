//! Collectors that end by themselves: at once, before and after they are trusted, by exit status and by signal.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::Fate::{RolledBack, TrustedUntil};
use super::{AT_A_TIME, Case, Ground, Mode, builder, good, is_state, row, story, try_all, wait_reported};
use crate::faults::system_calls::each_at_a_time;
use crate::operation::{seconds_between, settled};
use crate::support::api::Api;
use crate::support::process;

#[test]
fn by_exit_status() {
    try_all(vec![
        Case::new("exits with 3 at once", json!({"start": {"exit": 3}}), RolledBack("exited with status 3")),
        Case::new("exits with 0 at once", json!({"start": {"exit": 0}}), RolledBack("exited with status 0")),
        Case::new(
            "exits in the middle of its probation",
            json!({"start": {"exit": 4, "after_ms": 250}}),
            RolledBack("exited with status 4"),
        ),
    ]);
}

/// With the default min-uptime of 10 s, in real time.
#[test]
fn about_min_uptime() {
    let after = |seconds: u64| json!({"start": {"exit": 3, "after_ms": seconds * 1000}});
    try_all(vec![
        Case::new("exits at 9 s", after(9), RolledBack("after 9.")).for_real(),
        // Beside the old one it serves for 10 s before it is trusted.
        Case::new("exits at 11 s", after(11), TrustedUntil("after 11.")).beside(RolledBack("after 11.")).for_real(),
    ]);
}

const SIGNALS: [(&str, Signal); 18] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("SYS", Signal::SYS),
];

/// Each by its own hand, on probation.
#[test]
fn by_each_signal_on_probation() {
    let cases = SIGNALS.map(|(name, _)| {
        let words = format!("was killed by SIG{name}").leak();
        Case::new(&format!("dies by SIG{name}"), json!({"signal": name}), RolledBack(words))
    });
    try_all(cases.into());
}

/// Each from outside, once it is trusted: the next one is there at once.
#[test]
fn by_each_signal_once_trusted() {
    // The stand-in ignores SIGPIPE, as Rust programs do.
    let numbers: Vec<usize> = (0..SIGNALS.len()).filter(|number| SIGNALS[*number].0 != "PIPE").collect();
    each_at_a_time(AT_A_TIME, &numbers, |number| {
        killed_from_outside(SIGNALS[*number].0, SIGNALS[*number].1);
        true
    });
}

fn killed_from_outside(name: &str, signal: Signal) {
    let api = Api::plain();
    // Longer than the time between polls: the crash is reported before it is resolved.
    let agent = settled(builder(&api, Mode::Restart).setting("min-uptime", "2s"), &good());
    let ground = Ground::of(&agent);
    let (seen, asked) = (agent.log().len(), api.requests().len());
    let words = match name {
        // It handles these.
        "HUP" | "INT" | "TERM" => "exited with status 0".to_string(),
        _ => format!("was killed by SIG{name}"),
    };
    let pid = agent.wait_collector();
    // More than once: Rust's own handler for SIGSEGV and SIGBUS survives the first one, and takes itself away.
    agent.wait_until("its end", || !process::signal(pid, signal) || !process::alive(pid));
    let crash = agent.wait_log_after(seen, &words, |line| line.msg() == "collector exited unexpectedly");
    assert_eq!(crash.field("status"), words);
    let report = wait_reported(&api, asked, &words);
    agent.wait_log_after(seen, "the next one", |line| is_state(line, "running"));
    let log = agent.log();
    let started = log[seen..].iter().find(|line| line.msg() == "collector started").unwrap();
    let gap = seconds_between(&crash, started);
    assert!(gap < 1.0, "{gap} s without a collector");
    let does = format!("starts it at once; {}", story(&log[seen..]));
    row(&format!("SIG{name} from outside"), Mode::Restart, &does, &report, Duration::from_secs_f64(gap));
    ground.assert_nothing_left(&agent);
    assert_eq!(agent.stop(), 0);
    assert_eq!(agent.processes(), [0; 0]);
}
