//! Configs that fail in ways which a validation does not see: no client notices, and the old collector stays.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::load::{Load, Mode};
use super::{Scene, assert_seamless, counted, rounds, spawn};
use crate::support::agent::Builder;
use crate::support::{bin, machine};

/// The real collector, which gets a signal as many seconds after its start as the config's name says: `KILL-after-5`. The
/// sender's own command line has no `--config`, so that nobody counts it as a collector.
fn mortal(builder: Builder) -> Builder {
    let script = r#"#!/bin/sh
death=$([ "$1" != --config ] || sed -n 's/.*value: \([A-Z]*\)-after-\([0-9]*\).*/\1 \2/p' "$2")
[ -z "$death" ] || sh -c 'sleep "$2" && kill "-$1" "$0"' $$ $death </dev/null >/dev/null 2>&1 &
exec REAL "$@"
"#;
    let path = builder.dir().join("mortal");
    fs::write(&path, script.replace("REAL", &bin::collector().display().to_string())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    builder.collector(path)
}

/// Pushes `count` configs, with the probation that the agent has by default, and what each is to be rejected for.
#[track_caller]
fn expect_unnoticed(title: &str, count: usize, config: impl Fn(&Scene, usize) -> (Value, &'static str)) {
    let scene = Scene::built("handover", |builder| mortal(builder).setting("min-uptime", "10s"), spawn);
    let loads = scene.load();
    let old = scene.agent.wait_collector();
    for round in 0..count {
        let (config, reason) = config(&scene, round);
        scene.bad_change(config, reason);
        assert_eq!(scene.agent.wait_collector(), old, "round {round}: the old collector is gone");
    }
    assert_seamless(&scene.finish(title, loads), count);
}

#[test]
fn that_end_the_collector_cost_no_client_anything() {
    if machine::skips_hand_over() {
        return;
    }
    let count = rounds(3, 12);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    expect_unnoticed(&format!("{count} configs that end the collector"), count, |scene, round| match round % 3 {
        0 => {
            let mut config = scene.config(&format!("port taken, {round}"));
            let endpoint = json!({"endpoint": taken.local_addr().unwrap().to_string()});
            config["receivers"]["otlp/taken"] = json!({"protocols": {"http": endpoint}});
            config["service"]["pipelines"]["logs"]["receivers"] = json!(["otlp", "otlp/taken"]);
            (config, "address already in use")
        }
        // It drains, as a collector does that finds an error in the middle of its work.
        // On a busy host it may not have got so far as to catch the signal.
        1 => (scene.config(&format!("TERM-after-1, {round}")), "the collector "),
        _ => (scene.config(&format!("TERM-after-5, {round}")), "exited with status 0"),
    });
}

/// What a killed collector had in its hands is lost. So for this the new one may not serve before it has lived for a while.
#[test]
fn that_kill_the_collector_cost_no_client_anything() {
    if machine::skips_hand_over() {
        return;
    }
    let count = rounds(2, 8);
    expect_unnoticed(&format!("{count} configs that kill the collector"), count, |scene, round| match round % 2 {
        0 => (scene.config(&format!("KILL-after-1, {round}")), "SIGKILL"),
        _ => (scene.config(&format!("KILL-after-5, {round}")), "SIGKILL"),
    });
}

#[test]
fn that_make_it_sick_cost_no_client_anything() {
    if machine::skips_hand_over() {
        return;
    }
    let count = rounds(2, 10);
    let scene = Scene::with_stand_in("handover", |builder| builder);
    let http = scene.ports.http;
    let loads = Load::start_all([(Mode::Http, http, 100, 2), (Mode::New, http, 200, 4)]);
    let old = scene.agent.wait_collector();
    for round in 0..count {
        let mut config = scene.config(&format!("sick {round}"));
        // On the port where the old one is well.
        config["fake"]["health"] = json!({"port": scene.ports.health, "status": 503});
        scene.bad_change(config, "answered 503");
        assert_eq!(scene.agent.wait_collector(), old, "round {round}: the old collector is gone");
    }
    assert_seamless(&counted(&format!("{count} sick collectors"), loads), count);
}
