//! What the state tracker knows, as others want it: the poller for its reports, clients for `status`.

use super::state_tracker::StateTracker;
use crate::agent::mailbox::Snapshot;
use crate::control::{CollectorStatus, ConfigStatus, Status};
use crate::core::Uptime;
use crate::core::supervisor::StateName;
use crate::source::report;

impl StateTracker {
    pub(super) fn snapshot(&self, state: StateName, restarts: u64) -> Snapshot {
        Snapshot {
            is_collector_running: state.counts_as_running(),
            problem: self.problems.newest().cloned(),
            rejected: self.rejected.get().cloned(),
            restarts,
            postponed: self.postponed.clone(),
        }
    }

    pub(super) fn status(&self, now: Uptime, collector: CollectorStatus) -> Status {
        let rejected = self.rejected.get();
        let revision = self.store.read_config().ok().map(|config| config.revision().to_string());
        Status {
            agent_version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            uptime_seconds: now.as_secs(),
            collector,
            config: ConfigStatus {
                path: self.store.config().to_path_buf(),
                revision,
                changed_by: self.changed_by.clone(),
                rejected_revision: rejected.map(|rejected| rejected.revision.to_string()),
                rejected_because: rejected.map(|rejected| rejected.problem.clone()),
                rejected_kept: rejected.and_then(|rejected| rejected.kept.clone()),
            },
            polling: self.polling.clone(),
            settings_problem: self.problems.settings.as_ref().map(|timed| timed.problem.clone()),
            last_error_message: self.problems.newest().map(report::message).unwrap_or_default(),
        }
    }
}
