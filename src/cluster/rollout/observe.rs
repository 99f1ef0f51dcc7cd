//! What the API tells of a workload and its pods, in the terms that `core::workload` judges by.

use crate::cluster::kubernetes::{Container, Pod, Workload, WorkloadKind};
use crate::core::workload as core;

/// As a container waits between two restarts (Kubernetes' documentation, "Pod Lifecycle").
const CRASH_LOOP: &str = "CrashLoopBackOff";

pub fn workload(kind: WorkloadKind, workload: &Workload) -> core::Workload {
    let (spec, status) = (&workload.spec, &workload.status);
    let common = core::Workload {
        is_observed: status.observed_generation >= workload.metadata.generation,
        restarted_at: workload.restarted_at().cloned(),
        ..core::Workload::default()
    };
    match kind {
        WorkloadKind::DaemonSet => core::Workload {
            wanted: status.desired_number_scheduled,
            total: status.desired_number_scheduled,
            updated: status.updated_number_scheduled,
            available: status.number_available,
            standstill: (spec.update_strategy.kind == "OnDelete")
                .then_some("its updateStrategy is OnDelete, so that a change replaces no pod; set it to RollingUpdate"),
            ..common
        },
        WorkloadKind::Deployment => {
            let exceeded = status.conditions.iter().find(|it| it.kind == "Progressing" && it.status == "False");
            core::Workload {
                // It is 1 when it is left out.
                wanted: spec.replicas.unwrap_or(1),
                total: status.replicas,
                updated: status.updated_replicas,
                available: status.available_replicas,
                standstill: spec.paused.then_some("it is paused; run kubectl rollout resume"),
                exceeded: exceeded.filter(|it| it.reason == "ProgressDeadlineExceeded").map(|it| it.message.clone()),
                ..common
            }
        }
    }
}

pub fn pod(pod: &Pod) -> core::Pod {
    let status = &pod.status;
    let containers = || status.init_container_statuses.iter().chain(&status.container_statuses);
    let waiting = containers().find_map(|it| Some((it, it.state.waiting.as_ref()?)));
    let unscheduled = status.conditions.iter().find(|it| it.kind == "PodScheduled" && it.status == "False");
    core::Pod {
        name: pod.metadata.name.clone(),
        node: Some(pod.spec.node_name.clone()).filter(|name| !name.is_empty()),
        restarted_at: pod.restarted_at().cloned(),
        is_ready: status.conditions.iter().any(|it| it.kind == "Ready" && it.status == "True"),
        is_leaving: pod.metadata.deletion_timestamp.is_some()
            || matches!(status.phase.as_str(), "Succeeded" | "Failed"),
        crash: containers().find(|it| is_crashing(it)).map(crash),
        waiting: match (waiting, unscheduled) {
            (Some((container, waiting)), _) => Some(format!("container {}: {}", container.name, waiting.reason)),
            (None, Some(unscheduled)) => Some(format!("{}: {}", unscheduled.reason, unscheduled.message)),
            (None, None) => None,
        },
    }
}

fn is_crashing(container: &Container) -> bool {
    container.state.waiting.as_ref().is_some_and(|waiting| waiting.reason == CRASH_LOOP)
}

fn crash(container: &Container) -> String {
    let mut text = format!("container {}: {CRASH_LOOP}, {} restarts", container.name, container.restart_count);
    if let Some(last) = &container.last_state.terminated {
        text += &format!(", exit status {} ({})", last.exit_code, last.reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Kubernetes 1.34, amid rollouts of a config with which the collector cannot start.
    const DAEMON_SET: &str = r#"{"metadata":{"generation":8},"spec":{"minReadySeconds":3,"selector":{"matchLabels":
        {"app":"rolled"}},"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":
        "2026-11-30T15:00:00.000Z"},"labels":{"app":"rolled"}}},"updateStrategy":{"rollingUpdate":{"maxSurge":0,
        "maxUnavailable":1},"type":"RollingUpdate"}},"status":{"currentNumberScheduled":3,"desiredNumberScheduled":3,
        "numberAvailable":2,"numberMisscheduled":0,"numberReady":2,"numberUnavailable":1,"observedGeneration":8,
        "updatedNumberScheduled":1}}"#;
    const DEPLOYMENT: &str = r#"{"metadata":{"generation":8},"spec":{"replicas":1,"template":{"metadata":{}}},"status":{
        "availableReplicas":1,"conditions":[{"lastTransitionTime":"2026-11-30T14:55:19Z","lastUpdateTime":
        "2026-11-30T14:55:19Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable",
        "status":"True","type":"Available"},{"lastTransitionTime":"2026-11-30T14:57:04Z","lastUpdateTime":
        "2026-11-30T14:57:04Z","message":"ReplicaSet \"rolled-9f8b58fc\" has timed out progressing.","reason":
        "ProgressDeadlineExceeded","status":"False","type":"Progressing"}],"observedGeneration":8,"readyReplicas":1,
        "replicas":2,"unavailableReplicas":1,"updatedReplicas":1}}"#;
    const CRASHING: &str = r#"{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":
        "2026-11-30T15:00:00.000Z"},"name":"rolled-l8rnc"},"spec":{"nodeName":"n1"},"status":{"conditions":[{"status":
        "True","type":"Initialized"},{"status":"False","type":"Ready","reason":"ContainersNotReady"},{"status":"True",
        "type":"PodScheduled"}],"containerStatuses":[{"lastState":{"terminated":{"containerID":"containerd://c1fd3a5",
        "exitCode":1,"finishedAt":"2026-11-30T14:57:08Z","reason":"Error","startedAt":"2026-11-30T14:57:08Z"}},"name":
        "collector","ready":false,"restartCount":2,"started":false,"state":{"waiting":{"message":
        "back-off 20s restarting failed container=collector pod=rolled-l8rnc","reason":"CrashLoopBackOff"}}}],
        "phase":"Running"}}"#;
    const RUNNING: &str = r#"{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":
        "2026-11-30T14:56:07.061Z"},"name":"rolled-2nqqd"},"spec":{"nodeName":"n2"},"status":{"conditions":[{"status":
        "True","type":"Ready"},{"status":"True","type":"PodScheduled"}],"containerStatuses":[{"lastState":{},"name":
        "collector","ready":true,"restartCount":0,"started":true,"state":{"running":{"startedAt":
        "2026-11-30T14:56:17Z"}}}],"phase":"Running"}}"#;
    const UNSCHEDULED: &str = r#"{"metadata":{"name":"rolled-x"},"status":{"phase":"Pending","conditions":[{"status":
        "False","type":"PodScheduled","reason":"Unschedulable","message":"0/3 nodes are available"}]}}"#;

    fn seen(kind: WorkloadKind, text: &str) -> core::Workload {
        workload(kind, &serde_json::from_str(text).unwrap())
    }

    fn seen_pod(text: &str) -> core::Pod {
        pod(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_real_daemon_set_that_crashes_on_one_node_has_failed() {
        let daemon_set = seen(WorkloadKind::DaemonSet, DAEMON_SET);
        let expected = core::Workload {
            is_observed: true,
            restarted_at: Some("2026-11-30T15:00:00.000Z".to_owned()),
            wanted: 3,
            total: 3,
            updated: 1,
            available: 2,
            ..core::Workload::default()
        };
        assert_eq!(daemon_set, expected);
        let pods = [seen_pod(RUNNING), seen_pod(CRASHING)];
        let crash =
            "pod rolled-l8rnc on node n1: container collector: CrashLoopBackOff, 2 restarts, exit status 1 (Error)";
        assert_eq!(core::progress(&daemon_set, &pods), core::Progress::Failed(crash.to_owned()));
        assert_eq!(core::may_begin(&daemon_set, &pods), Ok(()));
        assert!(
            !seen(WorkloadKind::DaemonSet, &DAEMON_SET.replace(r#""generation":8"#, r#""generation":9"#)).is_observed
        );
        let held = seen(WorkloadKind::DaemonSet, &DAEMON_SET.replace("RollingUpdate", "OnDelete"));
        assert!(core::may_begin(&held, &pods).unwrap_err().contains("OnDelete"));
    }

    #[test]
    fn a_real_deployment_whose_deadline_has_passed_has_failed() {
        let deployment = seen(WorkloadKind::Deployment, DEPLOYMENT);
        assert_eq!((deployment.wanted, deployment.total, deployment.updated, deployment.available), (1, 2, 1, 1));
        let exceeded = "ProgressDeadlineExceeded: ReplicaSet \"rolled-9f8b58fc\" has timed out progressing.";
        assert_eq!(core::progress(&deployment, &[]), core::Progress::Failed(exceeded.to_owned()));
        let other =
            seen(WorkloadKind::Deployment, &DEPLOYMENT.replace("ProgressDeadlineExceeded", "ReplicaSetUpdated"));
        assert!(matches!(core::progress(&other, &[]), core::Progress::Going(_)));
        let paused = DEPLOYMENT.replace(r#""replicas":1,"template""#, r#""paused":true,"template""#);
        let paused = seen(WorkloadKind::Deployment, &paused);
        assert!(paused.wanted == 1 && core::may_begin(&paused, &[]).unwrap_err().contains("paused"));
    }

    #[test]
    fn a_real_pod_says_why_it_does_not_run() {
        let running = seen_pod(RUNNING);
        assert!(running.is_ready && running.crash.is_none() && running.waiting.is_none() && !running.is_leaving);
        let crashing = seen_pod(CRASHING);
        assert!(!crashing.is_ready && crashing.node.as_deref() == Some("n1"));
        assert_eq!(crashing.waiting.as_deref(), Some("container collector: CrashLoopBackOff"));
        let waiting = seen_pod(UNSCHEDULED);
        assert_eq!(waiting.waiting.as_deref(), Some("Unschedulable: 0/3 nodes are available"));
        assert_eq!(waiting.node, None);
        assert!(seen_pod(&CRASHING.replace(r#""phase":"Running""#, r#""phase":"Failed""#)).is_leaving);
        let deleted =
            CRASHING.replace(r#""name":"rolled"#, r#""deletionTimestamp":"2026-11-30T15:00:00Z","name":"rolled"#);
        assert!(seen_pod(&deleted).is_leaving);
    }
}
