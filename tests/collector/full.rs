//! The collector of dist/collector/full.yaml, on request: `KM_FULL=PATH`, since it takes minutes to build.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Site, wait_proved, wait_running, yaml};
use crate::support::needs;

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
             mongodbatlas mysql netflow nginx oracledb otlp postgresql prometheus rabbitmq redis saphana snmp sqlquery syslog \
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
    let Some(collector) = std::env::var_os("KM_FULL") else {
        needs::that(false, "it takes the collector with everything (KM_FULL)");
        return;
    };
    let site = Site::new();
    let builder = site.patient().without("collector").arg("--collector").arg(collector.to_str().unwrap());
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
