//! What is known of the collector's components, as far as a rule asks: what they run, write, listen on and send to.
//!
//! From the sources and the documentation of the collector and its contrib repository, 0.145. One that is not here is
//! taken for the worst. Types have no underscores here: contrib renames `filelog` to `file_log` and so on.

use crate::config::value::Value;

/// Keys down to a value; far more than any config has, and little enough for any thread's stack.
pub const MAX_DEPTH: usize = 200;

/// Part of a config that has components, by the key that they are under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Receivers,
    Processors,
    Exporters,
    Connectors,
    Extensions,
}

impl Section {
    pub fn named(key: &str) -> Option<Section> {
        Some(match key {
            "receivers" => Section::Receivers,
            "processors" => Section::Processors,
            "exporters" => Section::Exporters,
            "connectors" => Section::Connectors,
            "extensions" => Section::Extensions,
            _ => return None,
        })
    }
}

/// Name a program, or what makes one run: journald's, jmx's, and the kubeconfig of prometheus' service discovery, whose
/// users may have an `exec` (client-go).
pub const RUNS: &str = "journalctl_path jar_path additional_jars kubeconfig_file";

/// Name where more of a config comes from, which is judged by nobody and may name a kubeconfig and any path:
/// prometheus' files and its server of scrape configs. Its `http_sd_configs` and `file_sd_configs` bring targets alone.
const BRINGS: &str = "scrape_config_files target_allocator";

/// Whether what is under this key of a component lets it take more of its config from elsewhere.
pub fn brings_config(kind: &str, key: &str, value: &Value) -> bool {
    // Annotations of pods say which receivers it starts, and how.
    let is_discovery =
        kind == "receivercreator" && key == "discovery" && value.get("enabled") != Some(&Value::Bool(false));
    !is_empty(value) && (has(BRINGS, key) || is_discovery)
}

/// It ran what its `exec` said, until contrib removed it.
pub const RUNNER: &str = "prometheusexec";

/// Name a file that is written: pprof's, ecs_observer's.
pub const WRITES: &str = "save_to_file result_file";

/// Zap's: each is stdout, stderr or a file.
pub const LOG_OUTPUTS: &str = "output_paths error_output_paths";

/// The operator of the log receivers that writes a file, in any format (contrib's pkg/stanza/operator/output/file).
pub const FILE_OUTPUT: &str = "file_output";

/// Exporters whose hosts are all in keys that `is_address` knows.
const SENDERS: &str = "clickhouse elasticsearch influxdb jaeger kafka loki opensearch otelarrow otlp otlpgrpc otlphttp \
    prometheusremotewrite splunkhec syslog zipkin";

/// Exporters that send nothing: debug and the like, one that is scraped.
const KEEPERS: &str = "debug file logging nop prometheus";

/// Receivers that only connect, read and look; of prometheus all but its `api_server`.
const CLIENTS: &str = "aerospike apache awscloudwatch awscloudwatchmetrics awscontainerinsightreceiver \
    awsecscontainermetrics azuremonitor bigip chrony couchdb dockerstats elasticsearch expvar \
    filelog filestats flinkmetrics googlecloudmonitoring haproxy hostmetrics httpcheck iis journald \
    k8scluster k8sevents k8sobjects kafka kafkametrics kubeletstats memcached mongodb mysql nginx \
    nop ntp oracledb otlpjsonfile podmanstats postgresql prometheus rabbitmq receivercreator redis \
    saphana snmp sqlquery sqlserver vcenter windowseventlog zookeeper";

/// Extensions that do not listen, besides those that say so by the end of their type.
const QUIET_EXTENSIONS: &str = "cgroupruntime headerssetter memoryballast memorylimiter opamp sumologic ack";
const QUIET_ENDS: &str = "auth encoding observer storage client";

const ADDRESSES: &str = "addr address addresses brokers cloudid endpoint endpoints host hostname hostnames hosts listen \
    server servers uri url urls";

/// Whether one of the words of a list is this one.
pub fn has(list: &str, word: &str) -> bool {
    list.split(' ').any(|own| own == word)
}

/// The type in a component's id, `type` or `type/name`, without underscores.
pub fn kind(id: &str) -> String {
    id.split('/').next().unwrap_or(id).trim().replace('_', "")
}

/// Another name that the collector has for a type, besides one with underscores.
pub fn alias(section: Section, kind: &str) -> Option<&'static str> {
    match (section, kind) {
        (Section::Exporters, "otlp") => Some("otlpgrpc"),
        (Section::Exporters, "otlpgrpc") => Some("otlp"),
        _ => None,
    }
}

/// Whether where this exporter sends is known: `None` if it is not.
pub fn sends(kind: &str) -> Option<bool> {
    if has(SENDERS, kind) {
        Some(true)
    } else if has(KEEPERS, kind) {
        Some(false)
    } else {
        None
    }
}

/// Whether the component may listen on a port.
pub fn may_listen(section: Section, kind: &str) -> bool {
    match section {
        // Of those that send, one is scraped.
        Section::Exporters => kind == "prometheus",
        Section::Processors => kind == "remotetap",
        Section::Connectors => false,
        Section::Receivers => !has(CLIENTS, kind),
        Section::Extensions => !has(QUIET_EXTENSIONS, kind) && !QUIET_ENDS.split(' ').any(|end| kind.ends_with(end)),
    }
}

/// Keys that hold a host, an address or a URL, alone or behind an underscore.
pub fn is_address(key: &str) -> bool {
    has(ADDRESSES, key.rsplit('_').next().unwrap_or(key))
}

/// Keys of that component that hold paths of this host.
pub fn is_path(section: Section, kind: &str, key: &str) -> bool {
    match key {
        // Of URLs.
        "metrics_path" | "url_path" => false,
        "path" if section == Section::Extensions && kind.starts_with("healthcheck") => false,
        _ if key.ends_with("_url_path") => false,
        "include" => section == Section::Receivers,
        "path" | "paths" | "file" | "files" | "folder" => section != Section::Processors,
        "directory" | "filename" | "datasource" => true,
        _ => "_file _files _path _dir _directory".split(' ').any(|end| key.ends_with(end)),
    }
}

pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A value below keys that are written as one, with `::` between them.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    pub rest: Option<&'a str>,
    pub value: &'a Value,
}

impl<'a> Piece<'a> {
    /// By their first key, of which there may be several.
    fn entries(self) -> Vec<(&'a str, Piece<'a>)> {
        let piece = |key: &'a str, value| {
            let (key, rest) = key.split_once("::").map_or((key, None), |(key, rest)| (key, Some(rest)));
            (key, Piece { rest, value })
        };
        match self.rest {
            Some(rest) => vec![piece(rest, self.value)],
            None => self.value.as_object().unwrap_or_default().iter().map(|(key, value)| piece(key, value)).collect(),
        }
    }

    fn is_map(self) -> bool {
        self.rest.is_some() || self.value.as_object().is_some()
    }
}

/// Whether a component says where it listens or sends: in each of its protocols, if it has some.
pub fn names_address(component: Piece) -> bool {
    names_address_below(component, MAX_DEPTH)
}

fn names_address_below(component: Piece, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let entries = component.entries();
    let mut protocols = entries.iter().filter(|(key, piece)| *key == "protocols" && piece.is_map()).peekable();
    if protocols.peek().is_some() {
        return protocols.all(|(_, protocols)| {
            let protocols = protocols.entries();
            !protocols.is_empty() && protocols.iter().all(|(_, protocol)| names_address_below(*protocol, depth))
        });
    }
    entries.iter().any(|(key, piece)| match piece.is_map() {
        true => names_address_below(*piece, depth),
        false => is_address(key) && !is_empty(piece.value) && texts(piece.value).is_some(),
    })
}

/// The texts of a list, or of a text, which the collector takes apart at commas. `None`: anything else.
pub fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(text.split(',').collect()),
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}
