//! Whatever the API sends arrives in the collector as it was sent: proved by telemetry that carries it.

use serde_json::{Map, Value, json};

use super::{Site, is_running, settled, wait_running};
use crate::support::bin;
use crate::support::wait::{DEADLINE, wait_for};
use kmagent::config::inspect::misread;

/// Strings that one YAML parser or another takes for something else, or that need care to be written down.
const HOSTILE: &[&str] = &[
    "0755",
    "on",
    "off",
    "yes",
    "no",
    "y",
    "N",
    "true",
    "True",
    "null",
    "NULL",
    "~",
    "",
    " ",
    "1e3",
    "1.0",
    "1_000",
    "0x1F",
    "0o17",
    "0b11",
    ".inf",
    "-.INF",
    ".nan",
    "+1",
    "-0",
    "12:30:45",
    "2024-01-01",
    "2024-01-01T00:00:00Z",
    "<<",
    "=",
    "  lead",
    "trail  ",
    "a: b",
    "a:",
    "- x",
    "-",
    "---",
    "...",
    "# c",
    "a # b",
    "? x",
    "% x",
    "@a",
    "`b",
    "!t",
    "&x",
    "*y",
    "[",
    "]",
    "{",
    "}",
    ",",
    "'q'",
    "\"q\"",
    "it's \"q\"",
    "back\\slash\\n",
    "line 1\nline 2\n",
    "\n\n  indented\n\nx\n\n",
    "tab\t|\r\n|\u{0}\u{7}\u{1b}\u{7f}\u{85}\u{a0}\u{2028}\u{feff}\u{fffd}",
    "é ß 漢字 😀 \u{202e}x",
];

/// Sends `values` as attributes that the pipeline inserts, and expects them to come out as they are.
fn expect_through(values: &Map<String, Value>) {
    let site = Site::new();
    let agent = site.settled();
    let seen = agent.log().len();
    let action = |(key, value): (&String, &Value)| json!({"key": key, "value": value, "action": "insert"});
    let config = site.config_with("attributes", json!({"actions": values.iter().map(action).collect::<Vec<_>>()}));
    site.api.answer_config(config.clone());
    // A debug build takes seconds for a mebibyte, and many on a busy host.
    let proved = || agent.log().into_iter().skip(seen).find(is_running);
    wait_for("a collector that has proved itself", DEADLINE * 4, proved);
    assert!(agent.config() == config, "not the config that was sent");
    let record = site.delivers(&agent, "with values");
    let arrived = object(&record["attributes"]);
    for (key, value) in values {
        assert!(arrived.get(key) == Some(value), "{key}: sent {value:.500}\narrived {:.500}", arrived[key]);
    }
    assert_eq!(arrived.len(), values.len());
}

/// OTLP's `AnyValue` as the value that it stands for: integers and strings differ.
fn plain(any: &Value) -> Value {
    let Some((kind, value)) = any.as_object().and_then(|any| any.iter().next()) else { return Value::Null };
    match kind.as_str() {
        "stringValue" | "boolValue" => value.clone(),
        // A string in OTLP's JSON, as 64 bits are too much for many readers.
        "intValue" => json!(value.as_str().unwrap().parse::<i64>().unwrap()),
        "doubleValue" => json!(value.as_f64().unwrap()),
        "arrayValue" => value["values"].as_array().into_iter().flatten().map(plain).collect(),
        "kvlistValue" => Value::Object(object(&value["values"])),
        other => panic!("unexpected kind {other}"),
    }
}

fn object(pairs: &Value) -> Map<String, Value> {
    let pairs = pairs.as_array().into_iter().flatten();
    pairs.map(|pair| (pair["key"].as_str().unwrap().to_string(), plain(&pair["value"]))).collect()
}

fn values(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn strings_stay_strings_and_numbers_stay_numbers() {
    let named: Map<String, Value> =
        HOSTILE.iter().filter(|name| !name.is_empty()).map(|name| (name.to_string(), json!(name))).collect();
    let nested = (0..24).fold(json!(["0755", 755, null]), |inner, level| match level % 2 {
        0 => json!({"on": inner}),
        _ => json!(["~", inner]),
    });
    expect_through(&values(json!({
        "strings": HOSTILE,
        "names": named,
        "integers": [9_007_199_254_740_993_i64, i64::MAX, i64::MIN, 0, -1, 755, 1_000_000],
        "floats": [1e3, 0.1, -2.5, 1e300, 5e-324, 1.0, 123456789.125],
        "others": [true, false, {}, []],
        "nested": nested,
        "0755": "on", "on": "0755", "1e3": 1000, "null": "null",
    })));
}

#[test]
fn a_mebibyte_arrives_whole() {
    let line = HOSTILE[2..].join(" ").replace(['\0', '$'], "");
    let mut all: Map<String, Value> =
        (0..2500).map(|number| (format!("key {number}"), json!(format!("{number}: {line}")))).collect();
    all.insert("text".into(), json!(format!("{line}\n").repeat(1000)));
    assert!(serde_json::to_string(&all).unwrap().len() > 1024 * 1024);
    expect_through(&all);
}

#[test]
fn references_are_the_collectors_to_expand() {
    let site = Site::new();
    let agent = site.settled();
    let seen = agent.log().len();
    let texts = json!({"reference": "${env:KM_API_KEY}", "within": "<${env:KM_API_KEY}>", "escaped": "$${env:KM_API_KEY}", "price": "5 $"});
    let actions: Vec<Value> =
        values(texts).iter().map(|(key, value)| json!({"key": key, "value": value, "action": "insert"})).collect();
    site.api.answer_config(site.config_with("attributes", json!({"actions": actions})));
    wait_running(&agent, seen);
    let arrived = Value::Object(object(&site.delivers(&agent, "with references")["attributes"]));
    assert_eq!(
        arrived,
        json!({"reference": "test-key", "within": "<test-key>", "escaped": "${env:KM_API_KEY}", "price": "5 $"})
    );
    assert!(!std::fs::read_to_string(agent.config_file()).unwrap().contains("test-key"));
}

/// As `config::inspect::misread` says, in a header as exporters send the key, alone and within a text.
#[test]
fn what_changes_a_variables_value_is_known() {
    let values = [
        "sk-1",
        "123",
        "0x1f",
        "true",
        "~",
        "a$b",
        "a${b",
        "a}b",
        "a: b",
        "a #b",
        "*abc",
        "&abc",
        "!abc",
        "@abc",
        "\"a\"",
        "[a",
        "- a",
        "? a",
        "{a}",
        "a: {1: b}",
        "a$$b",
        "$$",
        "a$${b}",
        "a${PATH}b",
        "${env:NOT_SET}",
    ];
    let site = Site::new();
    let named = || values.iter().enumerate();
    let builder = named().fold(site.builder(), |builder, (number, value)| builder.env(&format!("V_{number}"), *value));
    let mut config = site.config();
    let headers = named().flat_map(|(number, _)| {
        let reference = format!("${{env:V_{number}}}");
        [(format!("x-{number}"), json!(reference)), (format!("y-{number}"), json!(format!("<{reference}>")))]
    });
    config["exporters"]["otlp_http"]["headers"] = Value::Object(headers.collect());
    let agent = settled(builder, &config);
    site.takes(&agent, "with headers");
    let request = site.sink.wait_for_text("with headers");
    for (number, value) in named() {
        let is_kept = request.header(&format!("x-{number}")) == Some(value);
        assert_eq!(is_kept, request.header(&format!("y-{number}")) == Some(&*format!("<{value}>")), "{value}");
        assert_eq!(is_kept, misread(value).is_none(), "{value}: {:?}", request.header(&format!("x-{number}")));
    }
    // These leave no config at all.
    for value in ["?", "1: a", "12:", "true:", "{1}"] {
        assert!(misread(value).is_some(), "{value}");
        let mut validate = std::process::Command::new(bin::collector());
        validate.arg("validate").arg("--config").arg(agent.config_file()).env("V_0", value);
        let output = bin::output(validate);
        assert!(output.stderr.contains("unsupported type=map[interface {}]"), "{value}: {output:?}");
    }
}

/// For run and validate, with what they set laid over the config, as the agent reads it too.
#[test]
fn the_collector_takes_its_arguments() {
    let site = Site::new();
    let health = site.health;
    let args = [
        "--set=exporters.otlp_http.headers.x-args=yes".to_string(),
        format!("--set=extensions.health_check.endpoint=127.0.0.1:{health}"),
        "--feature-gates=-confmap.enableMergeAppendOption".to_string(),
    ];
    let mut config = site.checked(site.config());
    config["extensions"]["health_check"]["endpoint"] = json!("127.0.0.1:1");
    let agent = settled(site.builder().setting("collector-args", json!(args)), &config);
    let seen = agent.log().len();
    config["exporters"]["otlp_http"]["headers"] = json!({"x-config": "new"});
    site.api.answer_config(config);
    // Its health check is asked where the arguments have put it.
    wait_running(&agent, seen);
    site.takes(&agent, "with arguments");
    let request = site.sink.wait_for_text("with arguments");
    assert_eq!((request.header("x-args"), request.header("x-config")), (Some("yes"), Some("new")));
    assert_eq!(agent.stop(), 0);
}
