//! A policy file: a YAML mapping of rules.
//!
//! A file with anything else in it is an error, never a lesser policy.

use super::components::{self, Section};
use super::pattern::Pattern;
use crate::config::value::Value;

const KEYS: [&str; 7] =
    ["deny-components", "allow-components", "exporter-endpoints", "listen", "paths", "providers", "allow"];

#[derive(Clone, Debug)]
pub struct Rules {
    pub denied: Vec<ComponentPattern>,
    /// `None`: any. So below.
    pub allowed: Option<Vec<ComponentPattern>>,
    pub exporter_hosts: Option<Vec<Pattern>>,
    pub only_loopback: bool,
    pub folders: Option<Vec<String>>,
    pub providers: Vec<String>,
    /// Places, key by key; what is below one is meant too.
    pub exceptions: Vec<Vec<Pattern>>,
}

#[derive(Clone, Debug)]
pub struct ComponentPattern {
    section: Option<Section>,
    kind: Pattern,
}

impl ComponentPattern {
    pub fn matches(&self, section: Section, kind: &str) -> bool {
        self.section.is_none_or(|own| own == section) && self.kind.matches(kind)
    }
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
        Ok(Rules {
            denied: list(file, "deny-components", component)?.unwrap_or_default(),
            allowed: list(file, "allow-components", component)?,
            exporter_hosts: list(file, "exporter-endpoints", host)?,
            only_loopback,
            folders: list(file, "paths", folder)?,
            providers: list(file, "providers", provider)?.unwrap_or_else(|| vec!["env".to_string()]),
            exceptions: list(file, "allow", place)?.unwrap_or_default(),
        })
    }
}

fn list<T>(file: &Value, rule: &str, parse: fn(&str) -> Result<T, &'static str>) -> Result<Option<Vec<T>>, String> {
    let Some(value) = file.get(rule) else { return Ok(None) };
    let items = value.as_array().ok_or_else(|| format!("{rule}: it takes a list, as in {rule}: [a, b]"))?;
    let parse = |item: &Value| {
        let text = item.as_str().ok_or_else(|| format!("{rule}: each item is a text: quote it"))?;
        parse(text).map_err(|cause| format!("{rule}: {text:?} {cause}"))
    };
    items.iter().map(parse).collect::<Result<_, _>>().map(Some)
}

fn component(text: &str) -> Result<ComponentPattern, &'static str> {
    const FORM: &str = "is not KIND::TYPE, as in receivers::journald: the kinds are receivers, processors, exporters, \
                        connectors, extensions and *, and * in a type stands for any characters";
    let (section, kind) = text.split_once("::").ok_or(FORM)?;
    let section = match section {
        "*" => None,
        _ => Some(Section::named(section).ok_or(FORM)?),
    };
    let is_type = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_*".contains(&byte));
    is_type.then(|| ComponentPattern { section, kind: Pattern::new(&components::kind(kind)) }).ok_or(FORM)
}

fn host(text: &str) -> Result<Pattern, &'static str> {
    let is_host = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte))
        || text.parse::<std::net::Ipv6Addr>().is_ok();
    let pattern = || Pattern::new(&text.to_ascii_lowercase());
    is_host.then(pattern).ok_or("is not a host: write it without scheme and port, as in *.example.com")
}

fn folder(text: &str) -> Result<String, &'static str> {
    let is_folder = text.starts_with('/') && !text.contains("..") && !text.contains(['*', '?', '[', '{', '\\', '$']);
    is_folder.then(|| text.to_string()).ok_or("is not an absolute path without .. and wildcards")
}

fn provider(text: &str) -> Result<String, &'static str> {
    let is_scheme = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
    is_scheme.then(|| text.to_string()).ok_or("is not a provider's scheme, as in file")
}

fn place(text: &str) -> Result<Vec<Pattern>, &'static str> {
    let keys: Vec<&str> = text.split("::").collect();
    let is_place = keys.iter().all(|key| !key.is_empty());
    is_place
        .then(|| keys.into_iter().map(Pattern::new).collect())
        .ok_or("is not a place: write its keys with :: between them, as in receivers::journald::journalctl_path")
}
