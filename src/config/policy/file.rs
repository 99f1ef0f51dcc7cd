//! A policy file: a YAML mapping of rules.
//!
//! A file with anything else in it is an error, never a lesser policy.

use std::net::Ipv6Addr;

use super::components::{self, Section};
use super::pattern::matches;
use crate::config::value::Value;

const KEYS: [&str; 7] =
    ["deny-components", "allow-components", "exporter-endpoints", "listen", "paths", "providers", "allow"];

/// Texts of the file, of which each is one that its rule takes.
#[derive(Clone, Debug)]
pub struct Rules {
    pub denied: Vec<String>,
    /// `None`: any. So below.
    pub allowed: Option<Vec<String>>,
    pub exporter_hosts: Option<Vec<String>>,
    /// Not of the file: what `KM_COLLECTOR_ENDPOINT` is, if that is known.
    pub endpoint: Option<String>,
    pub only_loopback: bool,
    pub folders: Option<Vec<String>>,
    pub providers: Vec<String>,
    /// Places; what is below one is meant too.
    pub exceptions: Vec<String>,
}

impl Rules {
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(file: &Value) -> Result<Rules, String> {
        let entries = match file {
            Value::Null => &[],
            _ => file.as_object().ok_or("expected \"rule: value\" lines")?,
        };
        if let Some((key, _)) = entries.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
            return Err(format!("unknown rule {key:?}: the rules are {}", KEYS.join(", ")));
        }
        let only_loopback = match file.get("listen").map(Value::as_str) {
            None | Some(Some("any")) => false,
            Some(Some("loopback")) => true,
            Some(_) => return Err("listen: it takes loopback or any".to_string()),
        };
        const COMPONENT: &str = "is not KIND::TYPE, as in receivers::journald: the kinds are receivers, processors, \
                                 exporters, connectors, extensions and *, and * in a type stands for any characters";
        const HOST: &str = "is not a host: write it without scheme and port, as in *.example.com";
        const PLACE: &str =
            "is not a place: write its keys with :: between them, as in receivers::journald::journalctl_path";
        let folder = "is not an absolute path without .. and wildcards";
        Ok(Rules {
            denied: list(file, "deny-components", is_component, COMPONENT)?.unwrap_or_default(),
            allowed: list(file, "allow-components", is_component, COMPONENT)?,
            exporter_hosts: list(file, "exporter-endpoints", is_host, HOST)?,
            endpoint: None,
            only_loopback,
            folders: list(file, "paths", is_folder, folder)?,
            providers: list(file, "providers", is_scheme, "is not a provider's scheme, as in file")?
                .unwrap_or_else(|| vec!["env".to_string()]),
            exceptions: list(file, "allow", is_place, PLACE)?.unwrap_or_default(),
        })
    }
}

fn list(file: &Value, rule: &str, fits: fn(&str) -> bool, otherwise: &str) -> Result<Option<Vec<String>>, String> {
    let Some(value) = file.get(rule) else { return Ok(None) };
    let items = value.as_array().ok_or_else(|| format!("{rule}: it takes a list, as in {rule}: [a, b]"))?;
    let mut texts = Vec::new();
    for item in items {
        match item.as_str() {
            Some(text) if fits(text) => texts.push(text.to_string()),
            Some(text) => return Err(format!("{rule}: {text:?} {otherwise}")),
            None => return Err(format!("{rule}: each item is a text: quote it")),
        }
    }
    Ok(Some(texts))
}

/// Whether one of these patterns is meant for a component of that type.
pub fn names_component(patterns: &[String], section: Section, kind: &str) -> bool {
    let alias = components::alias(section, kind);
    patterns.iter().filter_map(|pattern| pattern.split_once("::")).any(|(of, own)| {
        let own = components::kind(own);
        let is_section = of == "*" || Section::named(of) == Some(section);
        is_section && (matches(&own, kind) || alias.is_some_and(|alias| matches(&own, alias)))
    })
}

fn is_component(text: &str) -> bool {
    text.split_once("::").is_some_and(|(section, kind)| {
        let is_kind =
            !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_*".contains(&byte));
        is_kind && (section == "*" || Section::named(section).is_some())
    })
}

fn is_host(text: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte);
    !text.is_empty() && text.bytes().all(is_name) || text.parse::<Ipv6Addr>().is_ok()
}

fn is_folder(text: &str) -> bool {
    text.starts_with('/') && !text.contains("..") && !text.bytes().any(|byte| b"*?[{\\$".contains(&byte))
}

fn is_scheme(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
    text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && text.bytes().all(is_letter)
}

fn is_place(text: &str) -> bool {
    text.split("::").all(|key| !key.is_empty())
}
