//! What is not the config's fault: it is tried again by itself when that has changed, and by `retry` at once.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Site, message, settled, wait_proved, wait_running};
use crate::support::agent::Agent;
use crate::support::{machine, process};

/// Offers `config` and expects a roll back that is none of the config's doing.
#[track_caller]
fn expect_postponed(site: &Site, agent: &Agent, config: &Value, words: &[&str]) {
    site.api.answer_config(config.clone());
    let report = site.api.wait_for_request("the roll back", |request| message(request).contains("will be tried again"));
    for word in words {
        assert!(message(&report).contains(word), "{word}: {}", message(&report));
    }
    let seen = site.api.requests().len();
    agent.wait_until("three polls", || site.api.requests().len() >= seen + 3);
    assert_eq!(agent.count_log(|line| line.msg().starts_with("config rolled back")), 1, "tried again meanwhile");
    let status = agent.status().unwrap();
    assert_eq!((&status["config"]["rejected_revision"], agent.config()), (&Value::Null, site.config()));
}

#[test]
fn a_ca_file_that_appears_later() {
    let site = Site::new();
    let agent = settled(site.patient(), &site.config());
    let ca = agent.dir().join("ca.pem");
    let mut config = site.config();
    config["exporters"]["otlp_http/other"] = json!({"endpoint": "https://127.0.0.1:9", "tls": {"ca_file": ca}});
    config["service"]["pipelines"]["logs"]["exporters"] = json!(["otlp_http", "otlp_http/other"]);
    expect_postponed(&site, &agent, &config, &["no such file or directory"]);
    let seen = agent.log().len();
    fs::copy(crate::support::api::Api::tls().ca_file().unwrap(), &ca).unwrap();
    wait_running(&agent, seen);
    assert_eq!(agent.config(), config);
}

/// A mount that comes late, say: the config has served, and is not confirmed yet.
#[test]
fn a_ca_file_that_is_away_for_a_while() {
    let site = Site::new();
    let agent = settled(site.patient(), &site.config());
    let (ca, away) = (agent.dir().join("ca.pem"), agent.dir().join("away"));
    fs::copy(crate::support::api::Api::tls().ca_file().unwrap(), &ca).unwrap();
    let mut config = site.config();
    config["exporters"]["otlp_http/other"] = json!({"endpoint": "https://127.0.0.1:9", "tls": {"ca_file": ca}});
    config["service"]["pipelines"]["logs"]["exporters"] = json!(["otlp_http", "otlp_http/other"]);
    site.api.answer_config(config.clone());
    wait_proved(&agent, &config, &config);
    agent.wait_until("one collector", || agent.collectors().len() == 1);
    fs::rename(&ca, &away).unwrap();
    process::signal(agent.wait_collector(), Signal::KILL);
    agent.wait_log("the roll back", |line| line.msg() == "what failed is outside the config; it will be tried again");
    agent.wait_until("the former config", || agent.config() == site.config());
    site.delivers(&agent, "by way of the former one");
    assert_eq!(agent.status().unwrap()["config"]["rejected_revision"], Value::Null);
    fs::rename(&away, &ca).unwrap();
    agent.wait_until("the config", || agent.config() == config);
    site.delivers(&agent, "with the file back");
}

/// What the collector names is not the overlay.
#[test]
fn a_ca_file_that_the_overlay_wants_until_it_is_corrected() {
    let site = Site::new();
    let builder = site.patient();
    let overlay = builder.dir().join("local.yaml");
    fs::write(&overlay, "{}").unwrap();
    let agent = settled(builder.setting("local-config", overlay.display().to_string()), &site.config());
    let exporter = json!({"endpoint": "https://127.0.0.1:9", "tls": {"ca_file": "/nonexistent/ca.pem"}});
    let pipelines = json!({"logs": {"exporters": ["otlp_http", "otlp_http/other"]}});
    let wrong = json!({"exporters": {"otlp_http/other": exporter}, "service": {"pipelines": pipelines}});
    fs::write(&overlay, wrong.to_string()).unwrap();
    let config = site.config_with("batch", json!({"timeout": "10ms"}));
    expect_postponed(&site, &agent, &config, &["no such file or directory"]);
    let seen = agent.log().len();
    fs::write(&overlay, "{}").unwrap();
    wait_running(&agent, seen);
    assert_eq!(agent.config(), config);
}

/// Nothing says which file it is, so only time, or an operator, has it tried again.
#[test]
fn a_database_that_is_corrupt_and_removed_by_an_operator() {
    let site = Site::new();
    let builder = site.patient().setting("restart-mode", "restart");
    let storage = builder.dir().join("storage");
    fs::create_dir(&storage).unwrap();
    let agent = settled(builder, &site.config());
    let database = storage.join("exporter_otlp_http__logs");
    fs::write(&database, vec![0xA5; 32768]).unwrap();
    let mut config = site.config();
    config["exporters"]["otlp_http"]["sending_queue"] = json!({"storage": "file_storage"});
    config["extensions"] = json!({"file_storage": {"directory": storage}});
    config["service"]["extensions"] = json!(["file_storage"]);
    expect_postponed(&site, &agent, &config, &["invalid database"]);
    fs::remove_file(&database).unwrap();
    let output = agent.run(["retry"]);
    assert!(output.says().starts_with("installed config "), "{output:?}");
    assert_eq!(agent.config(), config);
}

/// `validate` sees nothing wrong with it. With the old collector beside it, or without.
#[test]
fn an_overlay_that_a_collector_dies_of_is_named_and_corrected_later() {
    for mode in ["handover", "restart"] {
        if mode == "handover" && machine::skips_hand_over() {
            continue;
        }
        let site = Site::new();
        let builder = site.builder().setting("restart-mode", mode);
        let overlay = builder.dir().join("local.yaml");
        fs::write(&overlay, "{}").unwrap();
        let agent = settled(builder.setting("local-config", overlay.display().to_string()), &site.config());
        // For documentation only (RFC 5737).
        let wrong = json!({"receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "192.0.2.1:4317"}}}}});
        fs::write(&overlay, wrong.to_string()).unwrap();
        let config = site.config_with("batch", json!({"timeout": "10ms"}));
        site.api.answer_config(config.clone());
        let words = format!("the overlay {} sets receivers::otlp::protocols::grpc::endpoint", overlay.display());
        let says = |problem: &str| problem.contains(&words) && problem.contains("cannot assign requested address");
        agent.wait_status("the rejection", |status| says(status["config"]["rejected_because"].as_str().unwrap_or("")));
        site.api.wait_for_request("the overlay", |request| says(&message(request)));
        let seen = agent.log().len();
        fs::write(&overlay, "{}").unwrap();
        agent.wait_log_after(seen, "the config", |line| line.msg() == "config installed");
        agent.wait_until("the config", || agent.config() == config);
        site.delivers(&agent, "with the overlay corrected");
    }
}

/// It is refused by `validate`, which sees it empty.
#[test]
fn a_variable_that_is_set_at_the_next_start() {
    let site = Site::new();
    let endpoint = site.sink.exporter()["endpoint"].as_str().unwrap().to_string();
    let agent = settled(site.builder(), &site.config());
    let mut config = site.config();
    config["exporters"]["otlp_http"]["endpoint"] = json!("${env:SITE_ENDPOINT}");
    site.api.answer_config(config.clone());
    let report = site.api.wait_for_request("the refusal", |request| message(request).contains("rejects the config"));
    let reads = "because the config reads ${env:…} at exporters::otlp_http::endpoint";
    assert!(message(&report).contains(reads), "{}", message(&report));
    assert_eq!(agent.stop(), 0);
    let seen = site.api.requests().len();
    agent.spawn();
    agent.wait_until("three polls", || site.api.requests().len() >= seen + 3);
    assert_eq!(agent.config(), site.config(), "tried again with the same environment");
    assert_eq!(agent.stop(), 0);
    let seen = agent.log().len();
    let mut start = agent.command(["start"]);
    start.env("SITE_ENDPOINT", endpoint);
    agent.spawn_command(start);
    agent.wait_log_after(seen, "the config", |line| line.msg() == "config installed");
    agent.wait_until("the config", || agent.config() == config);
    site.delivers(&agent, "to where the variable says");
}
