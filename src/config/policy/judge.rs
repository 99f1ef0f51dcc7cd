//! The walk over an offered config, with the overlay and the confirmed config beside it.
//!
//! A key with `::` is several keys, as for the collector (confmap's key delimiter), at any level. What the overlay says
//! about such a place is not looked for, as the collector may take either.

use super::address;
use super::components::{self, MAX_DEPTH, Piece, Section, has, is_empty, names_address, texts};
use super::file::{Rules, names_component};
use super::pattern;
use super::references;
use super::{Violation, Violations, shortened};
use crate::config::value::{Value, find};

pub fn judge(rules: &Rules, offered: &Value, overlay: Option<&Value>, confirmed: Option<&Value>) -> Violations {
    let mut walk = Walk { rules, place: String::new(), depth: 0, found: Violations::default() };
    walk.value(offered, Beside { overlay, confirmed }, Scope { part: Part::Root, kind: "", has_operators: false });
    walk.found
}

struct Walk<'a> {
    rules: &'a Rules,
    /// The keys down to where it is, with `::` between them, and how many.
    place: String,
    depth: usize,
    found: Violations,
}

/// What is at the same place of the other configs.
#[derive(Clone, Copy)]
struct Beside<'a> {
    overlay: Option<&'a Value>,
    confirmed: Option<&'a Value>,
}

/// Where in a config a key stands.
#[derive(Clone, Copy)]
struct Scope<'k> {
    part: Part,
    /// The component's type; empty outside of components.
    kind: &'k str,
    /// It is the list of a log receiver's operators.
    has_operators: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Root,
    /// Whose keys are ids of components.
    Components(Section),
    Component(Section),
    Service,
    Telemetry,
    Other,
}

impl<'a> Walk<'a> {
    fn value(&mut self, value: &'a Value, beside: Beside<'a>, scope: Scope<'_>) {
        match value {
            Value::String(text) => {
                if let Err(why) = references::judge(text, &self.rules.providers) {
                    self.violate("providers", why, value, beside);
                }
                // Under the default policy such a value is this host's own.
                self.unknown_part(text, value, beside, scope);
            }
            Value::Array(items) => {
                let confirmed = beside.confirmed.and_then(Value::as_array).unwrap_or_default();
                for (nth, item) in items.iter().enumerate() {
                    let beside = Beside { overlay: None, confirmed: confirmed.get(nth) };
                    let above = self.descend(&nth.to_string());
                    if !self.is_exception() {
                        self.value(item, beside, scope);
                    }
                    self.ascend(above);
                }
            }
            Value::Object(entries) => {
                self.file_output(value, beside, scope);
                let sorted = |value: Option<&'a Value>| value.map(Value::sorted).unwrap_or_default();
                let (overlay, confirmed) = (sorted(beside.overlay), sorted(beside.confirmed));
                for (key, value) in entries {
                    let beside = Beside { overlay: find(&overlay, key), confirmed: find(&confirmed, key) };
                    self.entry(key, value, beside, scope);
                }
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
        }
    }

    fn entry(&mut self, key: &'a str, value: &'a Value, beside: Beside<'a>, scope: Scope<'_>) {
        let (key, rest) = key.split_once("::").map_or((key, None), |(key, rest)| (key, Some(rest)));
        // Of two maps each key is looked at; anything else is the overlay's.
        let both_are_maps = matches!((beside.overlay, value), (Some(Value::Object(_)), Value::Object(_)));
        if rest.is_none() && beside.overlay.is_some() && !both_are_maps {
            return;
        }
        let above = self.descend(key);
        if self.depth > MAX_DEPTH {
            self.violate("providers", "it is nested too deeply to be judged", value, beside);
        } else if !self.is_exception() {
            if let Err(why) = references::judge(key, &self.rules.providers) {
                self.violate("providers", why, value, beside);
            }
            let kind = components::kind(key);
            let part = part_below(scope, key);
            let is_new = matches!(scope.part, Part::Components(_));
            let is_listener = scope.kind == "prometheus" && key == "api_server";
            let kind_below = if is_new || is_listener { &kind } else { scope.kind };
            let scope = Scope { part, kind: kind_below, has_operators: key == "operators" };
            // The collector may take any of a component's pieces, so each is judged as if it were all of it.
            let beside = if rest.is_some() { Beside { overlay: None, ..beside } } else { beside };
            if let (true, Part::Component(section)) = (is_new, part) {
                self.component(section, &kind, Piece { rest, value }, beside);
            }
            match rest {
                Some(rest) => {
                    if beside.confirmed != Some(value) {
                        self.key(key, &Value::Object(Vec::new()), Beside { overlay: None, confirmed: None }, scope);
                    }
                    self.entry(rest, value, beside, scope);
                }
                None => {
                    self.key(key, value, beside, scope);
                    self.value(value, beside, scope);
                }
            }
        }
        self.ascend(above);
    }

    /// The length of the place above.
    fn descend(&mut self, key: &str) -> usize {
        let above = self.place.len();
        if self.depth > 0 {
            self.place.push_str("::");
        }
        self.place.push_str(&shortened(key));
        self.depth += 1;
        above
    }

    fn ascend(&mut self, above: usize) {
        self.place.truncate(above);
        self.depth -= 1;
    }

    fn is_exception(&self) -> bool {
        self.rules.exceptions.iter().any(|own| {
            let mut keys = self.place.split("::");
            own.split("::").all(|own| keys.next().is_some_and(|key| pattern::matches(own, key)))
                && keys.next().is_none()
        })
    }

    /// Notes it, unless the confirmed config has this value here.
    fn violate(&mut self, rule: &'static str, why: &'static str, value: &Value, beside: Beside<'_>) {
        if beside.confirmed != Some(value) {
            self.found.push(Violation { rule, place: self.place.clone(), why });
        }
    }

    /// A reference where a rule looks for components, or for keys of one.
    fn unknown_part(&mut self, text: &str, value: &Value, beside: Beside<'_>, scope: Scope<'_>) {
        let rules = self.rules;
        let has_components = matches!(scope.part, Part::Root | Part::Components(_));
        let is_component = matches!(scope.part, Part::Component(_)) && self.depth == 2;
        let covered = [
            (has_components && !rules.denied.is_empty(), "deny-components"),
            (has_components && rules.allowed.is_some(), "allow-components"),
            (has_components && rules.exporter_hosts.is_some(), "exporter-endpoints"),
            (has_components && rules.only_loopback, "listen"),
            ((has_components || is_component) && rules.folders.is_some(), "paths"),
        ];
        if let (true, Some((_, rule))) =
            (references::is_variable(text), covered.iter().find(|(is_covered, _)| *is_covered))
        {
            self.violate(rule, "what it holds cannot be judged, as it is a variable", value, beside);
        }
    }

    fn component(&mut self, section: Section, kind: &str, piece: Piece<'a>, beside: Beside<'a>) {
        // The overlay has it too.
        if beside.overlay.is_some() {
            return;
        }
        let (rules, value) = (self.rules, piece.value);
        if names_component(&rules.denied, section, kind) {
            self.violate("deny-components", "the component is denied", value, beside);
        } else if rules.allowed.as_ref().is_some_and(|allowed| !names_component(allowed, section, kind)) {
            self.violate("allow-components", "the component is none of those allowed", value, beside);
        }
        if kind == components::RUNNER {
            self.violate("programs", "it runs a program", value, beside);
        }
        if rules.exporter_hosts.is_some() && section == Section::Exporters {
            match components::sends(kind) {
                Some(true) if !names_address(piece) => {
                    self.violate("exporter-endpoints", "it names no host", value, beside);
                }
                None => self.violate("exporter-endpoints", "where it sends is not known", value, beside),
                Some(_) => {}
            }
        }
        if rules.only_loopback && components::may_listen(section, kind) && !names_address(piece) {
            self.violate("listen", "it names no address to listen on", value, beside);
        }
    }

    fn key(&mut self, key: &str, value: &Value, beside: Beside<'_>, Scope { part, kind, .. }: Scope<'_>) {
        let rules = self.rules;
        if has(components::RUNS, key) && !is_empty(value) {
            self.violate("programs", "it names a program to run", value, beside);
        }
        if components::brings_config(kind, key, value) {
            self.violate("programs", "it takes its config from elsewhere, which may name a program", value, beside);
        }
        let is_file_exporter = part == Part::Component(Section::Exporters) && kind == "file" && key == "path";
        if (has(components::WRITES, key) || is_file_exporter) && !is_empty(value) {
            self.writes(texts(value), value, beside);
        }
        if has(components::LOG_OUTPUTS, key) && !is_empty(value) {
            let has_others = value.as_array().unwrap_or_default().iter().any(|item| item.as_str().is_none());
            let mut files = texts(value).filter(|_| !has_others);
            files.iter_mut().for_each(|files| files.retain(|output| !matches!(*output, "stdout" | "stderr")));
            if files.as_ref().is_none_or(|files| !files.is_empty()) {
                self.writes(files, value, beside);
            }
        }
        let is_address = components::is_address(key);
        if let Some(hosts) = rules.exporter_hosts.as_deref().filter(|_| is_address && sends_from(part, kind, key)) {
            let is_allowed = |text: &str| {
                let host = address::host(text).unwrap_or_default().to_ascii_lowercase();
                let host = host.strip_suffix('.').unwrap_or(&host);
                !host.is_empty() && hosts.iter().any(|own| pattern::matches(&own.to_ascii_lowercase(), host))
            };
            self.each_text("exporter-endpoints", value, beside, &|text| {
                let text = &references::with_endpoint(text, rules.endpoint.as_deref());
                match is_allowed(text) {
                    true => Ok(()),
                    false if references::is_variable(text) => Err("the host cannot be judged, as it is a variable"),
                    false => Err("the host is none of those allowed"),
                }
            });
        }
        if rules.only_loopback && is_address && listens_at(part, kind, key) {
            self.each_text("listen", value, beside, &address::listens_on_loopback);
        }
        if let (Some(folders), Part::Component(section)) = (&rules.folders, part) {
            if components::is_path(section, kind, key) {
                self.each_text("paths", value, beside, &|path| address::is_below(path, folders));
            } else if is_address {
                self.each_text("paths", value, beside, &|text| {
                    address::any_unix_socket(text).map_or(Ok(()), |path| address::is_below(path, folders))
                });
            }
        }
    }

    /// The texts of a value, where the collector takes a list, too.
    fn each_text(
        &mut self,
        rule: &'static str,
        value: &Value,
        beside: Beside<'_>,
        judge: &dyn Fn(&str) -> Result<(), &'static str>,
    ) {
        // Anything else is no path and no address, but a switch or a count, or has keys of its own.
        let problem = texts(value).and_then(|texts| texts.into_iter().find_map(|text| judge(text).err()));
        if let Some(why) = problem {
            self.violate(rule, why, value, beside);
        }
    }

    /// `None`: it is not known which files.
    fn writes(&mut self, files: Option<Vec<&str>>, value: &Value, beside: Beside<'_>) {
        let why = match (&self.rules.folders, files) {
            (Some(folders), Some(files)) => files.into_iter().find_map(|file| address::is_below(file, folders).err()),
            _ => Some("it names a file to write"),
        };
        if let Some(why) = why {
            self.violate("files", why, value, beside);
        }
    }

    /// Operators of log receivers are objects in a list, and any of them may be the one that writes a file.
    fn file_output(&mut self, value: &Value, beside: Beside<'_>, scope: Scope<'_>) {
        let Some(kind) = value.get("type").and_then(Value::as_str) else { return };
        if kind == components::FILE_OUTPUT || scope.has_operators && references::is_variable(kind) {
            self.writes(value.get("path").and_then(texts), value, beside);
        }
    }
}

fn part_below(scope: Scope<'_>, key: &str) -> Part {
    match scope.part {
        Part::Root => match (Section::named(key), key) {
            (Some(section), _) => Part::Components(section),
            (None, "service") => Part::Service,
            (None, _) => Part::Other,
        },
        Part::Components(section) => Part::Component(section),
        // What it starts for what it finds on the host.
        Part::Component(Section::Receivers) if scope.kind == "receivercreator" && key == "receivers" => {
            Part::Components(Section::Receivers)
        }
        Part::Service if key == "telemetry" => Part::Telemetry,
        // Names and values of the site's own.
        Part::Telemetry if key == "resource" => Part::Other,
        Part::Component(_) | Part::Telemetry if key == "headers" => Part::Other,
        part => part,
    }
}

/// Whether an address there is where telemetry goes.
fn sends_from(part: Part, kind: &str, key: &str) -> bool {
    match part {
        Part::Component(Section::Exporters) => components::sends(kind) == Some(true),
        Part::Telemetry => key == "endpoint",
        _ => false,
    }
}

/// Whether an address there is where something listens; of the collector's own telemetry, where it is scraped.
fn listens_at(part: Part, kind: &str, key: &str) -> bool {
    match part {
        Part::Component(section) => components::may_listen(section, kind),
        Part::Telemetry => matches!(key, "address" | "host"),
        _ => false,
    }
}
