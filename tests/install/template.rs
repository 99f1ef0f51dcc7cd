//! `dist/agent.yaml`, the settings template, against the table of settings and the program.

use std::collections::BTreeMap;

use crate::settings::{Case, rows};
use crate::support::source;

const TEMPLATE: &str = "dist/agent.yaml";

/// Of each setting, in the template's order: name, value, and the comment above it as one line.
fn entries() -> Vec<(String, String, String)> {
    let text = source::read(TEMPLATE);
    let mut entries = Vec::new();
    let mut comment = Vec::new();
    for line in text.lines() {
        match line.strip_prefix('#') {
            Some(words) if words.starts_with(' ') || words.is_empty() => comment.push(words.trim()),
            Some(entry) => {
                let (name, value) = entry.split_once(": ").unwrap_or_else(|| panic!("not NAME: VALUE: {line}"));
                entries.push((name.to_string(), value.to_string(), comment.join(" ")));
                comment.clear();
            }
            None => {
                assert_eq!(line, "", "a line that is no comment");
                comment.clear();
            }
        }
    }
    entries
}

/// The template with every setting made one.
fn uncommented() -> String {
    source::read(TEMPLATE)
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(entry) if entry.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{entry}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn every_setting_stands_in_it_once_with_its_default() {
    let mut table: BTreeMap<_, _> = source::settings().into_iter().map(|[name, _, default]| (name, default)).collect();
    assert!(table.remove("agent-config").is_some(), "it names this very file");
    let shown = rows(&Case::new("").print(&[], &[]));
    for (name, value, comment) in entries() {
        let default = table.remove(&name).unwrap_or_else(|| panic!("{name} is no setting, or stands there twice"));
        assert!(comment.len() > 20, "{name} has no comment");
        // In parentheses the program shows what is no value.
        match (comment.split_once("Default: "), shown[&name].0.starts_with('(') || default.is_empty()) {
            (None, false) => assert_eq!(value, default, "{name}"),
            // These say it in more words than the table has.
            (Some(_), true) if ["api-key-file", "update-endpoint", "host-name", "log-format"].contains(&&*name) => {}
            (Some((_, said)), true) => assert_eq!(said, default, "{name}"),
            (said, _) => panic!("{name}: {default:?} against {said:?}, {value}"),
        }
    }
    assert!(table.is_empty(), "not in {TEMPLATE}: {table:?}");
}

#[test]
fn as_it_is_it_sets_nothing() {
    let shown = rows(&Case::new(&source::read(TEMPLATE)).print(&[], &[]));
    let set: Vec<_> = shown.iter().filter(|(_, (_, from))| from.starts_with("file ")).collect();
    assert!(set.is_empty(), "{set:?}");
}

#[test]
fn each_line_holds_once_its_mark_is_removed() {
    let case = Case::new("");
    // Unlike the other files they are read.
    let (policy, token) = (case.file("policy.yaml", ""), case.file("update-token", "t"));
    let put_here =
        |text: String| text.replace("/etc/kmagent/policy.yaml", &policy).replace("/run/secrets/update-token", &token);
    case.file("agent.yaml", &put_here(uncommented()));
    let shown = rows(&case.print(&[], &[]));
    for (name, value, _) in entries() {
        let (value, (holds, from)) = (put_here(value), &shown[&name]);
        assert!(from.starts_with("file "), "{name}: {from}");
        assert!(name == "api-key" || *holds == value, "{name}: {holds} is not {value}");
    }
}
