//! The same where the kernel keeps processes from looking into each other: Yama's ptrace_scope (ptrace(2)).
//!
//! ```text
//!   1   only ancestors may: the agent is its collector's
//!   2   only CAP_SYS_PTRACE may: root
//!   3   nobody may, until the next boot
//! ```
//! The tests change that for the whole machine, so they run in one of their own: tests/vm/yama.

use std::fs;

use serde_json::Value;

use super::confined::{ORDINARY, for_nobody, spawn_as_nobody};
use super::load::{Load, Mode};
use super::{Scene, assert_seamless};

const SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";
const REFUSED: &str = ": Operation not permitted";

#[track_caller]
fn set_scope(scope: &str) {
    fs::write(SCOPE, scope).unwrap();
    assert_eq!(fs::read_to_string(SCOPE).unwrap().trim(), scope);
}

fn as_root() -> Scene {
    Scene::new("handover")
}

fn as_nobody() -> Scene {
    let settings = |builder| for_nobody(builder, &super::collector());
    Scene::built("handover", settings, |agent| spawn_as_nobody(agent, &ORDINARY))
}

fn load(scene: &Scene) -> Vec<Load> {
    Load::start_all([(Mode::New, scene.ports.http, 200, 2)])
}

#[track_caller]
fn expect_hand_over(scene: &Scene, name: &str) {
    let change = scene.change(name);
    assert_eq!((change.overlap, changed_by(scene).as_str()), (true, "hand-over"), "{name}");
}

/// It takes effect all the same, at once, and for the reason given.
#[track_caller]
fn expect_restart(scene: &Scene, name: &str) {
    let change = scene.change(name);
    let words = changed_by(scene);
    assert!(!change.overlap && words.starts_with("restart (") && words.contains(REFUSED), "{name}: {words}");
}

/// Of a change that was accepted.
#[track_caller]
fn changed_by(scene: &Scene) -> String {
    let status = scene.status();
    assert_eq!(status["config"]["rejected_revision"], Value::Null, "{status}");
    status["config"]["changed_by"].as_str().unwrap_or_default().to_string()
}

#[test]
#[ignore = "changes a setting of the whole machine: tests/vm/yama"]
fn scope_2_is_for_root() {
    set_scope("2");
    let scene = as_root();
    let loads = load(&scene);
    expect_hand_over(&scene, "second");
    assert_seamless(&scene.finish("ptrace_scope 2, as root", loads), 1);

    let scene = as_nobody();
    let loads = load(&scene);
    expect_restart(&scene, "second");
    expect_restart(&scene, "third");
    scene.finish("ptrace_scope 2, as an ordinary user", loads);
    set_scope("1");
}

#[test]
#[ignore = "changes a setting of the whole machine: tests/vm/yama"]
fn a_scope_that_rises_under_a_running_agent() {
    set_scope("1");
    let scene = as_nobody();
    let loads = load(&scene);
    expect_hand_over(&scene, "second");
    set_scope("2");
    expect_restart(&scene, "third");
    expect_restart(&scene, "fourth");
    set_scope("1");
    // The collector that runs was started when nobody could look.
    expect_restart(&scene, "fifth");
    expect_hand_over(&scene, "sixth");
    scene.finish("ptrace_scope 1, 2 and 1 again, as an ordinary user", loads);
}

/// The last one: there is no way back.
#[test]
#[ignore = "changes a setting of the whole machine: tests/vm/yama"]
fn scope_3_is_for_nobody() {
    set_scope("1");
    let scene = as_root();
    let loads = load(&scene);
    expect_hand_over(&scene, "second");
    set_scope("3");
    expect_restart(&scene, "third");
    scene.finish("ptrace_scope 1, then 3, as root", loads);

    for (scene, who) in [(as_root(), "root"), (as_nobody(), "an ordinary user")] {
        let loads = load(&scene);
        expect_restart(&scene, "second");
        scene.finish(&format!("ptrace_scope 3, as {who}"), loads);
    }
}
