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
