//! The one table of all settings: name, variable, default, kind.
//!
//! The command line, the settings file, the resolution, `--print-settings`, `--help` and the test against the man
//! page all read it, so that a new setting is one row here and one line in `resolve`. It holds no code that parses:
//! ranges and spellings belong to `parse`.

use super::cluster::CLUSTER_SETTINGS;
use crate::config::credentials::{mask_url_user, mask_url_users};
use crate::log::redact::MASK;

/// The settings file that is read when no other is named; only this one may be missing.
pub const DEFAULT_FILE: &str = "/etc/kmagent/agent.yaml";

/// One setting of kmagent.yaml(5).
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key in the settings file, and the flag without its dashes.
    pub name: &'static str,
    /// The environment variable.
    pub env: &'static str,
    pub fallback: Fallback,
    pub kind: Kind,
    /// Where `--help` lists it.
    pub group: Group,
}

/// What holds when no source gives a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This text, as if the user had written it.
    Value(&'static str),
    /// No value; the text says what that means.
    Absent(&'static str),
    /// A value that `resolve` works out at start.
    Computed,
}

impl Fallback {
    /// What it means that there is no value.
    pub fn meaning(self) -> Option<&'static str> {
        if let Fallback::Absent(meaning) = self { Some(meaning) } else { None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that the user writes as text: a path, a URL, a duration, a word.
    Text,
    /// True or false; the flag alone means true.
    Switch,
    /// Several texts: flags and a list have one each, a text has words, separated by blanks.
    List,
    /// Text that is never shown.
    Secret,
    /// Text that names the settings file, so it cannot stand in it.
    NotInFile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Files,
    Server,
    Collector,
    Agent,
    /// Of `kmagent cluster` alone, in a table of their own.
    Cluster,
}

impl Group {
    /// Of the agent.
    pub const ALL: [Group; 4] = [Group::Files, Group::Server, Group::Collector, Group::Agent];

    pub fn heading(self) -> &'static str {
        match self {
            Group::Files => "files",
            Group::Server => "server",
            Group::Collector => "collector",
            Group::Agent => "agent",
            Group::Cluster => "cluster",
        }
    }
}

use Fallback::{Absent, Computed, Value};
use Group::{Agent, Collector, Files, Server};
use Kind::{List, NotInFile, Secret, Switch, Text};

/// In the order in which `--print-settings` shows them.
#[rustfmt::skip]
pub static SETTINGS: &[Setting] = &[
    row("agent-config", "KM_AGENT_CONFIG", Value(DEFAULT_FILE), NotInFile, Files),
    row("config", "KM_COLLECTOR_CONFIG", Value("/etc/kmagent/config.yaml"), Text, Files),
    row("seed-config", "KM_SEED_CONFIG", Absent("share/kmagent/config.yaml beside the agent's directory"), List, Files),
    row("collector", "KM_COLLECTOR", Absent("kmagent-collector near the agent, then otelcol-contrib, otelcol"), Text, Collector),
    row("collector-args", "KM_COLLECTOR_ARGS", Absent("none"), List, Collector),
    row("collector-endpoint", "KM_COLLECTOR_ENDPOINT", Value("https://otel.kloudmate.com:4318"), Text, Collector),
    row("api-key", "KM_API_KEY", Absent("none"), Secret, Server),
    row("api-key-file", "KM_API_KEY_FILE", Absent("none"), Text, Server),
    row("update-token-file", "KM_UPDATE_TOKEN_FILE", Absent("the API key is sent"), Text, Server),
    row("config-check-interval", "KM_CONFIG_CHECK_INTERVAL", Value("60s"), Text, Server),
    row("update-endpoint", "KM_UPDATE_ENDPOINT", Computed, Text, Server),
    row("local-config", "KM_LOCAL_CONFIG", Absent("none"), Text, Files),
    row("docker-mode", "KM_DOCKER_MODE", Value("false"), Switch, Collector),
    row("docker-endpoint", "KM_DOCKER_ENDPOINT", Absent("none"), Text, Collector),
    row("host-name", "KM_HOST_NAME", Computed, Text, Server),
    row("log-level", "KM_LOG_LEVEL", Value("info"), Text, Agent),
    row("log-format", "KM_LOG_FORMAT", Computed, Text, Agent),
    row("state-dir", "KM_STATE_DIR", Value("/var/lib/kmagent"), Text, Files),
    row("run-dir", "KM_RUN_DIR", Value("/run/kmagent"), Text, Files),
    row("ca-file", "KM_CA_FILE", Absent("the built-in Mozilla roots"), Text, Server),
    row("allow-http", "KM_ALLOW_HTTP", Value("false"), Switch, Server),
    row("report-extended", "KM_REPORT_EXTENDED", Value("false"), Switch, Server),
    row("instance-id", "KM_INSTANCE_ID", Absent("made once and kept"), Text, Server),
    row("on-change", "KM_ON_CHANGE", Absent("none"), Text, Agent),
    row("restart-mode", "KM_RESTART_MODE", Value("auto"), Text, Collector),
    row("stop-timeout", "KM_STOP_TIMEOUT", Value("30s"), Text, Collector),
    row("min-uptime", "KM_MIN_UPTIME", Value("10s"), Text, Collector),
    row("start-timeout", "KM_START_TIMEOUT", Value("60s"), Text, Collector),
    row("confirm-time", "KM_CONFIRM_TIME", Value("10m"), Text, Collector),
    row("validate-timeout", "KM_VALIDATE_TIMEOUT", Value("30s"), Text, Collector),
    row("collector-log-rate", "KM_COLLECTOR_LOG_RATE", Value("600"), Text, Collector),
    row("policy", "KM_POLICY", Absent("policy.yaml beside the settings file, else the default policy"), Text, Server),
    row("poll-timeout", "KM_POLL_TIMEOUT", Value("10s"), Text, Server),
    row("max-config-size", "KM_MAX_CONFIG_SIZE", Value("4MiB"), Text, Server),
    row("generations", "KM_GENERATIONS", Value("5"), Text, Agent),
    row("generations-size", "KM_GENERATIONS_SIZE", Value("16MiB"), Text, Agent),
];

const fn row(name: &'static str, env: &'static str, fallback: Fallback, kind: Kind, group: Group) -> Setting {
    Setting { name, env, fallback, kind, group }
}

/// Those of the agent, and below them those of `kmagent cluster`.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(CLUSTER_SETTINGS)
}

/// The setting of that name, if there is one.
pub fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// The text of that setting as it may be shown: without the user part of URLs. An endpoint is one URL as a whole, so
/// that no blank or quote in a password ends what is masked.
pub fn masked(name: &str, text: &str) -> String {
    if name.ends_with("-endpoint") { mask_url_user(text, MASK) } else { mask_url_users(text, MASK) }
}

/// Its place in the table, for sorting; an unknown name sorts last.
pub fn position(name: &str) -> usize {
    all().position(|setting| setting.name == name).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variable follows from the name, but for the one whose name the 1.x agent fixed.
    #[test]
    fn variables_follow_from_names_and_both_are_unique() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            let expected = match setting.name {
                "config" => "KM_COLLECTOR_CONFIG".to_string(),
                name => format!("KM_{}", name.to_uppercase().replace('-', "_")),
            };
            assert_eq!(setting.env, expected);
            assert_eq!(position(setting.name), index, "{} stands twice", setting.name);
        }
        let mut variables: Vec<_> = all().map(|setting| setting.env).collect();
        variables.sort_unstable();
        variables.dedup();
        assert_eq!(variables.len(), all().count());
    }
}
