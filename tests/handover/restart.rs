//! `restart`, and a value of the environment that has changed: the unchanged config is handed over to.

use std::fs;

use serde_json::json;

use super::load::{Load, Mode};
use super::{Scene, counted};
use crate::support::bin::{self, copy_program};
use crate::support::machine;

fn load(scene: &Scene) -> Vec<Load> {
    Load::start_all([(Mode::New, scene.ports.http, 200, 4)])
}

#[track_caller]
fn expect_no_failure(title: &str, loads: Vec<Load>) {
    for report in counted(title, loads) {
        assert_eq!((report.refused, report.reset), (0, 0), "{report:?}");
    }
}

#[test]
fn a_new_program_takes_over_without_a_lost_connection() {
    if machine::skips_hand_over() {
        return;
    }
    let mut program = None;
    let scene = Scene::with_stand_in("auto", |builder| {
        let path = builder.dir().join("otelcol");
        copy_program(&bin::fake(), &path);
        program = Some(path.clone());
        builder.collector(path)
    });
    let program = program.unwrap();
    let loads = load(&scene);
    let old = scene.agent.wait_collector();
    fs::remove_file(&program).unwrap();
    copy_program(&bin::fake(), &program);
    assert_eq!(scene.agent.run(["restart"]).says(), "collector restarted, by hand-over\n");
    scene.agent.wait_until("the old one's end", || scene.agent.collectors().len() == 1);
    let new = scene.agent.wait_collector();
    assert_ne!(new, old);
    assert!(fs::read_link(format!("/proc/{old}/exe")).is_err());
    assert_eq!(fs::read_link(format!("/proc/{new}/exe")).unwrap(), program);

    // One that fails beside it takes nothing away, and the config is no worse than it was.
    fs::remove_file(&program).unwrap();
    let fails = "#!/bin/sh\n[ \"$1\" = validate ] && exit 0; echo a new bug >&2; exit 3\n";
    bin::write_program(&program, fails);
    scene.agent.run(["restart"]).fails(69, "a new bug");
    assert_eq!(scene.agent.wait_collector(), new);
    let status = scene.status();
    assert_eq!(status["config"]["rejected_revision"], json!(null), "{status}");
    assert!(status["last_error_message"].as_str().unwrap().contains("a new bug"), "{status}");
    fs::remove_file(&program).unwrap();
    copy_program(&bin::fake(), &program);
    scene.agent.run(["restart"]).says();
    assert_eq!(scene.status()["last_error_message"], "");
    scene.agent.wait_until("its predecessor's end", || scene.agent.collectors().len() == 1);
    expect_no_failure("3 restarts of the collector", loads);
}

#[test]
fn a_rotated_key_and_a_request_of_the_api_too() {
    if machine::skips_hand_over() {
        return;
    }
    let mut file = None;
    let scene = Scene::with_stand_in("auto", |builder| {
        let path = builder.dir().join("rotated.key");
        fs::write(&path, "first-key").unwrap();
        file = Some(path.clone());
        builder.without("api-key").setting("api-key-file", path.display().to_string())
    });
    let mut config = scene.config("second");
    config["token"] = json!("${env:KM_API_KEY}");
    scene.api.answer_config(config);
    scene.agent.wait_until("a config that refers to the key", || scene.is_good("second"));
    scene.agent.wait_until("its predecessor's end", || scene.agent.collectors().len() == 1);
    let (loads, old) = (load(&scene), scene.agent.wait_collector());
    fs::write(file.unwrap(), "second-key").unwrap();
    scene.agent.run(["reload"]).says();
    let change = scene.watch("a collector with the new key", || scene.agent.wait_collector() != old);
    assert!(change.overlap);
    let keys = scene.agent.records_of("run").iter().map(|it| it["env"]["KM_API_KEY"].clone()).collect::<Vec<_>>();
    assert_eq!(keys, ["first-key", "first-key", "second-key"]);

    // Answers in a row that ask for one are one request, and the config came with one.
    let asked = scene.api.requests().len();
    scene.api.answer(json!({}));
    scene.api.wait_for_request_after(asked + 1, "an answer without a request", |_| true);
    let starts = scene.agent.starts();
    scene.api.answer(json!({"restart_required": true}));
    let change =
        scene.watch("the API's restart", || scene.agent.starts() == starts + 1 && scene.agent.collectors().len() == 1);
    assert!(change.overlap);
    expect_no_failure("a rotated key, and a restart", loads);
}
