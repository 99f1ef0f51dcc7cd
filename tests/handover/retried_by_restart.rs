//! Trials that say nothing about the config: it is not held against it, and not against the one that it replaces.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::Scene;
use crate::support::agent::Builder;
use crate::support::{bin, machine, process};

/// The stand-in, by way of a script that is gone once it has validated a config for the first time.
fn vanishing(builder: Builder) -> Builder {
    let script = r#"#!/bin/sh
[ "$1" != validate ] || [ -e "$0.gone" ] || mv "$0" "$0.gone"
exec FAKE "$@"
"#;
    let path = builder.dir().join("vanishing");
    bin::write_program(&path, &script.replace("FAKE", &bin::fake().display().to_string()));
    builder.collector(path)
}

#[test]
fn a_second_collector_that_cannot_be_started_is_not_held_against_its_config() {
    if machine::skips_hand_over() {
        return;
    }
    let scene = Scene::with_stand_in("handover", vanishing);
    let old = scene.agent.wait_collector();
    let program = scene.agent.dir().join("vanishing");
    scene.api.answer_config(scene.config("second"));
    scene.agent.wait_log("the second start's failure", |line| line.msg() == "collector not started");
    scene.agent.wait_log("a roll back", |line| line.msg() == "config rolled back");
    let status = scene.status();
    assert_eq!(status["config"]["rejected_revision"], Value::Null, "{status}");
    assert_eq!((scene.agent.wait_collector(), scene.is_good("first")), (old, true), "{status}");
    bin::copy_program(&program.with_extension("gone"), &program);
    scene.watch("verdict on that config", || scene.is_good("second"));
    let status = scene.status();
    assert_eq!(status["config"]["changed_by"], "restart (an earlier hand-over to this config failed)");
    assert_eq!(status["config"]["rejected_revision"], Value::Null, "{status}");
}

/// An operator repairs the host with the former config while a bad config is on probation.
#[test]
fn the_former_config_put_back_by_hand_is_never_rejected() {
    if machine::skips_hand_over() {
        return;
    }
    for mode in ["restart", "handover"] {
        let scene = Scene::with_stand_in(mode, |builder| builder.setting("min-uptime", "5s"));
        let old = scene.agent.wait_collector();
        let seen = scene.agent.log().len();
        scene.api.answer_config(scene.config("bad"));
        let on_trial = scene.agent.wait_start(2);
        // The agent has looked whether it is on trial.
        scene.agent.wait_log_after(seen, "the trial", |line| {
            line.msg() == "collector state" && ["starting", "handing-over"].contains(&line.field("to"))
        });
        // Once it has asked, nobody sends that config again.
        scene.api.answer(json!({}));
        fs::write(scene.agent.config_file(), scene.agent.proved()).unwrap();
        process::signal(on_trial, Signal::KILL);
        scene.agent.wait_log("a roll back", |line| line.msg() == "config rolled back");
        let status = scene.agent.wait_status("running", |status| status["collector"]["state"] == "running");
        assert_eq!(status["config"]["rejected_revision"], Value::Null, "{mode}: {status}");
        assert!(scene.is_good("first"), "{mode}: {status}");
        assert_eq!(scene.agent.wait_collector() == old, mode == "handover", "{mode}: {status}");
    }
}
