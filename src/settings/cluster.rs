//! The settings of `kmagent cluster`, beside those that it shares with the agent: the table, and how they are settled.
//!
//! Names and variables of the original updater are kept; where it had none they follow from the name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::parse;
use super::precedence::Layers;
use super::table::Fallback::{Absent, Value};
use super::table::Kind::{List, Switch, Text};
use super::table::{Fallback, Group, Kind, Setting};
use crate::os::files::Usage;

/// In the order in which they are shown, below the others.
#[rustfmt::skip]
pub static CLUSTER_SETTINGS: &[Setting] = &[
    row("kube-cluster-name", "KM_CLUSTER_NAME", Absent("none, so the updater does not start"), Text),
    row("kube-namespace", "KM_NAMESPACE", Absent("the pod's own"), Text),
    row("configmap-daemonset-name", "CONFIGMAP_DAEMONSET_NAME", Absent("none, so no DaemonSet is configured"), Text),
    row("configmap-deployment-name", "CONFIGMAP_DEPLOYMENT_NAME", Absent("none, so no Deployment is configured"), Text),
    row("daemonset-name", "KM_DAEMONSET_NAME", Absent("none"), Text),
    row("deployment-name", "KM_DEPLOYMENT_NAME", Absent("none"), Text),
    row("monitored-namespaces", "KM_K8S_MONITORED_NAMESPACES", Absent("all"), List),
    row("logs-enabled", "KM_LOGS_ENABLED", Value("false"), Switch),
    row("cluster-mode", "KM_CLUSTER_MODE", Value("relay"), Text),
    row("relay-listen", "KM_RELAY_LISTEN", Value("0.0.0.0:8443"), Text),
    row("relay-certificate", "KM_RELAY_CERTIFICATE", Absent("none"), Text),
    row("relay-token-file", "KM_RELAY_TOKEN_FILE", Absent("none"), Text),
    row("canary-time", "KM_CANARY_TIME", Absent("until the canary has confirmed the config"), Text),
    row("rollout-steps", "KM_ROLLOUT_STEPS", Value("25% 100%"), List),
    row("rollout-deadline", "KM_ROLLOUT_DEADLINE", Value("10m"), Text),
];

const fn row(name: &'static str, env: &'static str, fallback: Fallback, kind: Kind) -> Setting {
    Setting { name, env, fallback, kind, group: Group::Cluster }
}

/// How a new config reaches the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMode {
    /// The pods ask the updater for it.
    Relay,
    /// The ConfigMap is changed and the workload restarted.
    Rollout,
}

impl ClusterMode {
    pub fn word(self) -> &'static str {
        match self {
            ClusterMode::Relay => "relay",
            ClusterMode::Rollout => "rollout",
        }
    }
}

/// The two kinds of workload that the vendor's API has a config for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    DaemonSet,
    Deployment,
}

impl Workload {
    pub const ALL: [Workload; 2] = [Workload::DaemonSet, Workload::Deployment];

    /// In logs, in paths of the relay, and in the names of keys.
    pub fn word(self) -> &'static str {
        match self {
            Workload::DaemonSet => "daemonset",
            Workload::Deployment => "deployment",
        }
    }
}

/// The pods of one workload, which have one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    pub workload: Workload,
    pub config_map: String,
    /// Of the workload; `None` is allowed with the relay, which does not ask for it.
    pub name: Option<String>,
}

/// Where the pods' config checks are answered.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    pub listen: SocketAddr,
    /// PEM with certificate chain and key; `None` is plain HTTP, on loopback alone.
    pub certificate: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
}

/// Every setting of kmagent-cluster(8) that is not the agent's, validated.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    pub cluster_name: String,
    /// `None`: the pod's own.
    pub namespace: Option<String>,
    /// One or two, the DaemonSet's first.
    pub groups: Vec<GroupSettings>,
    pub monitored_namespaces: Vec<String>,
    pub logs_enabled: bool,
    pub mode: ClusterMode,
    pub relay: RelaySettings,
    /// `None`: until the canary says that the config is confirmed.
    pub canary_time: Option<Duration>,
    /// Percent of the pods that may have a new config after the canary; the last is 100.
    pub rollout_steps: Vec<u8>,
    pub rollout_deadline: Duration,
}

/// Settles them; what is wrong is a problem in `from`, which then ends the start.
pub fn settle(from: &mut Layers<'_>) -> ClusterSettings {
    let cluster_name = from.take("kube-cluster-name", parse::line).unwrap_or_default();
    if cluster_name.is_empty() {
        from.problem("kube-cluster-name is not set: give the cluster's name, by which the API knows it".to_string());
    }
    let namespace = from.take("kube-namespace", parse::object_name);
    let mode = from.value("cluster-mode", parse::cluster_mode);
    let groups = groups(from, mode);
    let relay = relay(from, mode);
    ClusterSettings {
        cluster_name,
        namespace,
        groups,
        monitored_namespaces: from.take("monitored-namespaces", parse::namespaces).unwrap_or_default(),
        logs_enabled: from.value("logs-enabled", parse::switch),
        mode,
        relay,
        canary_time: from.take("canary-time", parse::confirm_time),
        rollout_steps: from.value("rollout-steps", parse::steps),
        rollout_deadline: from.value("rollout-deadline", parse::timeout),
    }
}

fn groups(from: &mut Layers<'_>, mode: ClusterMode) -> Vec<GroupSettings> {
    let names = [
        (Workload::DaemonSet, "configmap-daemonset-name", "daemonset-name"),
        (Workload::Deployment, "configmap-deployment-name", "deployment-name"),
    ];
    let mut groups = Vec::new();
    for (workload, config_map, name) in names {
        let (config_map_name, workload_name) =
            (from.take(config_map, parse::object_name), from.take(name, parse::object_name));
        match (config_map_name, workload_name) {
            (Some(_), None) if mode == ClusterMode::Rollout => {
                from.problem(format!("{name} is not set: with {config_map}, give the workload to restart"));
            }
            (Some(config_map), name) => groups.push(GroupSettings { workload, config_map, name }),
            (None, Some(_)) => {
                from.problem(format!("{config_map} is not set: with {name}, give the ConfigMap of its config"));
            }
            (None, None) => {}
        }
    }
    if groups.is_empty() && from.problems.is_empty() {
        let text = "there is nothing to configure: set configmap-daemonset-name, configmap-deployment-name or both";
        from.problem(text.to_string());
    }
    groups
}

fn relay(from: &mut Layers<'_>, mode: ClusterMode) -> RelaySettings {
    let listen = from.value("relay-listen", parse::listen);
    let certificate = from.path("relay-certificate", Usage::Read);
    let token_file = from.path("relay-token-file", Usage::Read);
    if mode == ClusterMode::Relay {
        let is_private = listen.ip().is_loopback() && from.value("allow-http", parse::switch);
        if certificate.is_none() && !is_private {
            from.problem(
                "relay-certificate is not set: configs would cross the pods' network in cleartext: give a PEM file \
                 with certificate and key"
                    .to_string(),
            );
        }
        if token_file.is_none() {
            from.problem(
                "relay-token-file is not set: give a file with the token that the pods send, their update-token-file"
                    .to_string(),
            );
        }
    }
    RelaySettings { listen, certificate, token_file }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
