//! What a collector complains of, without what it quotes: the class of the error, and the place in the config.
//!
//! Pure. A config that reads files or URLs puts what they hold into the error that refuses it, so of that error only
//! constant words are taken, and keys that the config has itself.

use crate::config::value::Value;

/// What is looked for in this order: the collector's words for the step that failed.
const CLASSES: [&str; 14] = [
    "cannot resolve the configuration",
    "cannot retrieve the configuration",
    "cannot convert the confmap.Conf",
    "cannot unmarshal the configuration",
    "invalid configuration",
    "failed to get config",
    "failed to build pipelines",
    "cannot build pipelines",
    "failed to build extensions",
    "cannot start extensions",
    "cannot start pipelines",
    "cannot start receivers",
    "failed to create service telemetry",
    "panic",
];

/// What may be added: the system's words for why.
const CAUSES: [&str; 16] = [
    "address already in use",
    "permission denied",
    "no such file or directory",
    "connection refused",
    "cannot assign requested address",
    "no such host",
    "is a directory",
    "read-only file system",
    "no space left on device",
    "too many open files",
    "which is not configured",
    "unable to parse OTTL statement",
    "invalid duration",
    "expected type",
    "has invalid keys",
    "unknown type",
];

/// Words around the name of a component that could not be made or started, and the section that has it.
const KINDS: [(&str, &str); 5] = [
    ("receiver", "receivers"),
    ("processor", "processors"),
    ("exporter", "exporters"),
    ("connector", "connectors"),
    ("extension", "extensions"),
];

/// The class of the latest error in `output`, and where in `config` it is, as far as that is recognised:
/// `cannot unmarshal the configuration at service::telemetry::logs::level`.
pub fn complaint(output: &str, config: &Value) -> String {
    let error = output.rfind("Error: ").map_or(output, |at| &output[at + "Error: ".len()..]);
    let class = CLASSES.into_iter().filter_map(|class| Some((error.find(class)?, class))).min_by_key(|(at, _)| *at);
    // The innermost of those that follow each other: `failed to get config: cannot resolve the configuration: `.
    let mut rest = class.map_or(error, |(at, _)| &error[at..]);
    let mut text = class.map_or("", |(_, class)| class);
    while let Some((class, inner)) = CLASSES.into_iter().find_map(|it| Some((it, rest.strip_prefix(it)?))) {
        text = class;
        rest = inner.trim_start_matches([':', ' ']);
    }
    let (place, names) = place(rest, config);
    let cause = CAUSES.into_iter().find(|cause| error.contains(cause));
    let cause =
        cause.map(|cause| format!(" ({cause}{}{})", if names.is_empty() { "" } else { ": " }, names.join(", ")));
    let place = if place.is_empty() { String::new() } else { format!(" at {}", place.join("::")) };
    let cause = cause.unwrap_or_default();
    // Perhaps there is no error in it at all.
    if text.is_empty() && (error.len() < output.len() || !place.is_empty() || !cause.is_empty()) {
        text = "error";
    }
    format!("{text}{place}{cause}")
}

/// `config` without its values, for `complaint`: all its keys if they have no more than `max_bytes`, else those of the
/// two upper levels, else null.
pub fn keys(config: &Value, max_bytes: usize) -> Value {
    fn within(value: &Value, depth: usize, left: &mut usize) -> Option<Value> {
        let Value::Object(entries) = value else { return Some(Value::Null) };
        if depth == 0 {
            return Some(Value::Null);
        }
        let kept = entries.iter().map(|(key, value)| {
            *left = left.checked_sub(key.len() + 1)?;
            Some((key.clone(), within(value, depth - 1, left)?))
        });
        kept.collect::<Option<Vec<_>>>().map(Value::Object)
    }
    let all = within(config, usize::MAX, &mut max_bytes.clone());
    all.or_else(|| within(config, 2, &mut max_bytes.clone())).unwrap_or(Value::Null)
}

/// As much of `place` as `config` has itself: a variable may be a map, and its keys are as secret as it is.
pub fn literal_place(place: &str, config: &Value) -> String {
    let mut walk = Walk { at: config, keys: Vec::new() };
    let mut rest = place;
    while !rest.is_empty() {
        let key = match walk.at {
            Value::Array(_) => rest.split("::").next(),
            _ => {
                let ends = rest.match_indices("::").map(|(at, _)| at).chain([rest.len()]);
                ends.map(|end| &rest[..end]).filter(|key| walk.at.get(key).is_some()).last()
            }
        };
        let Some(key) = key.filter(|key| walk.item(key) || walk.step(key)) else { break };
        rest = rest[key.len()..].trim_start_matches(':');
    }
    place[..place.len() - rest.len()].trim_end_matches(':').to_owned()
}

/// The keys that lead to the place, and those there that are invalid. A quoted value may only come behind it.
fn place<'a>(error: &str, config: &'a Value) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut walk = Walk { at: config, keys: Vec::new() };
    if let Some((kind, id)) = component(error) {
        walk.step(kind);
        walk.step(id);
        return (walk.keys, Vec::new());
    }
    // `exporters::otlp: must be …`, `service::pipelines::logs: references …`
    if let Some((path, _)) = error.split_once(": ").filter(|(path, _)| path.contains("::")) {
        path.split("::").all(|key| walk.step(key));
        return (walk.keys, Vec::new());
    }
    // `'exporters' error reading configuration for "otlp": decoding failed …`, then what is in it.
    for line in error.lines().filter(|line| line.starts_with('\'')) {
        let Some((path, said)) = line[1..].split_once('\'') else { break };
        if !walk.dotted(path) {
            break;
        }
        if let Some(id) = said.strip_prefix(" error reading configuration for \"").and_then(|it| it.split('"').next())
            && !walk.step(id)
        {
            break;
        }
        if let Some(id) =
            said.strip_prefix(" unknown type: ").and_then(|it| it.split(" for id: \"").nth(1)?.split('"').next())
        {
            walk.step(id);
        }
        if !said.ends_with("decoding failed due to the following error(s):") {
            break;
        }
    }
    // Only those that the config has at this very place: elsewhere it could have whatever a variable may hold.
    let invalid = error.split_once(" has invalid keys: ").map_or("", |(_, names)| names.lines().next().unwrap_or(""));
    let here = walk.at.as_object().unwrap_or_default();
    let names = invalid.split(", ").filter_map(|name| here.iter().find(|(key, _)| key == name));
    let names = names.map(|(key, _)| key.as_str()).take(8).collect();
    (walk.keys, names)
}

/// Of `failed to create "otlp/b" exporter …`: the section and the id.
fn component(error: &str) -> Option<(&'static str, &str)> {
    let words = ["failed to create \"", "failed to start \"", "failed to build \""];
    let (id, rest) = words.iter().find_map(|words| error.strip_prefix(words)?.split_once('"'))?;
    let kind = rest.trim_start();
    KINDS.iter().find(|(word, _)| kind.starts_with(word)).map(|(_, section)| (*section, id))
}

struct Walk<'a> {
    at: &'a Value,
    keys: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    /// False if there is no such key here.
    fn step(&mut self, key: &str) -> bool {
        let found = self.at.as_object().and_then(|entries| entries.iter().find(|(name, _)| name == key));
        if let Some((key, value)) = found {
            self.at = value;
            self.keys.push(key);
        }
        found.is_some()
    }

    /// Into a list.
    fn item(&mut self, index: &str) -> bool {
        let Value::Array(items) = self.at else { return false };
        let item = index.parse().ok().and_then(|index: usize| items.get(index));
        self.at = item.unwrap_or(self.at);
        item.is_some()
    }

    /// Keys with dots between them, which they may hold themselves.
    fn dotted(&mut self, path: &str) -> bool {
        let mut rest = path;
        while !rest.is_empty() {
            let ends = rest.match_indices('.').map(|(at, _)| at).chain([rest.len()]);
            let Some(end) = ends.collect::<Vec<_>>().into_iter().rev().find(|end| self.at.get(&rest[..*end]).is_some())
            else {
                return false;
            };
            self.step(&rest[..end]);
            rest = rest[end..].trim_start_matches('.');
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    /// As the collector 0.145 complains; a secret stands where it quotes a value.
    #[test]
    fn class_and_place_are_told_and_no_value() {
        let config = yaml::parse(
            br#"
receivers: {otlp: {protocols: {grpc: {endpoint: 1}}}}
exporters: {otlp_http/b: {timeout: x}, debug/q.r: {verbosity: x}, tcp: {}}
extensions: {file_storage: {directory: x}}
service: {telemetry: {logs: {level: x}}, pipelines: {logs: {exporters: [x]}}}
s3cret: 1
"#,
        )
        .unwrap();
        const DECODING: &str = "decoding failed due to the following error(s):";
        let unmarshal = format!("Error: failed to get config: cannot unmarshal the configuration: {DECODING}\n\n");
        for (output, expected) in [
            (
                format!("{unmarshal}'service.telemetry.logs' {DECODING}\n\n'level' unrecognized level: \"s3cret\"\n"),
                "cannot unmarshal the configuration at service::telemetry::logs::level",
            ),
            (
                format!("{unmarshal}'receivers' error reading configuration for \"otlp\": {DECODING}\n\n'protocols.grpc' {DECODING}\n\n'endpoint' expected\n's3cret' x"),
                "cannot unmarshal the configuration at receivers::otlp::protocols::grpc::endpoint",
            ),
            (
                format!("{unmarshal}'exporters' error reading configuration for \"debug/q.r\": {DECODING}\n\n'debugexporter.Config' has invalid keys: s3cret"),
                "cannot unmarshal the configuration at exporters::debug/q.r (has invalid keys)",
            ),
            (
                "Error: failed to get config: cannot resolve the configuration: unable to read the file file:/s3cret: open /s3cret: no such file or directory".to_owned(),
                "cannot resolve the configuration (no such file or directory)",
            ),
            (
                "Error: failed to build pipelines: failed to create \"otlp_http/b\" exporter for data type \"logs\": s3cret".to_owned(),
                "failed to build pipelines at exporters::otlp_http/b",
            ),
            (
                "x\ts3cret\nError: cannot start pipelines: failed to start \"tcp\" exporter: listen tcp s3cret: bind: address already in use\n2026 s3cret".to_owned(),
                "cannot start pipelines at exporters::tcp (address already in use)",
            ),
            ("Error: extensions::file_storage: directory must exist: stat s3cret".to_owned(), "error at extensions::file_storage"),
            ("Error: invalid configuration: service::pipelines::logs: references exporter \"s3cret\"".to_owned(), "invalid configuration at service::pipelines::logs"),
            ("Error: s3cret::x: y".to_owned(), "error at s3cret"),
            ("Error: s4cret::x: y".to_owned(), "error"),
            (format!("{unmarshal}'service.s4cret' {DECODING}"), "cannot unmarshal the configuration at service"),
            ("s3cret".to_owned(), ""),
            (String::new(), ""),
        ] {
            assert_eq!(complaint(&output, &config), expected, "{output}");
            assert_eq!(complaint(&output, &keys(&config, 1000)), expected, "by the keys alone: {output}");
        }
    }

    #[test]
    fn of_many_keys_the_upper_ones_are_kept_and_else_none() {
        let config = yaml::parse(b"{a: {b: {c: 1}}, d: [{e: 1}]}").unwrap();
        for (max_bytes, expected) in [(8, "{a: {b: {c: null}}, d: null}"), (7, "{a: {b: null}, d: null}"), (5, "null")]
        {
            assert_eq!(keys(&config, max_bytes), yaml::parse(expected.as_bytes()).unwrap(), "{max_bytes}");
        }
    }
}
