//! kmagent-check(7): output, exit statuses, time, files.

use std::collections::BTreeSet;
use std::fs;

use super::{AGENT, CHECK, flags, items, section, text, words};
use crate::check::{config, host};
use crate::support::api::Api;
use crate::support::source;
use crate::support::temp_dir::TempDir;
use kmagent::cmd::check::{ON_CHANGE_TIMEOUT, SLACK, longest_beside_agent};
use kmagent::collector::output::GIST_LIMIT;
use kmagent::collector::program::VERSION_TIMEOUT;
use kmagent::control::CheckResult;
use kmagent::core::supervisor::PROBE_TIMEOUT;

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

    // A value that it cannot be has serde name all that it can.
    let refusal = serde_json::from_str::<CheckResult>(r#""none of them""#).unwrap_err().to_string();
    let results: Vec<&str> = refusal.split_once("expected one of").unwrap().1.split('`').skip(1).step_by(2).collect();
    assert_eq!(named[3..], results);

    for (result, item) in named[3..].iter().zip(output.split("\n.It Cm ").skip(4)) {
        let status = match *result {
            "rejected" | "rolled-back" => "The exit status is 65.",
            "failed" => "The exit status says why.",
            _ => "The exit status is 0.",
        };
        assert!(item.contains(status), "{result}: {item}");
    }
}

/// In seconds.
fn default(name: &str) -> u64 {
    let table = source::settings();
    let [.., default] = table.iter().find(|[known, ..]| known == name).unwrap();
    default.strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn the_time_bounds_are_the_sums_of_their_parts() {
    let text = text(CHECK);
    let on_change = ON_CHANGE_TIMEOUT.as_secs();
    let version = VERSION_TIMEOUT.as_secs();
    let slack = (SLACK + PROBE_TIMEOUT).as_secs();
    let asks = 2 * default("poll-timeout") + default("validate-timeout") + version;
    // Not what this host may have in /etc.
    let dir = TempDir::new();
    let empty = dir.join("agent.yaml");
    fs::write(&empty, "").unwrap();
    let environment = |name: &str| (name == "KM_AGENT_CONFIG").then(|| empty.clone().into());
    let defaults = kmagent::settings::resolve(&[], &environment).unwrap().settings;
    let with_agent = longest_beside_agent(&defaults).as_secs();
    for words in [
        format!("{version} seconds for the collector's version"),
        format!("twice {on_change} seconds for on-change"),
        format!("{} seconds by default", asks + 2 * on_change),
        format!("{asks} seconds where on-change is not run"),
        format!("and {} seconds: {with_agent} seconds by default", version + slack),
        format!("It may take {on_change} seconds."),
        format!("up to {} KiB of it", GIST_LIMIT / 1024),
        "met once an hour".to_string(),
        "at most 24 hours".to_string(),
    ] {
        assert!(text.contains(&words), "{CHECK} does not say {words:?}");
    }
}
