//! Configs that fail in ways which a validation does not see: no client notices, and the old collector stays.

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::json;

use super::load::Report;
use super::phases::two;
use super::{Scene, assert_seamless, counted, rounds, spawn};
use crate::support::agent::Builder;
use crate::support::wait::{slowness, wait_until};
use crate::support::{bin, machine, process};

/// When in its short life the new collector dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    Started,
    Ready,
    /// It gets the new connections, and has passed on records.
    Served,
}

/// The real collector. With a config that is called sick it has a child that listens at its health check before it
/// does, and answers 503.
fn sickly(builder: Builder) -> Builder {
    let script = r#"#!/bin/sh
# It returns when the child has closed its stdout, and so listens.
[ "$1" = --config ] && grep -q 'value: sick' "$2" || exec REAL "$@"
config=$2 own=${0%/*}/sick.yaml
listens=$(python3 -c '
import os, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.close(1)
while True:
    client, _ = server.accept()
    client.recv(4096)
    client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    client.close()
' "$(sed -n '/health_check:/,/endpoint:/s/.*endpoint: .*:\([0-9]*\).*/\1/p' "$config")" </dev/null 2>/dev/null &)
# Its own health check goes elsewhere, since nobody may listen twice.
sed '/health_check:/,/endpoint:/s/endpoint: .*/endpoint: 127.0.0.1:0/' "$config" >"$own"
shift 2
exec REAL --config "$own" "$@"
"#;
    let path = builder.dir().join("sickly");
    bin::write_program(&path, &script.replace("REAL", &super::collector().display().to_string()));
    builder.collector(path)
}

/// A scene with a probation that leaves time to do something in it: the long form has the agent's default.
#[track_caller]
fn scene() -> Scene {
    let min_uptime = format!("{}s", rounds(3, 10) * slowness() as usize);
    Scene::built("handover", |builder| sickly(builder).setting("min-uptime", min_uptime), spawn)
}

/// Pushes a config whose collector gets `signal` at that moment, and waits until it has been rejected for one of
/// `reasons`.
#[track_caller]
fn die(scene: &Scene, round: usize, signal: Signal, moment: Moment, reasons: &[&str]) {
    let name = format!("{signal:?} when {moment:?}, {round}");
    let (before, seen) = (scene.status(), scene.agent.log().len());
    let (old, new) = two(scene, scene.config(&name));
    match moment {
        Moment::Started => {}
        Moment::Ready => {
            scene.agent.wait_log_after(seen, "a new collector that is ready", |line| {
                line.is_collector() && line.text.contains("Everything is ready")
            });
        }
        Moment::Served => {
            scene.agent.wait_log_after(seen, "a new collector that serves", |line| {
                line.msg() == "new connections go to the new collector"
            });
            wait_until("records by way of it", || scene.sink.came_by(&name));
        }
    }
    assert!(process::signal(new, signal));
    scene.wait_rejected(&before, reasons);
    assert_eq!(scene.agent.wait_collector(), old, "{name}: the old collector is gone");
}

#[test]
fn that_end_the_collector_cost_no_client_anything() {
    if machine::skips_hand_over() {
        return;
    }
    let count = rounds(3, 12);
    let scene = scene();
    let loads = scene.load();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    // It says that it is ready a moment before it catches the signal.
    let ended = ["exited with status 0", "was killed by SIGTERM"];
    for round in 0..count {
        match round % 3 {
            0 => {
                let mut config = scene.config(&format!("port taken, {round}"));
                let endpoint = json!({"endpoint": taken.local_addr().unwrap().to_string()});
                config["receivers"]["otlp/taken"] = json!({"protocols": {"http": endpoint}});
                config["service"]["pipelines"]["logs"]["receivers"].as_array_mut().unwrap().push(json!("otlp/taken"));
                let (before, seen, old) = (scene.status(), scene.agent.log().len(), scene.agent.wait_collector());
                scene.api.answer_config(config);
                // It is not rejected, and not tried again while the port is taken.
                scene.agent.wait_log_after(seen, "a roll back", |line| {
                    line.msg() == "what failed is outside the config; it will be tried again"
                });
                let status = scene.agent.wait_status("the old collector alone", |status| {
                    status["collector"]["state"] == "running" && scene.agent.collectors().len() == 1
                });
                assert_eq!(scene.agent.wait_collector(), old, "the old collector is gone");
                assert_eq!(status["config"]["rejected_revision"], before["config"]["rejected_revision"]);
            }
            1 => die(&scene, round, Signal::TERM, Moment::Started, &ended),
            _ => die(&scene, round, Signal::TERM, Moment::Ready, &ended),
        }
    }
    assert_seamless(&scene.finish(&format!("{count} configs that end the collector"), loads), count);
}

#[test]
fn that_kill_the_collector_cost_no_client_anything() {
    if machine::skips_hand_over() {
        return;
    }
    let count = rounds(2, 8);
    let scene = scene();
    let loads = scene.load();
    for round in 0..count {
        let moment = if round % 2 == 0 { Moment::Started } else { Moment::Ready };
        die(&scene, round, Signal::KILL, moment, &["was killed by SIGKILL"]);
    }
    assert_seamless(&scene.finish(&format!("{count} configs that kill the collector"), loads), count);
}

/// When it ends by itself nobody can have new connections go elsewhere before: each client loses as many in each of
/// `deaths`.
#[track_caller]
fn assert_only_its_own(reports: &[Report], deaths: usize, each: usize) {
    for report in reports {
        assert_eq!((report.refused, report.other), (0, 0), "there was always someone to connect to: {report:?}");
        let most = u64::from(report.workers) * (deaths * each) as u64;
        assert!(report.reset + report.stale <= most, "more than {each} a client and death: {report:?}");
        assert!(report.sent - report.acknowledged <= report.reset, "{report:?}");
    }
}

/// It drains, as a collector does that finds an error in the middle of its work.
#[test]
fn that_end_a_collector_which_serves_cost_no_more_than_its_own_connections() {
    if machine::skips_hand_over() {
        return;
    }
    let count = rounds(1, 6);
    let scene = scene();
    let loads = scene.load();
    for round in 0..count {
        die(&scene, round, Signal::TERM, Moment::Served, &["exited with status 0"]);
    }
    let title = format!("{count} configs that end the collector when it serves");
    // Go closes the listener first: what waits to be accepted is lost.
    assert_only_its_own(&scene.finish(&title, loads), count, 1);
}

/// What it has acknowledged and not passed on is lost, too.
#[test]
fn that_kill_a_collector_which_serves_cost_no_more_than_its_own_connections() {
    if machine::skips_hand_over() {
        return;
    }
    let count = rounds(1, 6);
    let scene = scene();
    let loads = scene.load();
    for round in 0..count {
        die(&scene, round, Signal::KILL, Moment::Served, &["was killed by SIGKILL"]);
    }
    let reports = counted(&format!("{count} configs that kill the collector when it serves"), loads);
    // The kernel closes one descriptor after another: who loses a connection may come once more before the listener's
    // turn.
    assert_only_its_own(&reports, count, 2);
}

/// They have served for as long as the old one has to wait, and go back by way of a roll back.
#[test]
fn that_make_it_sick_cost_no_client_anything() {
    if machine::skips_hand_over() {
        return;
    }
    let count = rounds(1, 10);
    let scene = scene();
    let loads = scene.load();
    let old = scene.agent.wait_collector();
    for round in 0..count {
        let name = format!("sick {round}");
        scene.bad_change(scene.config(&name), "answered 503");
        assert!(scene.sink.came_by(&name), "{name}: it has not served");
        assert_eq!(scene.agent.wait_collector(), old, "{name}: the old collector is gone");
    }
    assert_seamless(&scene.finish(&format!("{count} sick collectors"), loads), count);
}
