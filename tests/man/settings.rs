//! kmagent.yaml(5): every setting with its type, range, default, variable, flag and example.

use std::collections::BTreeSet;

use super::{AGENT, SETTINGS, section, settings_page, uses};
use crate::settings::{Case, rows};
use crate::support::agent::Agent;
use crate::support::source;
use kmagent::settings::table::DEFAULT_FILE;

/// The line below `.It NAME` in a setting's item, without its macro.
fn fact<'a>(item: &'a str, name: &str) -> Option<&'a str> {
    let line = item.split_once(&format!("\n.It {name}\n"))?.1.lines().next()?;
    match line.strip_prefix('.') {
        Some(rest) => rest.split_once(' ').map(|(_, text)| text),
        None => Some(line),
    }
}

#[test]
fn every_setting_has_its_variable_flag_and_default() {
    let page = settings_page();
    let shown = rows(&Case::new("").print(&[], &[]));
    let table = source::settings();
    assert_eq!(page.len(), table.len(), "settings in {SETTINGS} and in the source");
    for [name, variable, _] in table {
        let (_, item) =
            page.iter().find(|(page, _)| *page == name).unwrap_or_else(|| panic!("no {name} in {SETTINGS}"));
        assert_eq!(fact(item, "Environment"), Some(&*variable), "{name}");
        assert_eq!(fact(item, "Flag"), Some(&*format!("Fl {name}")), "{name}");
        let default = fact(item, "Default").unwrap_or_else(|| panic!("{name} has no default"));
        let value = shown[&name].0.trim_matches(['(', ')']);
        match name.as_str() {
            // It is where the test has put it.
            "agent-config" => assert_eq!(default, DEFAULT_FILE),
            "update-endpoint" => assert_eq!(default, "derived"),
            "host-name" => assert_eq!(default, "the host's name"),
            "log-format" => assert!(default.starts_with(value), "{name}: {value}"),
            _ => assert_eq!((default, &*shown[&name].1), (value, "default"), "{name}"),
        }
    }
}

/// Each value that is none of its type is refused in the words of that type, and each type is explained.
#[test]
fn every_type_is_explained_and_is_the_one_that_the_program_takes() {
    let page = settings_page();
    let case = Case::new("");
    let mut types = BTreeSet::new();
    for (name, item) in &page {
        let written = item.split_once('\n').unwrap().0.strip_prefix("Ar ").unwrap_or_else(|| panic!("{name}: no type"));
        types.insert(written.to_string());
        // As a settings file and a key; no policy has such a rule.
        case.file("x", if name == "policy" { "" } else { "config: x" });
        let bad = case.print(&[], &[&format!("--{name}=:\t?")]).stderr;
        let path = case.dir.join("x").display().to_string();
        let good = case.print(&[], &[&format!("--{name}=x")]);
        let is_path = good.code == Some(0) && rows(&good)[name].0 == path;
        let expected = [
            ("is not a duration", "duration"),
            ("is not a size", "size"),
            ("is not a number", "number"),
            ("is no option", "list"),
            ("is neither true nor false", "bool"),
            ("is not a URL", "url"),
            ("is not a log level", "level"),
            ("is not a log format", "format"),
            ("is not a restart mode", "mode"),
            ("control character", "text"),
            ("", "command"),
        ];
        let expected = expected.into_iter().find(|(words, _)| bad.contains(words)).unwrap().1;
        assert_eq!(written, if is_path { "path" } else { expected }, "{name}: {bad}");
    }
    let description = section(SETTINGS, "DESCRIPTION");
    let explained = super::items(&description).into_iter().filter(|item| item.starts_with("Ar "));
    let explained: BTreeSet<String> = explained
        .flat_map(|item| item.split(' '))
        .filter(|word| !matches!(*word, "Ar" | ","))
        .map(String::from)
        .collect();
    assert_eq!(explained, types);
}

/// A setting has a range just when the program names one in its complaint about a value outside of it.
#[test]
fn every_range_is_the_one_that_the_program_names() {
    let mut named = BTreeSet::new();
    for bad in ["1ns", "1", "101", "25h"] {
        let args: Vec<String> = source::settings()[1..].iter().map(|[name, ..]| format!("--{name}={bad}")).collect();
        let output = Case::new("").print(&[], &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.code, Some(78), "{output:?}");
        named.extend(output.stderr.lines().filter_map(|line| {
            let (name, cause) = line.strip_prefix("kmagent: --")?.split_once(": ")?;
            Some((name.to_string(), cause.split_once("it takes ")?.1.to_string()))
        }));
    }
    let page = settings_page();
    let ranges = page.iter().filter_map(|(name, item)| Some((name.clone(), fact(item, "Range")?.to_string())));
    assert_eq!(ranges.collect::<BTreeSet<_>>(), named);
    assert!(named.len() > 8, "{named:?}");
    let splay = Agent::builder().build().run(["--check", "--splay", "25h"]).stderr;
    let range = splay.split_once("it takes ").unwrap().1.split(" (").next().unwrap();
    assert!(section(AGENT, "OPTIONS").contains(&format!("\nIt takes {range}.\n")), "{range}");
}

#[test]
fn every_example_is_a_settings_file_that_holds() {
    let page = settings_page();
    let examples: Vec<_> = page.iter().map(|(name, item)| (name, fact(item, "Example").expect(name))).collect();
    // Only agent-config cannot stand in a settings file.
    let (flag, lines): (Vec<_>, Vec<_>) = examples.into_iter().partition(|(name, _)| *name == "agent-config");
    assert_eq!(flag[0].1, "Fl agent-config Ns Cm = Ns /srv/kmagent/agent.yaml");
    for (name, line) in &lines {
        assert_eq!(line.split(": ").next(), Some(name.as_str()), "an example of another setting");
    }
    let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let here = [("/etc/kmagent/api-key", "api-key"), ("/etc/kmagent/policy", "policy"), ("/run/secrets/", "")];
    let case = Case::new(&here.iter().fold(text, |text, (there, here)| text.replace(there, here)));
    case.file("api-key", "k");
    case.file("update-token", "t");
    case.file("policy.yaml", "");
    let shown = rows(&case.print(&[], &[]));
    for (name, line) in lines {
        assert!(shown[name].1.starts_with("file "), "{line}: {:?}", shown[name]);
    }
}

/// What the types say by example is taken: units, words, whole values.
#[test]
fn every_spelling_that_is_named_is_taken() {
    let case = Case::new("");
    let takes = |setting: &str, text: &str| case.print(&[], &[&format!("--{setting}={text}")]).code == Some(0);
    for spelling in uses(&section(SETTINGS, "DESCRIPTION"), "Ql") {
        let taken = match spelling.trim_start_matches("\\&") {
            "ns" => takes("poll-timeout", "1000000000ns"),
            "us" => takes("poll-timeout", "1000000us"),
            "ms" => takes("poll-timeout", "1000ms"),
            unit @ ("s" | "m" | "h") => takes("poll-timeout", &format!("1{unit}")),
            unit @ ("KiB" | "MiB") => takes("max-config-size", &format!("1{unit}")),
            // YAML's, and that of a flag.
            "#" | ":" | "|" | "=" => true,
            value => {
                takes("docker-mode", value) || takes("config-check-interval", value) || takes("poll-timeout", value)
            }
        };
        assert!(taken, "{spelling}");
    }
}
