//! What the updater of a Kubernetes cluster is doing: its answer to `status --json`.

use serde::{Deserialize, Serialize};

use super::PollingStatus;
use crate::log::Masked;

/// Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    pub agent_version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub cluster_name: String,
    pub namespace: String,
    /// `relay` or `rollout`.
    pub mode: String,
    /// Where the pods ask; `None` when they do not.
    pub listen: Option<String>,
    /// The ConfigMaps have been read, and pods are answered.
    pub is_ready: bool,
    pub groups: Vec<GroupStatus>,
    pub polling: PollingStatus,
    /// Empty when all is well.
    pub last_error_message: Masked,
}

/// The pods of one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// `daemonset` or `deployment`.
    pub workload: String,
    pub config_map: String,
    /// The config that has proved itself.
    pub revision: Option<String>,
    /// The one on its way, and how far it is.
    pub candidate_revision: Option<String>,
    pub stage: Option<String>,
    /// What the API offers and does not ask to apply yet.
    pub pending_revision: Option<String>,
    pub rejected_revision: Option<String>,
    pub rejected_because: Option<Masked>,
    /// Pods that ask; of them those that say too little, have the candidate, and have proved it.
    pub pods: usize,
    pub silent_pods: usize,
    pub candidate_pods: usize,
    pub proved_pods: usize,
    /// Why the latest canary was replaced.
    pub obstacle: Option<Masked>,
    /// What is wrong at the API server.
    pub trouble: Option<Masked>,
}

impl ClusterStatus {
    pub(super) fn cut(&mut self, limit: usize) {
        let cut = |text: &mut Masked| *text = std::mem::take(text).cut(limit);
        for group in &mut self.groups {
            let texts = [&mut group.rejected_because, &mut group.obstacle, &mut group.trouble];
            texts.into_iter().flatten().for_each(cut);
        }
        let polling = &mut self.polling;
        [&mut polling.endpoint, &mut polling.local_because, &mut polling.error].into_iter().flatten().for_each(cut);
        cut(&mut self.last_error_message);
    }
}
