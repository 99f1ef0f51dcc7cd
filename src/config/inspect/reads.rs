//! Which parts of a config put into the collector's errors what they read themselves: files, and telemetry.
//!
//! Pure. Rather one too many: then an error is told by its class and place only.

use crate::config::value::Value;

/// A part of a config whose errors may quote what it reads.
#[derive(Debug, PartialEq, Eq)]
pub struct Reads {
    /// What it does, as a message says it: `reads other files`.
    pub what: String,
    /// The keys above it, with `::` between them.
    pub place: String,
}

/// Endings of keys, in lower case, that name files or URLs which a component parses.
const FILE_KEYS: [&str; 8] = [
    "_file",
    "_files",
    "file_sd_configs",
    "http_sd_configs",
    "target_allocator",
    "filename",
    "_config_path",
    "kubeconfig",
];
/// But for these, whose errors name the file and quote nothing.
const TLS_KEYS: [&str; 4] = ["ca_file", "cert_file", "key_file", "client_ca_file"];

/// Components that print what goes through them, or quote it when they cannot parse it: their section and type.
const PRINTERS: [(&str, &str); 12] = [
    ("exporters", "debug"),
    ("exporters", "logging"),
    ("exporters", "file"),
    ("receivers", "filelog"),
    ("receivers", "file_log"),
    ("receivers", "journald"),
    ("receivers", "namedpipe"),
    ("receivers", "named_pipe"),
    ("receivers", "otlpjsonfile"),
    ("receivers", "otlp_json_file"),
    ("receivers", "windowseventlog"),
    ("receivers", "windows_event_log"),
];

/// The first key with files or URLs that a component reads and parses by itself.
pub fn reads_files(config: &Value) -> Option<Reads> {
    let found = find(config, &mut Vec::new(), &|place, _| {
        let key = place.last().map_or_else(String::new, |key| key.to_ascii_lowercase());
        let is_prometheus = place.len() > 2 && place[0] == "receivers" && place[1].starts_with("prometheus");
        FILE_KEYS.iter().any(|end| key.ends_with(end)) && (is_prometheus || !TLS_KEYS.contains(&key.as_str()))
    });
    found.map(|place| Reads { what: "reads other files".to_owned(), place })
}

/// The first component that prints telemetry among the collector's own lines.
pub fn prints_telemetry(config: &Value) -> Option<Reads> {
    let found = find(config, &mut Vec::new(), &|place, value| match place {
        [section, id] => {
            let kind = id.split('/').next().unwrap_or(id).trim();
            PRINTERS.contains(&(section, kind))
        }
        // At debug processors print what they change.
        ["service", "telemetry", "logs", "level"] => match value {
            Value::String(level) => !["info", "warn", "error"].contains(&level.to_ascii_lowercase().as_str()),
            _ => true,
        },
        _ => false,
    });
    found.map(|place| Reads { what: "prints telemetry".to_owned(), place })
}

/// The first place, as confmap joins its keys, of which `is_it` is true. Confmap takes `a::b` for a key within a key.
fn find<'a>(value: &'a Value, above: &mut Vec<&'a str>, is_it: &dyn Fn(&[&str], &Value) -> bool) -> Option<String> {
    match value {
        Value::Object(entries) => entries.iter().find_map(|(key, value)| {
            let length = above.len();
            let mut found = None;
            for part in key.split("::") {
                above.push(part);
                found = found.or_else(|| is_it(above, value).then(|| above.join("::")));
            }
            let found = found.or_else(|| find(value, above, is_it));
            above.truncate(length);
            found
        }),
        Value::Array(items) => items.iter().find_map(|item| find(item, above, is_it)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => None,
    }
}
