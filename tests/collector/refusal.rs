//! Configs that the real `validate` refuses: nothing changes, and the report has the collector's own words.

use std::fs;

use serde_json::{Value, json};

use super::{Site, message, settled};
use crate::support::bin;

const KEY: &str = "sesame12345";

/// Offers `config`, expects a refusal in these words, and that nothing else happens.
fn expect_refused(site: &Site, config: Value, words: &[&str]) -> String {
    let agent = settled(site.builder().setting("api-key", KEY), &site.config());
    let pid = agent.wait_collector();
    site.api.answer_config(config);
    let report = site.api.wait_for_request("the refusal", |request| message(request).contains("rejects the config"));
    assert_eq!(report.json()["collector_status"], "Running");
    let report = message(&report);
    for word in words {
        assert!(report.contains(word), "{word}: {report}");
    }
    let seen = site.api.requests().len();
    agent.wait_until("three polls", || site.api.requests().len() >= seen + 3);
    assert_eq!((agent.wait_collector(), agent.config()), (pid, site.config()));
    assert_eq!(agent.count_log(|line| line.msg().starts_with("new config rejected")), 1);
    let all: String = agent.log().iter().map(|line| line.text.as_str()).collect();
    assert!(!all.contains(KEY) && !report.contains(KEY), "{report}");
    site.delivers(&agent, "as if nothing had been");
    report
}

#[test]
fn an_unknown_component() {
    let site = Site::new();
    let mut config = site.config();
    config["exporters"]["no_such_exporter"] = json!(null);
    let report = expect_refused(&site, config, &[r#"unknown type: "no_such_exporter""#, "valid values"]);
    assert_eq!(report.matches("no_such_exporter").count(), 2, "said twice: {report}");
}

/// They are what a collector without the command would say of it.
#[test]
fn a_level_that_is_called_unknown_command() {
    let site = Site::new();
    let mut config = site.config();
    config["service"]["telemetry"]["logs"]["level"] = json!("unknown command");
    expect_refused(&site, config, &[r#"unrecognized level: "unknown command""#]);
}

#[test]
fn a_reference_to_nothing() {
    let site = Site::new();
    let mut config = site.config();
    config["service"]["pipelines"]["logs"]["processors"] = json!(["batch"]);
    expect_refused(&site, config, &[r#"pipelines::logs: references processor "batch" which is not configured"#]);
}

#[test]
fn a_value_of_the_wrong_type() {
    let site = Site::new();
    let mut config = site.config();
    config["receivers"]["otlp"]["protocols"]["http"]["endpoint"] = json!(["127.0.0.1:1"]);
    config["exporters"]["otlp_http"]["timeout"] = json!("soon");
    expect_refused(&site, config, &["'endpoint' expected type 'string'", "'timeout' time: invalid duration"]);
}

#[test]
fn words_that_have_the_key_in_them_are_masked() {
    let site = Site::new();
    // A forgotten pair of quotes: the collector shows the condition, with the key in place of the variable.
    let condition = r#"log.attributes["key"] == ${env:KM_API_KEY}"#;
    let config = site.config_with("filter", json!({"logs": {"log_record": [condition]}}));
    expect_refused(&site, config, &["unable to parse OTTL condition", "****"]);
}

#[test]
fn of_a_long_complaint_the_beginning_and_the_end_are_reported() {
    let site = Site::new();
    let conditions: Vec<String> = (0..40).map(|number| format!("log.attributes[\"{number}\"] == oops")).collect();
    let config = site.config_with("filter", json!({"logs": {"log_record": conditions}}));
    let first = r#"the config: processors::filter: unable to parse OTTL condition "log.attributes[\"0\"]"#;
    let report = expect_refused(&site, config, &[first, r#"[\"39\"]"#]);
    assert!(report.len() <= 4096, "{}", report.len());
}

#[test]
fn a_validation_longer_than_the_interval_happens_once() {
    let site = Site::new();
    let builder = site.builder();
    let slow = builder.dir().join("slow-collector");
    let real = bin::collector().display().to_string();
    bin::write_program(&slow, &format!("#!/bin/sh\n[ \"$1\" != validate ] || sleep 2\nexec {real} \"$@\"\n"));
    let agent = settled(builder.collector(slow), &site.config());
    let mut config = site.config();
    config["service"]["pipelines"]["logs"]["exporters"] = json!(["no_such_exporter"]);
    site.api.answer_config(config);
    site.api.wait_for_request("the refusal", |request| message(request).contains("no_such_exporter"));
    let seen = site.api.requests().len();
    agent.wait_until("three polls", || site.api.requests().len() >= seen + 3);
    assert_eq!(agent.count_log(|line| line.msg().starts_with("new config rejected")), 1);
}

/// The source of a config learns of no file, URL or variable of the host by having it refused.
#[test]
fn what_a_refused_config_reads_from_this_host_is_not_told() {
    let site = Site::new();
    let builder = site.builder().setting("policy", "none").setting("api-key", KEY);
    let builder = builder.env("KM_DATABASE", "SECRET\"value<&");
    let file = builder.dir().join("file");
    fs::write(&file, "SECRET-of-a-file\n").unwrap();
    let file = file.display();
    let agent = settled(builder, &site.config());
    let place = "service::telemetry::logs::level";
    let withheld = |scheme: &str| {
        format!("cannot unmarshal the configuration at {place}; because the config reads ${{{scheme}:…}} at {place}")
    };
    let (of_file, of_variable) = (withheld("file"), withheld("env"));
    for (level, says) in [
        (format!("x${{file:{file}}}"), &*of_file),
        (format!("x${{fi${{env:UNSET:-l}}e:{file}}}"), "because the config reads an expansion at"),
        ("x${env:KM_DATABASE}".to_string(), &*of_variable),
        ("x${KM_DATABASE}y".to_string(), &*of_variable),
    ] {
        let mut config = site.config();
        config["service"]["telemetry"]["logs"]["level"] = json!(level);
        site.api.answer_config(config);
        let told = |text: &str| text.contains(says);
        agent.wait_status("the refusal", |status| told(status["last_error_message"].as_str().unwrap_or_default()));
        site.api.wait_for_request("the report", |request| told(&message(request)));
    }
    // As the whole of a value: YAML, which is expanded again.
    let mut config = site.config();
    config["service"]["telemetry"]["logs"] = json!(format!("${{env:UNSET:-level: \"x\\x24\\x7bfile:{file}\\x7d\"}}"));
    site.api.answer_config(config);
    let told = |text: &str| text.contains("because the config reads ${file:…} at service::telemetry::logs,");
    agent.wait_status("the refusal", |status| told(status["last_error_message"].as_str().unwrap_or_default()));

    let mut out: Vec<String> = site.api.requests().iter().map(message).collect();
    out.push(agent.status().unwrap().to_string());
    out.push(fs::read_to_string(agent.dir().join("state/rejected.json")).unwrap());
    for text in out {
        assert!(!text.contains("SECRET"), "{text}");
    }
    // Of a file the local log has all; of a variable nobody has.
    agent.wait_log("the whole error", |line| line.field("output").contains("SECRET"));
    assert_eq!(agent.count_log(|line| line.text.contains("SECRET") && line.text.contains("value")), 0);
}

/// Some settings are put in lower case before they are quoted.
#[test]
fn a_key_in_lower_case_is_masked() {
    let site = Site::new();
    let key = "KEY-AbCdEfGh-Xy.Zq0";
    let agent = settled(site.builder().setting("api-key", key), &site.config());
    let mut config = site.config();
    config["service"]["telemetry"]["metrics"]["level"] = json!("${env:KM_API_KEY}");
    site.api.answer_config(config);
    let report = site.api.wait_for_request("the refusal", |request| message(request).contains("rejects the config"));
    assert!(message(&report).contains("****"), "{}", message(&report));
    let mut out: Vec<String> = agent.log().iter().map(|line| line.text.clone()).collect();
    out.push(message(&report));
    out.push(agent.status().unwrap().to_string());
    out.push(fs::read_to_string(agent.dir().join("state/rejected.json")).unwrap());
    for text in out {
        assert!(!text.to_lowercase().contains(&key.to_lowercase()), "{text}");
    }
}
