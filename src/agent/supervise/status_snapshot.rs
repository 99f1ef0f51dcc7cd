//! What the supervisor knows, as others want it: the poller for its reports, clients for `status`.

use super::Supervise;
use super::state_tracker::StateTracker;
use crate::agent::mailbox::{ConfigReading, PollerCommand, Snapshot};
use crate::config::value::Revision;
use crate::control::server::ClientId;
use crate::control::{CollectorStatus, ConfigStatus, Reply, Status};
use crate::core::Uptime;
use crate::core::supervisor::StateName;
use crate::log::Masked;
use crate::os::files::FileId;
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

    fn status(&self, now: Uptime, collector: CollectorStatus, revision: Result<Option<Revision>, Masked>) -> Status {
        let rejected = self.rejected.get();
        let (revision, revision_unknown_because) = match revision {
            Ok(revision) => (revision.map(|revision| revision.to_string()), None),
            Err(reason) => (None, Some(reason)),
        };
        Status {
            agent_version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            uptime_seconds: now.as_secs(),
            collector,
            config: ConfigStatus {
                path: self.store.config().to_path_buf(),
                revision,
                revision_unknown_because,
                changed_by: self.changed_by.clone(),
                rejected_revision: rejected.map(|rejected| rejected.revision.to_string()),
                rejected_because: rejected.map(|rejected| rejected.problem.clone()),
            },
            polling: self.polling.clone(),
            settings_problem: self.problems.settings.as_ref().map(|timed| timed.problem.clone()),
            last_error_message: self.problems.newest().map(report::message).unwrap_or_default(),
        }
    }
}

impl Supervise {
    /// Answers at once, unless the config has to be read first, which the poller does.
    pub(super) fn take_status_request(&mut self, client: ClientId) {
        match self.store.look() {
            Ok(Some(file)) if !self.active_config.is_known(file) => {
                self.expect_config(file);
                self.clients.await_reading(client, self.now());
            }
            Ok(_) | Err(_) => self.reply_status(client),
        }
    }

    /// Has the poller read the active config, unless it has, or is about to.
    pub(super) fn expect_config(&mut self, file: FileId) {
        if self.active_config.expect(file) {
            self.poller.send(PollerCommand::ReadConfig);
        }
    }

    pub(super) fn take_reading(&mut self, reading: Option<ConfigReading>) {
        self.active_config.learn(reading);
        let waiting = self.clients.take_awaiting_reading(None);
        waiting.into_iter().for_each(|client| self.reply_status(client));
    }

    pub(super) fn reply_late_status(&mut self, now: Uptime) {
        let late = self.clients.take_awaiting_reading(Some(now));
        late.into_iter().for_each(|client| self.reply_status(client));
    }

    fn reply_status(&mut self, client: ClientId) {
        self.check_suspended();
        let live = self.core.serving().and_then(|serving| self.collectors.find(serving));
        let collector = CollectorStatus {
            state: self.core.state_name().as_str().to_string(),
            pid: live.map(|live| live.process.id()),
            uptime_seconds: live.map(|live| self.now().saturating_sub(live.started_at).as_secs()),
            restarts: self.collectors.restarts(),
            outlives_agent: live.is_some_and(|live| live.outlives_agent),
        };
        let revision = self.active_config.revision(self.store.look());
        let status = self.state_tracker.status(self.now(), collector, revision);
        self.clients.reply(client, &Reply::Status(Box::new(status)));
    }
}
