//! Collectors whose own judgement of a config cannot be relied on: `validate` hangs, is killed, is missing, lies.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Fate::{Postponed, Refused, RolledBack, Trusted};
use super::program::{place_program, place_script};
use super::{Case, Ground, Mode, better, builder, good, is_good, row, story, try_all, wait_reported};
use crate::faults::system_calls::is_long;
use crate::operation::{message, settled};
use crate::support::api::Api;
use crate::support::wait::wait_for;
use crate::support::{bin, process};

/// For the default of validate-timeout, 30 s; the quick form has less patience.
#[test]
fn validate_hangs() {
    let (timeout, words) = if is_long() { ("30s", "did not end within 30s") } else { ("3s", "did not end within 3s") };
    let mut hangs = Case::new("validate hangs", json!({"validate": "hang"}), Postponed(words));
    // A good config is looked for when it has been given up.
    (hangs.validate_timeout, hangs.drain, hangs.is_slow) = (timeout, Duration::from_secs(30), true);
    try_all(vec![hangs]);
}

#[test]
fn validate() {
    try_all(vec![
        Case::new("validate is killed", json!({"validate": "killed"}), Postponed("was killed by SIGKILL before")),
        Case::new("validate says bad", json!({"validate": "fail"}), Refused("scripted to refuse this config")),
        Case::new("validate is no command", json!({"validate": "missing"}), Trusted),
        Case::new("validate says good, it dies", json!({"start": {"exit": 3}}), RolledBack("exited with status 3")),
        Case::new(
            "validate is no command, it dies",
            json!({"validate": "missing", "start": {"exit": 3}}),
            RolledBack("exited with status 3"),
        ),
    ]);
}

/// An old collector says that a good config is bad, or dies of it; then a newer one is installed, and nobody sends
/// anything else.
fn corrected(name: &str, mode: Mode, old_collector: &str, words: &str) {
    let api = Api::plain();
    let builder = builder(&api, mode);
    let path = builder.dir().join("collector");
    let script = old_collector.replace("$NEW", &bin::fake().display().to_string());
    place_script(&path, &script);
    let agent = settled(builder.collector(&path), &good());
    let ground = Ground::of(&agent);
    let old = agent.wait_collector();
    let (seen, asked) = (agent.log().len(), api.requests().len());
    api.answer_config(better());
    let report = wait_reported(&api, asked, words);
    let rejected = agent.state_dir().join("rejected.json");
    agent.wait_until("the rejection", || rejected.exists());
    // As long as the collector is what it is, it is not tried again.
    let asked = api.requests().len();
    agent.wait_until("two more polls", || api.requests().len() >= asked + 2);
    let tries = agent.records_of("validate").len() + agent.starts();
    let tried =
        agent.count_log(|line| line.msg() == "config installed" || line.msg().starts_with("new config rejected"));
    assert_eq!((tried, agent.config()), (1, good()), "after {tries} tries");
    if mode == Mode::HandOver {
        assert!(process::alive(old), "a running collector was given up");
    }

    let (from, asked) = (Instant::now(), api.requests().len());
    place_program(&path);
    agent.wait_until("the active config promoted", || is_good(&agent, &better()));
    api.wait_for_request_after(asked, "no problem", |request| message(request).is_empty());
    let took = from.elapsed();
    wait_for("a single collector", crate::support::wait::DEADLINE, || (agent.collectors().len() == 1).then_some(()));
    ground.assert_nothing_left(&agent);
    row(name, mode, &format!("{}; tries it again with the new collector", story(&agent.log()[seen..])), &report, took);
    assert_eq!(agent.stop(), 0);
    assert_eq!(agent.processes(), [0; 0]);
}

#[test]
fn validate_says_bad_of_a_good_config_until_the_collector_is_corrected() {
    let script = r#"[ "$1" = validate ] && grep -q better "$3" && { echo "Error: unknown type: better" >&2; exit 1; }
exec $NEW "$@""#;
    corrected("validate says bad of a good config", Mode::Restart, script, "unknown type: better");
}

#[test]
fn a_collector_dies_of_a_good_config_until_it_is_corrected() {
    let script = r#"[ "$1" = --config ] && grep -q better "$2" && { echo "panic: better" >&2; exit 2; }
exec $NEW "$@""#;
    for mode in [Mode::Restart, Mode::HandOver] {
        corrected("the collector has a bug, not the config", mode, script, "panic: better");
    }
}
