//! What a config could make the collector do on a host: with the default policy it never gets the config, and without
//! one it does it, so that these are attacks.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Site, message, settled};
use crate::support::agent::{Agent, Builder};
use crate::support::bin;
use crate::support::otlp;

/// What the config leaves on the host, in a directory of the test.
struct Attack {
    /// Made from the config that runs, and that directory.
    config: fn(Value, &Path) -> Value,
    rule: &'static str,
    place: &'static str,
}

const LEFT: &str = "left";

fn program(mut config: Value, dir: &Path) -> Value {
    config["receivers"]["journald"] = json!({"journalctl_path": dir.join("program")});
    config["service"]["pipelines"]["logs"]["receivers"] = json!(["otlp", "journald"]);
    config
}

fn log_lines(mut config: Value, dir: &Path) -> Value {
    config["exporters"]["debug"] = json!({"verbosity": "detailed"});
    config["service"]["pipelines"]["logs"]["exporters"] = json!(["otlp_http", "debug"]);
    config["service"]["telemetry"]["logs"] = json!({"encoding": "console", "output_paths": [dir.join(LEFT)]});
    config
}

fn operator(mut config: Value, dir: &Path) -> Value {
    config["receivers"]["filelog"] = json!({
        "include": [dir.join("program")],
        "start_at": "beginning",
        "operators": [{"type": "file_output", "path": dir.join(LEFT), "format": "a line: {{.Body}}\n"}],
    });
    config["service"]["pipelines"]["logs"]["receivers"] = json!(["otlp", "filelog"]);
    config
}

fn storage(mut config: Value, dir: &Path) -> Value {
    config["extensions"] = json!({"file_storage": {"directory": dir.join(LEFT), "create_directory": true}});
    config["service"]["extensions"] = json!(["file_storage"]);
    config
}

/// An agent in whose directory there is a program that leaves something.
fn host(builder: Builder) -> (Builder, PathBuf) {
    let dir = builder.dir().to_path_buf();
    let left = dir.join(LEFT).display().to_string();
    bin::write_program(&dir.join("program"), &format!("#!/bin/sh\n: >'{left}'\nexec sleep 1000\n"));
    (builder, dir)
}

/// Offers the config to an agent with this policy file, and waits for the refusal.
#[track_caller]
fn expect_refused(policy: &str, attack: &Attack) -> Agent {
    let site = Site::new();
    let (builder, dir) = host(site.builder());
    let path = dir.join("policy.yaml");
    fs::write(&path, policy.replace("DIR", dir.to_str().unwrap())).unwrap();
    let agent = settled(builder.setting("policy", path.display().to_string()), &site.config());
    let pid = agent.wait_collector();
    site.api.answer_config((attack.config)(site.config(), &dir));
    let report = site.api.wait_for_request("the refusal", |request| message(request).contains("the policy refuses"));
    let report = message(&report);
    assert!(report.contains(&format!("{}: ", attack.place)), "{report}");
    assert!(report.contains(&format!("(rule {})", attack.rule)), "{report}");
    site.delivers(&agent, "as if nothing had been");
    assert_eq!((agent.wait_collector(), agent.config()), (pid, site.config()));
    assert!(!dir.join(LEFT).exists(), "it was left");
    agent
}

/// The same with a policy that does not refuse it: it comes about.
#[track_caller]
fn expect_left(policy: &str, attack: &Attack) {
    expect_left_by(bin::collector(), policy, attack);
}

#[track_caller]
fn expect_left_by(collector: PathBuf, policy: &str, attack: &Attack) {
    let site = Site::new();
    let (builder, dir) = host(site.builder().collector(collector));
    let path = dir.join("policy.yaml");
    fs::write(&path, policy).unwrap();
    let agent = settled(builder.setting("policy", path.display().to_string()), &site.config());
    site.api.answer_config((attack.config)(site.config(), &dir));
    agent.wait_until("what it leaves", || {
        // What the debug exporter prints.
        let _ = otlp::send_log(site.otlp, "a line");
        let left = dir.join(LEFT);
        left.is_dir() || fs::read_to_string(left).is_ok_and(|text| attack.rule != "files" || text.contains("a line"))
    });
}

#[test]
fn a_program_that_a_config_names_is_not_run() {
    let attack = Attack { config: program, rule: "programs", place: "receivers::journald::journalctl_path" };
    expect_refused("", &attack);
    expect_left("allow: [receivers::journald]", &attack);
}

/// The kubeconfig is named by a file that the policy never sees.
#[test]
fn a_program_that_a_file_of_scrape_configs_leads_to_is_not_run() {
    fn scrape_config_files(mut config: Value, dir: &Path) -> Value {
        let run = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": dir.join("program"), "interactiveMode": "Never",
        });
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"exec": run}}],
        });
        let discovery = json!([{"role": "pod", "kubeconfig_file": dir.join("kubeconfig.yaml")}]);
        let scrapes = json!({"scrape_configs": [{"job_name": "a", "kubernetes_sd_configs": discovery}]});
        fs::write(dir.join("kubeconfig.yaml"), kubeconfig.to_string()).unwrap();
        fs::write(dir.join("scrapes.yaml"), scrapes.to_string()).unwrap();
        config["receivers"]["prometheus"] = json!({"config": {"scrape_config_files": [dir.join("scrapes.yaml")]}});
        config["service"]["pipelines"]["metrics"] = json!({"receivers": ["prometheus"], "exporters": ["otlp_http"]});
        config
    }
    let place = "receivers::prometheus::config::scrape_config_files";
    let attack = Attack { config: scrape_config_files, rule: "programs", place };
    expect_refused("", &attack);
    // The small collector does not have it.
    if let Some(collector) = std::env::var_os("KM_FULL") {
        expect_left_by(collector.into(), "allow: [receivers::prometheus]", &attack);
    }
}

#[test]
fn a_file_that_a_config_names_is_not_written_by_the_log() {
    let attack = Attack { config: log_lines, rule: "files", place: "service::telemetry::logs::output_paths" };
    expect_refused("", &attack);
    expect_left("allow: [service::telemetry::logs]", &attack);
}

#[test]
fn a_file_that_a_config_names_is_not_written_by_an_operator() {
    let attack = Attack { config: operator, rule: "files", place: "receivers::filelog::operators::0" };
    expect_refused("", &attack);
    expect_left("allow: ['receivers::*::operators']", &attack);
}

/// Under the default policy it is made, as a receiver's offsets need one: alone it neither holds a text of the config's
/// choice nor runs.
#[test]
fn a_storage_is_made_in_the_folders_that_the_policy_names() {
    let attack = Attack { config: storage, rule: "paths", place: "extensions::file_storage::directory" };
    expect_refused("paths: [DIR/storage]", &attack);
    expect_left("", &attack);
}

#[test]
fn a_file_that_a_config_refers_to_is_not_read() {
    fn level(mut config: Value, dir: &Path) -> Value {
        fs::write(dir.join("shadow"), "root-secret-hash").unwrap();
        config["service"]["telemetry"]["logs"]["level"] = json!(format!("x${{file:{}}}", dir.join("shadow").display()));
        config
    }
    let attack = Attack { config: level, rule: "providers", place: "service::telemetry::logs::level" };
    let agent = expect_refused("", &attack);
    let said: String = agent.log().iter().map(|line| line.text.as_str()).collect();
    assert!(!said.contains("root-secret-hash"), "{said}");
}

/// The collector's own way with references, which the policy's walk is made after.
#[test]
fn the_collector_takes_references_and_keys_as_the_policy_does() {
    fn several_keys(mut config: Value, dir: &Path) -> Value {
        config = log_lines(config, dir);
        let logs = config["service"]["telemetry"]["logs"].take();
        config["service"]["telemetry"].as_object_mut().unwrap().remove("logs");
        config["service"]["telemetry::logs"] = logs;
        config
    }
    fn default_is_yaml(mut config: Value, dir: &Path) -> Value {
        config = log_lines(config, dir);
        let outputs = format!("${{env:KM_UNSET:-[\"{}\"]}}", dir.join(LEFT).display());
        config["service"]["telemetry"]["logs"]["output_paths"] = json!(outputs);
        config
    }
    let keys = Attack { config: several_keys, rule: "files", place: "service::telemetry::logs::output_paths" };
    let yaml = Attack { config: default_is_yaml, rule: "files", place: "service::telemetry::logs::output_paths" };
    expect_refused("", &keys);
    expect_left("allow: [service::telemetry::logs]", &keys);
    expect_refused("", &yaml);
    expect_left("allow: [service::telemetry::logs]", &yaml);
}
