//! `status` of the updater of a Kubernetes cluster.

use super::status::{polling, short, span};
use super::status_lines::{self, Row};
use crate::control::{ClusterStatus, GroupStatus};
use crate::error::{Error, Exit, Result};

/// The cause first, and each thing once.
pub fn render(status: &ClusterStatus) -> String {
    let mut rows = Vec::new();
    let mut row = |name, text: String| rows.push(Row { name, text });
    if !status.last_error_message.is_empty() {
        row("problem", status.last_error_message.to_string());
    }
    for group in &status.groups {
        let name = if group.workload == "daemonset" { "daemonset" } else { "deployment" };
        row(name, config(group, &status.last_error_message));
    }
    row("polling", polling(&status.polling));
    let listen = status.listen.as_ref().map(|listen| format!(", relay on {listen}")).unwrap_or_default();
    let mode = if status.listen.is_some() { String::new() } else { format!(", {}", status.mode) };
    row("cluster", format!("{}, namespace {}{mode}{listen}", status.cluster_name, status.namespace));
    let up = span(status.uptime_seconds);
    row("updater", format!("{}, pid {}, up {up}", status.agent_version, status.pid));
    status_lines::render(&rows)
}

/// One line.
///
/// # Errors
/// 69 while the pods cannot be answered.
pub fn ready(status: &ClusterStatus) -> Result<String> {
    if status.is_ready {
        return Ok("ready\n".to_string());
    }
    let problem = Some(&*status.last_error_message).filter(|problem| !problem.is_empty());
    let problem = problem.unwrap_or("the ConfigMaps have not been read yet");
    Err(Error::new(Exit::Unavailable, format!("not ready: {problem}")))
}

fn config(group: &GroupStatus, problem: &str) -> String {
    let mut text = match &group.revision {
        Some(revision) => format!("config {}", short(revision)),
        None => "no config that has proved itself".to_string(),
    };
    let pods = if group.pods == 1 { "pod" } else { "pods" };
    text += &format!(", {} {pods}", group.pods);
    if group.silent_pods > 0 {
        text += &format!(" ({} without report-extended, which get no new config)", group.silent_pods);
    }
    if let (Some(revision), Some(stage)) = (&group.candidate_revision, &group.stage) {
        let (taken, proved) = (group.candidate_pods, group.proved_pods);
        text += &format!("; {} on its way: {stage}, offered to {taken}, proved by {proved}", short(revision));
    }
    if let Some(obstacle) = &group.obstacle {
        text += &format!("; {obstacle}");
    }
    if let Some(revision) = &group.pending_revision {
        text += &format!("; {} is offered and not to be applied yet", short(revision));
    }
    if let (Some(revision), Some(reason)) = (&group.rejected_revision, &group.rejected_because) {
        let short = short(revision);
        if !problem.contains(short) {
            text += &format!("; {short} is rejected: {reason}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::PollingStatus;

    fn status() -> ClusterStatus {
        ClusterStatus {
            agent_version: "2.0.0".into(),
            pid: 1,
            uptime_seconds: 7300,
            cluster_name: "prod-1".into(),
            namespace: "km-agent".into(),
            mode: "relay".into(),
            listen: Some("0.0.0.0:8443".into()),
            is_ready: true,
            groups: vec![GroupStatus {
                workload: "daemonset".into(),
                config_map: "km-agent-configmap-daemonset".into(),
                revision: Some("51b157f1aaaabbbb".into()),
                candidate_revision: Some("12ab34cd56789999".into()),
                stage: Some("canary 0b1f".into()),
                pods: 3,
                candidate_pods: 1,
                ..GroupStatus::default()
            }],
            polling: PollingStatus { local_because: Some("no key".into()), ..PollingStatus::default() },
            last_error_message: "".into(),
        }
    }

    #[test]
    fn each_group_says_how_far_it_is() {
        let expected = "\
daemonset  config 51b157f1aaaa, 3 pods; 12ab34cd5678 on its way: canary 0b1f, offered to 1, proved
           by 0
polling    none: no key
cluster    prod-1, namespace km-agent, relay on 0.0.0.0:8443
updater    2.0.0, pid 1, up 2h 1m
";
        assert_eq!(render(&status()), expected);
    }

    #[test]
    fn what_is_wrong_comes_first_and_once() {
        let mut status = status();
        status.last_error_message = "daemonset: config 12ab34cd5678 is rejected: pod 0b1f: boom".into();
        status.groups[0].rejected_revision = Some("12ab34cd56789999".into());
        status.groups[0].rejected_because = Some("pod 0b1f: boom".into());
        let text = render(&status);
        assert!(text.starts_with("problem    daemonset: config 12ab34cd5678 is rejected: pod 0b1f: boom\n"), "{text}");
        assert_eq!(text.matches("boom").count(), 1, "{text}");
        assert!(ready(&status).is_ok(), "the pods are answered");
        status.is_ready = false;
        assert!(ready(&status).unwrap_err().to_string().contains("not ready: daemonset: config 12ab34cd5678"));
    }
}
