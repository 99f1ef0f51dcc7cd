//! kmagent.yaml(5), POLICY: every rule is there, and the policies to copy do what they are for.

use serde_json::{Value, json};

use super::{SETTINGS, part, section, words};
use crate::settings::Case;
use kmagent::config::policy::Policy;
use kmagent::config::yaml;

/// What the page says of the rules of a policy file, and before that of the default policy's.
fn rules() -> (String, String) {
    let page = section(SETTINGS, "POLICY");
    let (standard, file) = page.split_once("A policy file is").unwrap();
    (standard.to_string(), file.to_string())
}

#[test]
fn every_rule_is_there() {
    let (standard, file) = rules();
    assert_eq!(words(&standard, "Cm"), ["programs", "files", "providers"]);
    let case = Case::new("");
    case.file("policy.yaml", "no-such-rule: 1");
    let output = case.print(&[], &[]);
    let known = output.stderr.trim().split_once("the rules are ").unwrap().1;
    assert_eq!(words(&file, "Cm").join(", "), known);
}

/// The names that the default policy's rules have in the page are those that it looks for.
#[test]
fn every_name_of_the_default_policy_is_one_that_it_refuses() {
    let (standard, _) = rules();
    let list = part(&standard, ".It", "Cm programs").to_string() + part(&standard, ".It", "Cm files");
    let quoted =
        list.lines().filter_map(|line| line.strip_prefix(".Ql ")).map(|line| line.trim_end_matches([' ', ',']));
    let mut count = 0;
    for key in quoted.filter(|key| *key != "path") {
        let config = json!({"extensions": {"any": {key: "/x"}}});
        assert!(refused("", &config).contains(&format!("extensions::any::{key}: ")), "{key}");
        count += 1;
    }
    assert_eq!(count, 10);
    for (text, config) in [
        ("the receiver prometheus_exec", json!({"receivers": {"prometheus_exec": {}}})),
        (
            "the discovery of receiver_creator",
            json!({"receivers": {"receiver_creator": {"discovery": {"enabled": true}}}}),
        ),
        ("of the exporter file,", json!({"exporters": {"file": {"path": "/x"}}})),
        ("the operator file_output", json!({"receivers": {"syslog": {"operators": [{"type": "file_output"}]}}})),
    ] {
        assert!(list.contains(text) && !refused("", &config).is_empty(), "{text}");
    }
}

/// Why a policy refuses a config; empty if it does not.
fn refused(policy: &str, config: &Value) -> String {
    let parsed = |text: &str| yaml::parse(text.as_bytes()).unwrap();
    let policy = Policy::parse(&parsed(policy)).unwrap_or_else(|error| panic!("{policy}: {error}"));
    let found = policy.judge(&parsed(&config.to_string()), None, None);
    if found.is_empty() { String::new() } else { found.explain("FILE") }
}

#[test]
fn the_policies_to_copy_do_what_they_are_for() {
    let (_, file) = rules();
    let file = file.replace("\\-", "-");
    let blocks = file.split("\n.Bd -literal").skip(1).map(|rest| rest.split_once('\n').unwrap().1);
    let policies: Vec<&str> = blocks.map(|rest| rest.split("\n.Ed").next().unwrap()).collect();
    let [loopback, hosts, folders] = policies[..] else { panic!("{policies:?}") };
    for policy in &policies {
        assert!(policy.starts_with("# /etc/kmagent/policy.yaml\n"), "{policy}");
        let case = Case::new("");
        case.file("policy.yaml", policy);
        assert_eq!(case.print(&[], &[]).code, Some(0), "{policy}");
    }
    let otlp =
        |host: &str| json!({"receivers": {"otlp": {"protocols": {"grpc": {"endpoint": format!("{host}:4317")}}}}});
    let to = |host: &str| json!({"exporters": {"otlp": {"endpoint": format!("https://{host}:4317")}}});
    let reads = |path: &str| json!({"receivers": {"filelog": {"include": [path]}}});
    let keeps = |path: &str| json!({"extensions": {"file_storage": {"directory": path}}});
    let (journald, unknown) = (json!({"receivers": {"journald": {}}}), json!({"exporters": {"datadog": {}}}));
    for (policy, config, rule) in [
        (loopback, otlp("127.0.0.1"), ""),
        (loopback, otlp("0.0.0.0"), "listen"),
        (loopback, to("anywhere.example"), ""),
        (loopback, json!({"extensions": {"health_check": {"endpoint": ":13133"}}}), "listen"),
        (hosts, to("otel.kloudmate.com"), ""),
        (hosts, to("eu.example.com"), ""),
        (hosts, to("example.com.evil.net"), "exporter-endpoints"),
        (hosts, unknown, "exporter-endpoints"),
        (hosts, otlp("0.0.0.0"), ""),
        (folders, reads("/var/log/*.log"), ""),
        (folders, reads("/etc/shadow"), "paths"),
        (folders, keeps("/var/lib/otelcol"), ""),
        (folders, keeps("/home/kmagent/bin"), "paths"),
        (folders, otlp("0.0.0.0"), ""),
        (folders, to("anywhere.example"), ""),
        (folders, journald, "allow-components"),
    ] {
        let why = refused(policy, &config);
        let fits = if rule.is_empty() { why.is_empty() } else { why.contains(&format!("(rule {rule})")) };
        assert!(fits, "{policy}\n{config}: {why}");
    }
}
