//! What is mounted: a config that outlives its container, and one that cannot be replaced.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::container::{Run, Volumes};
use super::{collector_config, wait_running};
use crate::support::agent::Line;
use crate::support::api::Api;
use crate::support::needs;
use crate::support::process::{self, free_port};
use crate::support::temp_dir::TempDir;

fn asking<'a>(volumes: &Volumes, api: &Api) -> Run<'a> {
    let run = Run::new(volumes).env("KM_API_KEY", "key").env("KM_UPDATE_ENDPOINT", api.url());
    run.env("KM_CONFIG_CHECK_INTERVAL", "1s").env("KM_MIN_UPTIME", "1s")
}

fn warns_of_the_mount(line: &Line) -> bool {
    line.level() == "warn" && line.msg().contains("mounted as a single file")
}

#[test]
fn a_config_from_the_api_outlives_the_container() {
    if !needs::root() {
        return;
    }
    let (volumes, api) = (Volumes::new(), Api::plain());
    let config = collector_config(free_port());
    let mut first = asking(&volumes, &api).start();
    first.wait_log("the default config", |line| line.msg().contains("installed the default one"));
    let shipped = fs::read_to_string(volumes.config_file()).unwrap();
    assert_eq!(shipped, crate::support::source::read("dist/docker/config.yaml"));
    // Without what compose.yaml mounts it does not work, which is reported, and so can be fixed remotely.
    api.wait_for_request("a problem", |request| {
        request.json()["last_error_message"]
            .as_str()
            .is_some_and(|text| text.contains("receivers::host_metrics (no such file or directory)"))
    });
    assert!(!first.is_healthy(), "no collector runs");
    api.answer_config(config.clone());
    wait_running(&first);
    assert!(first.is_healthy());
    let request = api.wait_for_request("that it runs", |request| request.json()["last_error_message"] == "").json();
    assert_eq!((&request["platform"], &request["is_docker"]), (&json!("docker"), &json!(true)));
    assert_eq!(first.stop(), 0);

    api.answer(json!({"restart_required": false, "config": null}));
    let mut second = asking(&volumes, &api).start();
    wait_running(&second);
    let active: serde_json::Value = serde_yaml::from_str(&fs::read_to_string(volumes.config_file()).unwrap()).unwrap();
    assert_eq!(active, config);
    assert!(process::listens(second.collector(), config_port(&config)));
    let unexpected = |line: &Line| line.msg().contains("default") || warns_of_the_mount(line);
    assert!(!second.log().iter().any(unexpected));
    assert_eq!(second.stop(), 0);
}

fn config_port(config: &serde_json::Value) -> u16 {
    let endpoint = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].as_str().unwrap();
    endpoint.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_config_that_is_a_mount_is_reported_before_it_matters() {
    if !needs::root() {
        return;
    }
    let (volumes, api, dir) = (Volumes::new(), Api::plain(), TempDir::new());
    let file = dir.join("config.yaml");
    fs::write(&file, "name: mounted").unwrap();
    fs::create_dir_all(volumes.config()).unwrap();
    let run = asking(&volumes, &api).fake().mount(&file, "/etc/kmagent/config.yaml", "");
    let mut container = run.start();
    container.wait_log("the warning", warns_of_the_mount);
    wait_running(&container);
    let request = api.wait_for_next();
    assert_eq!(request.json()["last_error_message"], "", "nothing has failed yet");
    let collector = container.collector();
    api.answer_config(json!({"name": "new"}));
    api.wait_for_request("the reason and the remedy", |request| {
        let text = request.json()["last_error_message"].as_str().unwrap_or_default().to_string();
        text.contains("mount the directory instead of the single file")
    });
    assert_eq!(container.collector(), collector, "what runs is not touched");
    assert_eq!(fs::read_to_string(&file).unwrap(), "name: mounted");
    assert_eq!(container.stop(), 0);
    let left: Vec<_> = fs::read_dir(volumes.config()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [Path::new("config.yaml")], "no candidate is left behind");
}

/// What has proved itself goes before it.
#[test]
fn the_default_config_is_only_for_the_first_start() {
    if !needs::root() {
        return;
    }
    let volumes = Volumes::new();
    fs::create_dir_all(volumes.state()).unwrap();
    fs::write(volumes.state().join("last-known-good.yaml"), "name: good\n").unwrap();
    let mut container = Run::new(&volumes).fake().env("KM_MIN_UPTIME", "500ms").start();
    wait_running(&container);
    assert_eq!(fs::read_to_string(volumes.config_file()).unwrap(), "name: good\n");
    assert_eq!(container.stop(), 0);
}
