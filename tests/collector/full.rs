//! The collector of dist/collector/full.yaml, on request: `KM_FULL=PATH`, since it takes minutes to build.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Site, message, settled, wait_proved, wait_running, yaml};
use crate::support::needs;

fn collector() -> Option<PathBuf> {
    let path = std::env::var_os("KM_FULL").map(PathBuf::from);
    needs::that(path.is_some(), "it takes the collector with everything (KM_FULL)").then_some(path)?
}

/// Every component that the manifest names, by the last word of its module, `redisreceiver`.
fn named_in_manifest() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/collector/full.yaml");
    let text = fs::read_to_string(path).unwrap();
    let modules = text.lines().filter_map(|line| line.strip_prefix("  - gomod: ")?.split(' ').next());
    modules.map(|module| module.rsplit('/').next().unwrap().to_string()).collect()
}

/// What the KloudMate Agent 1.x has on Linux and what can be had of it: nobody takes one out unseen.
#[test]
fn the_manifest_names_what_the_old_program_had() {
    let named = named_in_manifest();
    for (ending, kinds) in [
        (
            "receiver",
            "apache awscloudwatch awscloudwatchmetrics awscontainerinsight awsecscontainermetrics azuremonitor dockerstats \
             elasticsearch filelog fluentforward googlecloudmonitoring hostmetrics httpcheck journald kafkametrics mongodb \
             mongodbatlas mysql netflow nginx oracledb otlp postgresql prometheus rabbitmq redis saphana sqlquery syslog \
             vcenter",
        ),
        (
            "processor",
            "attributes batch cumulativetodelta deltatorate filter groupbyattrs groupbytrace isolationforest memorylimiter \
             metricstransform probabilisticsampler redaction resource resourcedetection span transform",
        ),
        ("exporter", "debug nop otlp otlphttp"),
        ("connector", "spanmetrics"),
        ("extension", "healthcheck memorylimiter zpages"),
        ("storage", "file"),
        ("provider", "env file yaml"),
    ] {
        for kind in kinds.split_whitespace() {
            assert!(named.contains(&format!("{kind}{ending}")), "{kind}{ending} is not in dist/collector/full.yaml");
        }
    }
}

#[test]
fn it_takes_a_config_with_what_only_it_has() {
    let Some(collector) = collector() else { return };
    let site = Site::new();
    let builder = site.patient().collector(collector);
    let agent = builder.config(yaml(&site.checked(site.config()))).spawn();
    wait_running(&agent, 0);
    let mut config = site.checked(site.config());
    let away = |kind: &str| (kind.to_string(), json!({"endpoint": "127.0.0.1:1", "username": "a", "password": "b"}));
    let receivers: Vec<(String, Value)> = ["mysql", "postgresql", "redis", "saphana"].map(away).into();
    let names: Vec<&str> = receivers.iter().map(|(name, _)| name.as_str()).collect();
    config["service"]["pipelines"]["metrics"] =
        json!({"receivers": names, "processors": ["metricstransform"], "exporters": ["otlp_http", "debug"]});
    config["processors"] = json!({"metricstransform": {"transforms": []}});
    config["exporters"]["debug"] = Value::Null;
    config["receivers"].as_object_mut().unwrap().extend(receivers.clone());
    site.api.answer_config(config.clone());
    wait_proved(&agent, &config, &config);
    let record = site.delivers(&agent, "through everything");
    assert_eq!(record["body"]["stringValue"], "through everything");
    let report = site.api.wait_for_next().json();
    assert_eq!(
        (&report["collector_status"], &report["last_error_message"]),
        (&json!("Running"), &json!("")),
        "{report}"
    );
    assert_eq!(agent.stop(), 0);
}

/// A component that parses files by itself quotes them as a provider does.
#[test]
fn it_does_not_tell_what_a_component_reads_from_a_file() {
    let Some(collector) = collector() else { return };
    let site = Site::new();
    let builder = site.builder().collector(collector).setting("policy", "none");
    let file = builder.dir().join("file");
    fs::write(&file, "SECRET-of-a-file\n").unwrap();
    let agent = settled(builder, &site.config());
    let mut config = site.config();
    config["receivers"]["prometheus"] = json!({"config": {"scrape_config_files": [file]}});
    config["service"]["pipelines"]["metrics"] = json!({"receivers": ["prometheus"], "exporters": ["otlp_http"]});
    site.api.answer_config(config);
    let report = site.api.wait_for_request("the refusal", |request| message(request).contains("rejects the config"));
    let why = "because the config reads other files at receivers::prometheus::config::scrape_config_files,";
    assert!(message(&report).contains(why), "{}", message(&report));
    let mut out = vec![message(&report), agent.status().unwrap().to_string()];
    out.push(fs::read_to_string(agent.dir().join("state/rejected.json")).unwrap());
    for text in out {
        assert!(!text.contains("SECRET"), "{text}");
    }
    agent.wait_log("the whole error", |line| line.field("output").contains("SECRET"));
}
