//! Configs that fail in every way that a validation does not see: no client notices, and the old collector stays.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::load::{Load, Mode};
use super::{Scene, assert_seamless, counted, modes, rounds, spawn};
use crate::support::agent::Builder;
use crate::support::bin;

/// The real collector, killed as many seconds after its start as the config's `dies-after-N` says. The killer's own command
/// line has no `--config`, so that nobody counts it as a collector.
fn mortal(builder: Builder) -> Builder {
    let script = r#"#!/bin/sh
seconds=$([ "$1" != --config ] || sed -n 's/.*dies-after-\([0-9]*\).*/\1/p' "$2")
[ -z "$seconds" ] || sh -c 'sleep "$0" && kill -KILL "$1"' "$seconds" $$ </dev/null >/dev/null 2>&1 &
exec REAL "$@"
"#;
    let path = builder.dir().join("mortal");
    fs::write(&path, script.replace("REAL", &bin::collector().display().to_string())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    builder.collector(path)
}

#[test]
fn the_real_collector_dying_of_them_costs_no_client_anything() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for mode in modes() {
        let count = rounds(3, 15);
        // A probation that a death at 5 s falls into.
        let scene = Scene::built(mode, |builder| mortal(builder).setting("min-uptime", "6s"), spawn);
        let loads = scene.load();
        let old = scene.agent.wait_collector();
        for round in 0..count {
            let (mut config, reason) = match round % 3 {
                0 => (scene.config(&format!("{round} dies-at-once")), "address already in use"),
                1 => (scene.config(&format!("{round} dies-after-1")), "SIGKILL"),
                _ => (scene.config(&format!("{round} dies-after-5")), "SIGKILL"),
            };
            if round % 3 == 0 {
                let endpoint = json!({"endpoint": taken.local_addr().unwrap().to_string()});
                config["receivers"]["otlp/taken"] = json!({"protocols": {"http": endpoint}});
                config["service"]["pipelines"]["logs"]["receivers"] = json!(["otlp", "otlp/taken"]);
            }
            scene.bad_change(config, reason);
            assert_eq!(scene.agent.wait_collector(), old, "round {round}: the old collector is gone");
        }
        assert_seamless(&scene.finish(&format!("{count} bad configs, restart-mode {mode}"), loads));
    }
}

#[test]
fn a_sick_collector_costs_no_client_anything() {
    for mode in modes() {
        let count = rounds(2, 10);
        let scene = Scene::with_stand_in(mode, |builder| builder);
        let http = scene.ports.http;
        let loads = Load::start_all([(Mode::Http, http, 100, 2), (Mode::New, http, 200, 4)]);
        let old = scene.agent.wait_collector();
        for round in 0..count {
            let (key, value, reason) = match round % 2 {
                0 => ("health", json!({"port": scene.ports.health, "status": 503}), "answered 503"),
                _ => ("start", json!({"exit": 3, "after_ms": 800}), "exited with status 3"),
            };
            let mut config = scene.config(&format!("sick {round}"));
            config["fake"][key] = value;
            scene.bad_change(config, reason);
            assert_eq!(scene.agent.wait_collector(), old, "round {round}: the old collector is gone");
        }
        assert_seamless(&counted(&format!("{count} sick collectors, restart-mode {mode}"), loads));
    }
}
