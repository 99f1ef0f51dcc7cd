//! kmagent-check(7): output, exit statuses, time, files.

use std::collections::BTreeSet;

use super::{AGENT, CHECK, flags, items, section, text, words};
use crate::check::{config, host};
use crate::support::api::Api;
use crate::support::source::{self, read};

#[test]
fn every_option_of_a_check_is_there() {
    let usage = section(AGENT, "SYNOPSIS");
    let check = usage.split("\n.Nm\n").find(|form| form.contains(".Fl Fl check\n")).unwrap();
    assert_eq!(flags(&section(CHECK, "SYNOPSIS")), flags(check));
}

#[test]
fn every_exit_status_is_there() {
    assert_eq!(items(&section(CHECK, "EXIT STATUS")), source::exit_statuses());
}

/// The keys of a real object and the results of the source, in their order; and the status that goes with each result.
#[test]
fn every_key_and_result_of_the_json_is_there() {
    let output = section(CHECK, "OUTPUT");
    let named = words(&output, "Cm");
    let api = Api::plain();
    api.answer_config(config("new"));
    let shown = host(&api).build().run(["--check", "--json"]);
    let object: serde_json::Map<_, _> = serde_json::from_str(shown.says()).unwrap();
    let keys: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(named[..3].iter().copied().collect::<BTreeSet<_>>(), keys);

    let results = source::body("src/control/mod.rs", "pub enum CheckResult {");
    let variants = results.lines().map(str::trim).filter(|line| line.ends_with(',') && !line.contains(' '));
    let kebab = |variant: &str| {
        let letters = variant.trim_end_matches(',').chars().map(|c| match c.is_uppercase() {
            true => format!("-{}", c.to_lowercase()),
            false => c.to_string(),
        });
        letters.collect::<String>().trim_start_matches('-').to_string()
    };
    assert_eq!(named[3..], variants.map(kebab).collect::<Vec<_>>());

    let check = read("src/cmd/check.rs") + &read("src/agent/supervise/state_tracker.rs");
    for (result, item) in named[3..].iter().zip(output.split("\n.It Cm ").skip(4)) {
        let status = match *result {
            "rejected" | "rolled-back" => "The exit status is 65.",
            "failed" => "The exit status says why.",
            _ => "The exit status is 0.",
        };
        assert!(item.contains(status), "{result}: {item}");
    }
    for words in ["CheckResult::Rejected", "CheckResult::RolledBack"] {
        assert!(
            check
                .lines()
                .filter(|line| line.contains(words))
                .all(|line| line.contains("ConfigRefused") || !line.contains("exit")),
            "{words}"
        );
    }
}

/// In seconds.
fn default(name: &str) -> u64 {
    let table = source::settings();
    let [.., default] = table.iter().find(|[known, ..]| known == name).unwrap();
    default.strip_suffix('s').unwrap().parse().unwrap()
}

fn constant(file: &str, name: &str) -> u64 {
    let text = read(file);
    let value = text.split_once(&format!("{name}: Duration = Duration::from_secs(")).unwrap().1;
    value.split(')').next().unwrap().parse().unwrap()
}

#[test]
fn the_time_bounds_are_the_sums_of_their_parts() {
    let text = text(CHECK);
    let on_change = constant("src/cmd/check.rs", "ON_CHANGE_TIMEOUT");
    let version = constant("src/collector/mod.rs", "VERSION_TIMEOUT");
    let slack = constant("src/cmd/check.rs", "SLACK") + constant("src/core/supervisor/mod.rs", "PROBE_TIMEOUT");
    let asks = 2 * default("poll-timeout") + default("validate-timeout") + version;
    let with_agent = default("poll-timeout")
        + default("validate-timeout")
        + default("stop-timeout")
        + 2 * default("min-uptime")
        + version
        + slack;
    for words in [
        format!("{version} seconds for the collector's version"),
        format!("twice {on_change} seconds for on-change"),
        format!("{} seconds by default", asks + 2 * on_change),
        format!("{asks} seconds where on-change is not run"),
        format!("and {} seconds: {with_agent} seconds by default", version + slack),
        format!("It may take {on_change} seconds."),
        "up to 3 KiB of it".to_string(),
        "met once an hour".to_string(),
        "at most 24 hours".to_string(),
    ] {
        assert!(text.contains(&words), "{CHECK} does not say {words:?}");
    }
    // What the sum for a check beside an agent is made of.
    let source = source::everything();
    assert!(
        source.contains("longest(settings) + settings.stop_timeout + settings.min_uptime * 2 + PROBE_TIMEOUT + SLACK")
    );
    assert!(source.contains("settings.poll_timeout + settings.validate_timeout + crate::collector::VERSION_TIMEOUT"));
    for (file, constant) in [
        ("src/collector/output.rs", "GIST_LIMIT: usize = 3 * 1024"),
        ("src/core/restart_requests.rs", "REPEAT_SECONDS: u64 = 3600"),
        ("src/settings/parse.rs", "24 * HOUR, \"0 to 24h\""),
        ("src/cmd/check.rs", "\"; with the former config too, {again}\""),
        ("src/cmd/check.rs", "Command::new(\"/bin/sh\")"),
    ] {
        assert!(read(file).contains(constant), "{file}: {constant}");
    }
}
