//! What the supervisor knows, as others want it: the poller for its reports, clients for `status`.

use super::Supervise;
use super::collectors::LiveCollector;
use super::state_tracker::StateTracker;
use crate::agent::mailbox::{Findings, PollerCommand, Snapshot};
use crate::config::value::Revision;
use crate::control::server::ClientId;
use crate::control::{CollectorStatus, ConfigStatus, PollingStatus, Reply, Status};
use crate::core::Uptime;
use crate::core::supervisor::StateName;
use crate::os::files::FileId;
use crate::source::report;
use crate::store::generations::{Generation, Standing};

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

    pub(super) fn take_findings(&mut self, findings: Findings) {
        self.active_config.learn(findings.config);
        findings.facts.into_iter().for_each(|known| self.facts.learn(known));
        self.collector_version = findings.version;
        self.next_check_at = findings.next_check_at;
        let waiting = self.clients.take_awaiting_reading(None);
        waiting.into_iter().for_each(|client| self.reply_status(client));
    }

    pub(super) fn reply_late_status(&mut self, now: Uptime) {
        let late = self.clients.take_awaiting_reading(Some(now));
        late.into_iter().for_each(|client| self.reply_status(client));
    }

    fn reply_status(&mut self, client: ClientId) {
        self.check_suspended();
        let now = self.now();
        self.state_tracker.forget_exits(now);
        let status = self.status();
        self.clients.reply(client, &Reply::Status(Box::new(status)));
    }

    fn status(&self) -> Status {
        let (known, now) = (&self.state_tracker, self.now());
        let problem = known.problems.newest();
        let until = |at: Option<Uptime>| at.map(|at| at.saturating_sub(now).as_secs());
        Status {
            agent_version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            uptime_seconds: now.as_secs(),
            collector: self.collector_status(),
            config: self.config_status(),
            polling: PollingStatus { next_check_seconds: until(self.next_check_at), ..known.polling.clone() },
            settings_problem: known.problems.settings.as_ref().map(|timed| timed.problem.clone()),
            last_error_message: problem.map(report::message).unwrap_or_default(),
            last_error_at: problem.map(|timed| timed.at),
        }
    }

    fn collector_status(&self) -> CollectorStatus {
        let live = self.core.serving().and_then(|serving| self.collectors.find(serving));
        let state = self.core.state_name();
        let runs = matches!(state, StateName::Running | StateName::HandingOver);
        CollectorStatus {
            state: state.as_str().to_string(),
            state_since: Some(self.service_status.since),
            is_ready: runs && live.is_some_and(|live| !live.process.is_suspended()),
            pid: live.map(|live| live.process.id()),
            uptime_seconds: live.map(|live| self.now().saturating_sub(live.started_at).as_secs()),
            next_start_seconds: self.next_start().map(|delay| delay.as_secs()),
            restarts: self.collectors.restarts(),
            program: self.collectors.program_path.clone(),
            version: Some(self.collector_version.clone()).filter(|version| !version.is_empty()),
            outlives_agent: live.is_some_and(LiveCollector::outlives_agent),
        }
    }

    fn config_status(&self) -> ConfigStatus {
        let known = &self.state_tracker;
        let file = self.store.look();
        let seen = file.as_ref().ok().copied().flatten().and_then(|file| self.store.seen_generation(file));
        let is_unconfirmed = seen.as_ref().is_some_and(|it| matches!(it.standing, Standing::Unconfirmed { .. }));
        let confirmed_at = self.core.confirmed_at().filter(|_| is_unconfirmed);
        let revision = self.active_config.revision(file);
        let rejected = known.rejected.get();
        let pending = known.pending.as_ref();
        ConfigStatus {
            path: self.store.config().to_path_buf(),
            revision: revision.as_ref().ok().and_then(|revision| revision.as_ref()).map(Revision::to_string),
            revision_unknown_because: revision.err(),
            changed_by: known.changed_by.clone(),
            standing: seen.as_ref().map(|generation| self.standing(generation).to_string()),
            installed_at: seen.as_ref().map(|generation| generation.installed_at),
            confirmed_in_seconds: confirmed_at.map(|at| at.saturating_sub(self.now()).as_secs()),
            pending_revision: pending.map(|(revision, _)| revision.to_string()),
            pending_since: pending.map(|(_, since)| *since),
            rejected_revision: rejected.map(|rejected| rejected.revision.to_string()),
            rejected_because: rejected.map(|rejected| rejected.problem.clone()),
            rejected_at: rejected.map(|rejected| rejected.at),
            rejected_is_offered: rejected.is_some() && known.is_rejected_offered,
            rejected_kept: rejected.and_then(|rejected| rejected.kept.clone()),
        }
    }

    /// Of the active config. One that was rolled back before, and is here again, has to prove itself as any other.
    fn standing(&self, generation: &Generation) -> &'static str {
        let runs = self.collectors.only().and_then(|live| live.generation);
        if self.core.state_name() == StateName::Running && runs.is_some_and(|runs| runs != generation.number) {
            return "unapplied";
        }
        match generation.standing {
            Standing::Confirmed => "confirmed",
            Standing::Unconfirmed { .. } => "unconfirmed",
            Standing::Pending { .. } | Standing::RolledBack { .. } | Standing::Refused { .. } | Standing::Replaced => {
                "probation"
            }
        }
    }
}
