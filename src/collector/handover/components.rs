//! What is known of the collector's components that must not run twice at once. Pure.
//!
//! Of those in the manifests of `dist/collector` it was seen when each ran twice
//! (`tests/handover/components.yaml` has it all, and is held against this); of others it is what contrib's
//! documentation says that they open exclusively, or resume from where they stopped. What that means for a hand-over is
//! for `eligible` to judge.

use std::time::Duration;

use crate::config::value::Value;
use crate::settings::parse::duration;

/// Read a stream that each of two readers would deliver in full, or that only one may read. What merely scrapes may
/// overlap for a while: the same gauge twice is no error. Underscores left out: contrib renames `filelog` to `file_log`
/// and so on.
const READ_ONCE: [&str; 23] = [
    "awscloudwatch",
    "awss3",
    "azureblob",
    "azureeventhub",
    "cloudflare",
    "file",
    "filelog",
    "journald",
    "k8scluster",
    "k8sevents",
    "k8slog",
    "k8sobjects",
    "macosunifiedlogging",
    "mongodbatlas",
    "mqtt",
    "namedpipe",
    "okta",
    "otlpjsonfile",
    "profiling",
    "pulsar",
    "s3",
    "windowseventlog",
    "windowseventtrace",
];

/// They connect to another program's Unix socket, and listen on none.
const UNIX_CLIENTS: [&str; 9] =
    ["chrony", "dockerobserver", "dockerstats", "haproxy", "memcached", "mysql", "podmanstats", "postgresql", "redis"];

/// How often spanmetrics and servicegraph report their totals by default (contrib 0.145).
const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_secs(60);

/// A component of a config, as far as two collectors beside each other are concerned.
pub struct Component<'a> {
    /// `receivers`, `processors`, `exporters`, `connectors` or `extensions`.
    section: &'a str,
    /// The type, without the name behind the slash and without underscores.
    kind: String,
    value: &'a Value,
}

/// What only one process can have open, so that a second collector would not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusive {
    Storage,
    WriteAheadLog,
    UnixSocket,
}

impl<'a> Component<'a> {
    pub fn new(section: &'a str, id: &str, value: &'a Value) -> Component<'a> {
        let kind = id.split('/').next().unwrap_or(id).trim().replace('_', "");
        Component { section, kind, value }
    }

    /// Two would each deliver everything, or only one may read.
    pub fn is_read_once(&self) -> bool {
        // The log queries of sqlquery remember up to where they have read; its other queries merely scrape.
        self.section == "receivers"
            && (READ_ONCE.contains(&self.kind.as_str()) || self.kind == "sqlquery" && has_key(self.value, "logs"))
    }

    /// Keeps data for other components, and only one process may.
    pub fn is_storage(&self) -> bool {
        self.section == "extensions" && self.kind.ends_with("storage")
    }

    pub fn writes_a_file(&self) -> bool {
        self.section == "exporters" && self.kind == "file"
            || self.section == "extensions" && self.kind == "pprof" && is_set(self.value.get("save_to_file"))
    }

    /// Reports itself to a server as one instance.
    pub fn is_opamp(&self) -> bool {
        self.section == "extensions" && self.kind == "opamp"
    }

    /// Whether two that run for `longest_overlap` may both report a total that each has counted since its own start, so
    /// that the counter jumps between the two.
    pub fn reports_totals_within(&self, longest_overlap: Duration) -> bool {
        let flush_interval = self.value.get("metrics_flush_interval").filter(|interval| is_set(Some(interval)));
        let temporality = self.value.get("aggregation_temporality").and_then(Value::as_str);
        let is_delta = temporality.is_some_and(|temporality| temporality.ends_with("DELTA"));
        let counts = flush_interval.is_some() || self.kind == "spanmetrics" || self.kind == "servicegraph";
        // The new one then reports for the first time when the old one has ended.
        let is_after_the_overlap = match flush_interval {
            None => DEFAULT_FLUSH_INTERVAL > longest_overlap,
            Some(set) => set.as_str().and_then(|set| duration(set).ok()).is_some_and(|set| set > longest_overlap),
        };
        self.section == "connectors" && counts && !is_delta && !is_after_the_overlap
    }

    /// Those of a receiver_creator: receivers too, as ids and configs.
    pub fn receiver_templates(&self) -> &'a [(String, Value)] {
        let templates = self.value.get("receivers").filter(|_| self.kind == "receivercreator");
        templates.and_then(Value::as_object).unwrap_or_default()
    }

    /// Once for each place in the component's config.
    pub fn exclusives(&self) -> Vec<Exclusive> {
        let mut found = Vec::new();
        let listens = self.section != "exporters" && !UNIX_CLIENTS.contains(&self.kind.as_str());
        visit(self.value, &mut |key, value| {
            let text = value.as_str().unwrap_or_default();
            if key == "storage" && is_set(Some(value)) && !self.is_storage() {
                found.push(Exclusive::Storage);
            }
            // `wal` of prometheusremotewrite, `experimental_wal_config` of googlecloud.
            if key.split('_').any(|word| word == "wal") && is_set(Some(value)) && self.section == "exporters" {
                found.push(Exclusive::WriteAheadLog);
            }
            // fluentforward takes a path for a Unix socket's name.
            let is_unix = key == "transport" && text.starts_with("unix")
                || text.starts_with("unix:")
                || key == "endpoint" && text.starts_with('/');
            if listens && is_unix {
                found.push(Exclusive::UnixSocket);
            }
        });
        found
    }
}

fn is_set(value: Option<&Value>) -> bool {
    !matches!(value, None | Some(Value::Null | Value::Bool(false))) && value.and_then(Value::as_str) != Some("")
}

fn has_key(value: &Value, name: &str) -> bool {
    let mut found = false;
    visit(value, &mut |key, _| found |= key == name);
    found
}

/// Each key of each map, however deep.
fn visit<'a>(value: &'a Value, see: &mut dyn FnMut(&str, &'a Value)) {
    match value {
        Value::Object(entries) => {
            for (key, inner) in entries {
                see(key, inner);
                visit(inner, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| visit(item, see)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => {}
    }
}
