//! kmagent(8): commands, options, status, files, environment, exit statuses, messages.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::{AGENT, CLUSTER, SETTINGS, flag_items, help, items, part, section, text, words};
use crate::check::{config, host};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::source::{self, read};
use kmagent::cmd::status;
use kmagent::control::Status;
use kmagent::core::supervisor::StateName;
use kmagent::core::{backoff, cadence, restart_requests, supervisor};
use kmagent::settings::cluster::CLUSTER_SETTINGS;

#[test]
fn every_command_and_option_is_that_of_the_usage() {
    let help = help();
    let listed = help.split("Settings:").next().unwrap().lines().filter(|line| line.starts_with("  "));
    let is_one = |(at, word): &(usize, &str)| *at == 0 || word.starts_with("--");
    let known = listed.flat_map(|line| line.split_whitespace().enumerate().filter(is_one));
    let mut known: BTreeSet<String> = known.map(|(_, word)| word.to_string()).collect();
    known.extend(["--help", "--version"].map(String::from));
    let (commands, options) = (section(AGENT, "COMMANDS"), section(AGENT, "OPTIONS"));
    let own = options.split("\n.Ss ").next().unwrap();
    let named = words(&commands, "Cm").into_iter().map(String::from);
    let named: BTreeSet<String> = named.chain(flag_items(&commands)).chain(flag_items(own)).collect();
    assert_eq!(named, known);
    let synopsis = section(AGENT, "SYNOPSIS");
    let said = super::flags(&synopsis).into_iter().chain(super::uses(&synopsis, "Cm").into_iter().map(String::from));
    assert_eq!(said.filter(|word| word != "|").collect::<BTreeSet<_>>(), known, "SYNOPSIS");
}

#[test]
fn every_flag_stands_in_its_group() {
    let help = help();
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for line in help.split("agent.yaml:\n").nth(1).unwrap().lines().filter(|line| line.starts_with("  ")) {
        let mut words = line.split_whitespace().map(String::from);
        if !line.starts_with("            ") {
            groups.push((words.next().unwrap(), Vec::new()));
        }
        groups.last_mut().unwrap().1.extend(words);
    }
    let names: usize = groups.iter().map(|(_, names)| names.len()).sum();
    assert_eq!(names, source::settings().len());
    let options = section(AGENT, "OPTIONS");
    for (group, names) in groups {
        let heading = group[..1].to_uppercase() + &group[1..];
        let expected: BTreeSet<String> = names.iter().map(|name| format!("--{name}")).collect();
        assert_eq!(flag_items(part(&options, ".Ss", &heading)), expected, "{group}");
        let described = section(SETTINGS, &heading.to_uppercase());
        for name in names {
            assert!(described.contains(&format!(".It Cm {name} : ")), "{name} is not under {heading} in {SETTINGS}");
        }
    }
}

#[test]
fn every_exit_status_is_there() {
    assert_eq!(items(&section(AGENT, "EXIT STATUS")), source::exit_statuses());
}

/// `collector.pid` and so on: every key of an object, however deep.
fn keys(value: &Value, above: &str, found: &mut Vec<String>) {
    match value.as_object() {
        Some(entries) => entries.iter().for_each(|(key, value)| keys(value, &format!("{above}.{key}"), found)),
        None => found.push(above.trim_start_matches('.').to_string()),
    }
}

#[test]
fn every_line_state_and_key_of_the_status_is_there() {
    let status = section(AGENT, "STATUS");
    let (states, listed) = status.split_once(".Fl Fl json\n").unwrap();
    assert_eq!(words(states, "Cm"), StateName::ALL.map(StateName::as_str));
    // Each line is shown when everything that can be said is there.
    let all: Status = serde_json::from_value(json!({
        "agent_version": "2.0.0", "pid": 1, "uptime_seconds": 1, "last_error_message": "it broke",
        "collector": {"state": "running", "pid": 2, "uptime_seconds": 1, "restarts": 0, "program": "/usr/bin/otelcol"},
        "config": {
            "path": "/etc/kmagent/config.yaml", "revision": "1", "changed_by": "hand-over",
            "rejected_revision": "2", "rejected_because": "it failed", "rejected_is_offered": true,
            "pending_revision": "3", "pending_since": 1,
        },
        "polling": {"endpoint": "https://api.example.com", "local_because": null, "succeeded_at": 1, "error": null},
        "settings_problem": "they are invalid",
    }))
    .unwrap();
    let shown = status::render(&all);
    let lines = shown.lines().map(|line| line.split("  ").next().unwrap().trim_end());
    let lines: Vec<&str> = lines.map(|line| if line.starts_with("changed by") { "changed by" } else { line }).collect();
    assert_eq!(items(states).into_iter().filter(|item| !item.starts_with("Cm ")).collect::<Vec<_>>(), lines);

    let agent = Agent::builder().spawn();
    let shown = agent.wait_status("an agent", |_| true);
    let mut found = Vec::new();
    keys(&shown, "", &mut found);
    found.sort();
    let mut named = words(listed, "Cm");
    named.sort();
    assert_eq!(named, found);
}

/// Both ways: what the source asks for or gives stands in the page, and nothing else.
#[test]
fn every_variable_is_there() {
    let environment = section(AGENT, "ENVIRONMENT");
    let (ours, given) = environment.split_once("The collector's environment").unwrap();
    let named: BTreeSet<&str> = words(&environment, "Ev").into_iter().flat_map(|item| item.split(" , ")).collect();
    let source = source::everything();
    let is_name =
        |word: &&str| word.contains('_') && word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let asked = source
        .split('"')
        .filter(is_name)
        .filter(|word| !["CARGO_", "KMAGENT_", "KM_TEST_", "KM_LONG"].iter().any(|own| word.starts_with(own)));
    // Of kmagent-cluster(8).
    let of_cluster = |word: &&str| CLUSTER_SETTINGS.iter().any(|setting| setting.env == *word);
    let asked = asked.filter(|word| !of_cluster(word) && !word.starts_with("KUBERNETES_SERVICE_"));
    let settings: Vec<String> = source::settings().into_iter().map(|[_, variable, _]| variable).collect();
    let asked = asked.filter(|word| !settings.iter().any(|setting| setting == word));
    // What only begins a name stands for all names that begin so.
    let asked: Vec<String> =
        asked.map(|word| if word.ends_with('_') { format!("{word}*") } else { word.to_string() }).collect();
    // Without an underscore they look like other words.
    let mut known: BTreeSet<&str> = asked.iter().map(String::as_str).chain(["KM_*", "PATH", "GODEBUG"]).collect();
    known.extend(["KM_API_KEY", "KM_COLLECTOR_ENDPOINT", "KM_DOCKER_ENDPOINT", "KM_HOST_NAME"]);
    assert_eq!(named, known);
    for name in ["\"PATH\"", "\"GODEBUG\""] {
        assert!(source.contains(name), "nothing in the source asks for {name}");
    }
    // The rule that stands for all settings, and its one exception.
    for setting in &settings {
        assert!(setting.starts_with("KM_") && ours.contains(".It Ev KM_*\n"), "{setting}");
    }
    assert!(ours.contains(".Ev KM_COLLECTOR_CONFIG .\n"));
    let set = read("src/collector/environment.rs");
    let set =
        set.split("#[cfg(test)]").next().unwrap().split("(\"KM_").skip(1).filter_map(|rest| rest.split('"').next());
    for name in set.map(|name| format!("KM_{name}")) {
        assert!(words(given, "Ev").iter().any(|item| item.split(" , ").any(|word| word == name)), "{name}");
    }
}

/// A host on which everything happens that leaves a file: an install by `--check`, a start, a config that is rolled
/// back.
#[test]
fn every_file_is_there() {
    let api = Api::plain();
    let builder = host(&api).setting("report-extended", true);
    let dir = builder.dir().display().to_string();
    let builder =
        builder.setting("on-change", format!("cd {dir} && ls -A etc state run > seen")).setting("min-uptime", "500ms");
    // So that its own poll does not come before the check that is asked for.
    let builder = builder.setting("config-check-interval", "1h");
    // What an upgrade finds: it violates the policy, and that is said once.
    let agent = builder.config("fake: {stderr: old}\nextensions: {pprof: {save_to_file: /x}}").build();
    // The latter is made on a machine with an id alone.
    fs::create_dir(agent.state_dir()).unwrap();
    for file in ["etc/api-key", "etc/policy.yaml", "state/instance-machine.json"] {
        fs::write(agent.dir().join(file), "").unwrap();
    }
    api.answer_config(config("one"));
    assert_eq!(agent.run(["--check"]).code, Some(0));
    let mut seen: BTreeSet<String> =
        fs::read_to_string(agent.dir().join("seen")).unwrap().lines().map(String::from).collect();
    seen.retain(|name| !name.is_empty() && !name.ends_with(':'));
    agent.spawn();
    agent.wait_status("a collector that has proved itself", |status| status["collector"]["state"] == "running");
    api.answer_config(json!({"fake": {"start": {"exit": 3}}}));
    agent.run(["--check"]).fails(65, "rolled back");
    // What the check after the verdict writes is there for a moment.
    let names = |dir: &str| fs::read_dir(agent.dir().join(dir)).unwrap().map(|entry| entry.unwrap().file_name());
    let is_candidate = |name: std::ffi::OsString| name.to_string_lossy().contains(".candidate-");
    agent.wait_until("no candidate", || !["etc", "state"].into_iter().flat_map(names).any(is_candidate));
    for dir in ["etc", "state", "run"].map(|name| agent.dir().join(name)) {
        seen.extend(fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()));
    }
    let files = section(AGENT, "FILES");
    let paths = words(part(&files, ".Ss", "What it reads and writes"), "Pa");
    // Those with a star or `new` are there for a moment, which may be this one.
    seen.retain(|name| !name.ends_with(".new"));
    let lasting = paths.into_iter().filter(|path| !path.contains('*') && !path.ends_with(".new"));
    let named: BTreeSet<String> = lasting.map(|path| path.rsplit('/').next().unwrap().into()).collect();
    assert_eq!(named, seen);
}

/// The paths of the installed system that a script names, as far as no variable is in them.
fn paths(script: &str) -> BTreeSet<String> {
    let script = script.replace("$DESTDIR", "").replace("$PREFIX", "/usr/local").replace("$etc", "/etc/kmagent");
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let paths = script.split(|c| !is_path(c)).map(|path| path.trim_end_matches(['/', '.']));
    let ours = |path: &&str| path.contains("kmagent") && (path.starts_with("/etc/") || path.starts_with("/usr/"));
    paths.filter(ours).map(String::from).collect()
}

/// What the installer puts there, and what the services read: each is named, or a directory that it is in.
#[test]
fn every_file_of_the_installer_and_the_services_is_there() {
    let files = section(AGENT, "FILES");
    let named = words(&files, "Pa");
    let kinds = fs::read_dir(source::path("dist/services")).unwrap().map(|kind| kind.unwrap().path());
    let services = kinds.flat_map(|kind| fs::read_dir(kind).unwrap().map(|file| file.unwrap().path()));
    let services: String = services.map(|file| fs::read_to_string(file).unwrap()).collect();
    let known: BTreeSet<String> = paths(&read("dist/install.sh")).into_iter().chain(paths(&services)).collect();
    for path in ["/usr/local/lib/kmagent/install.sh", "/etc/kmagent/.installed", "/etc/conf.d/kmagent"] {
        assert!(known.contains(path), "the scripts are written differently: {known:?}");
    }
    // Not the links by which a service manager enables it.
    for path in known.iter().filter(|path| !path.contains("/S90") && !path.contains("/runlevels/")) {
        let covered = named.iter().any(|named| path.starts_with(named) || named.starts_with(path));
        assert!(covered, "{path} is not in FILES");
    }
    for path in words(part(&files, ".Ss", "What a site may add"), "Pa") {
        assert!(known.iter().any(|known| path.starts_with(known)), "nothing reads {path}");
    }
}

/// What a release holds beside what is in /etc, both ways; `dist/stage` lays it out. Packages have a little more.
#[test]
fn every_installed_file_is_there() {
    let files = section(AGENT, "FILES");
    let named = words(part(&files, ".Ss", "What is installed"), "Pa");
    let installer: BTreeSet<String> =
        ["dist/install.sh", "dist/packages/scripts/common"].iter().flat_map(|script| paths(&read(script))).collect();
    let stage = read("dist/stage");
    let places = stage.split(['"', ' ', '\n', '$']).map(|word| word.trim_start_matches("to/").trim_start_matches('/'));
    let places = places.filter(|word| ["bin/", "lib/", "share/"].iter().any(|dir| word.starts_with(dir)));
    let places: BTreeSet<&str> = places.map(|word| word.trim_end_matches("/THIRD-PARTY-NOTICES")).collect();
    assert!(places.len() > 6, "dist/stage is written differently: {places:?}");
    for place in &places {
        let path = format!("/usr/local/{place}");
        let covered = |named: &&str| path.starts_with(named) || named.starts_with(&path);
        assert!(named.iter().any(covered), "{path} is not under What is installed");
    }
    for path in named {
        let staged = match path.strip_prefix("/usr/local/") {
            Some(unit) if unit.starts_with("lib/systemd/") => continue,
            Some(place) => places.iter().any(|known| known.starts_with(place) || place.starts_with(known)),
            None => false,
        };
        assert!(staged || installer.contains(path), "{path} is not what dist/stage lays out or install.sh writes");
    }
}

/// Each message of the page stands in the source, and each line that an operator must act on stands in the page.
#[test]
fn every_message_is_there() {
    let source = source::everything();
    let messages = section(AGENT, "DIAGNOSTICS");
    assert!(items(&messages).len() > 10);
    for message in items(&messages) {
        source::assert_quoted(&source, message, "...");
    }
    // At 80 columns it would seem to have the text of the next one.
    for item in messages.split("\n.It ").skip(1) {
        assert!(item.lines().nth(1).is_some_and(|line| !line.starts_with(".El")), "nothing is said of {item}");
    }
    // What a config check found is logged from a table.
    let calls = ["log::error!(", "LogLine::error("];
    let errors: Vec<&str> = calls.iter().flat_map(|call| source.split(call).skip(1)).filter_map(said).collect();
    assert!(errors.len() > 9, "{errors:?}");
    let of_cluster = section(CLUSTER, "DIAGNOSTICS");
    for message in items(&of_cluster) {
        source::assert_quoted(&source, message, "...");
    }
    for error in errors {
        let is_listed =
            [&messages, &of_cluster].into_iter().any(|page| items(page).iter().any(|item| error.starts_with(item)));
        assert!(is_listed, "DIAGNOSTICS does not list {error:?}");
    }
}

/// Constant, so that a line can be searched for: what varies is a field.
#[test]
fn no_message_of_the_log_is_put_together_at_run_time() {
    let source = source::everything();
    let calls = ["error", "warn", "info", "debug"].map(|level| format!("log::{level}!("));
    let messages: Vec<&str> = calls.iter().flat_map(|call| source.split(call).skip(1)).filter_map(said).collect();
    assert!(messages.len() > 50, "{}", messages.len());
    for message in messages {
        assert!(!message.contains('{'), "{message:?} has a gap");
    }
}

/// The message of a call to `log`: the first text that follows its fields.
fn said(call: &str) -> Option<&str> {
    let call = call.trim_start();
    let message = call.strip_prefix('"').or_else(|| call.split_once(';')?.1.trim_start().strip_prefix('"'))?;
    message.split('"').next()
}

/// Numbers that the text gives, beside the constants that they stand for.
#[test]
fn every_number_is_that_of_the_source() {
    let text = text(AGENT);
    let milliseconds = |time: Duration| time.as_millis();
    let seconds = |time: Duration| time.as_secs();
    assert_eq!((supervisor::CONFIG_FILE_INTERVAL, restart_requests::REPEAT_SECONDS), (Duration::from_secs(60), 3600));
    for words in [
        format!("{} milliseconds old", milliseconds(supervisor::SETTLE_DELAY)),
        format!("within {} seconds", seconds(supervisor::PROBE_TIMEOUT)),
        "noticed within a minute".to_string(),
        format!("in {} minutes", seconds(backoff::WINDOW) / 60),
        format!("waits 1, 2, 4 seconds and so on up to {}, +-{} %", seconds(backoff::CAP), backoff::JITTER_PERCENT),
        format!("apart, +-{} %", cadence::JITTER_PERCENT),
        format!("up to {} minutes", seconds(cadence::FAILURE_CAP) / 60),
        "repeated once an hour".to_string(),
    ] {
        assert!(text.contains(&words), "{AGENT} does not say {words:?}");
    }
}
