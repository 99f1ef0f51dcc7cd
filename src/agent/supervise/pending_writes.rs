//! What belongs on disk and could not be written: it is tried again until it works, and reported meanwhile.
//!
//! That is the last known good, without which no install may overwrite the config that has proved itself, and the
//! rejected revision, which a restart of the agent would forget.

use std::time::Duration;

use super::Supervise;
use super::actions::UNREADABLE;
use crate::config::value::Revision;
use crate::core::Uptime;
use crate::os::files::FileId;

/// Besides at every config check. What fills a disk or takes a permission away seldom ends sooner, and nothing wakes
/// for this unless something is wrong.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct PendingWrites {
    good: Option<Good>,
    /// `None` when all is written.
    retry_at: Option<Uptime>,
}

/// A config that has proved itself and is not the last known good yet.
struct Good {
    file: FileId,
    problem: String,
}

impl PendingWrites {
    pub(super) fn retry_at(&self) -> Option<Uptime> {
        self.retry_at
    }

    /// Why the last known good is not the one that it should be, if so.
    pub(super) fn good(&self) -> Option<&str> {
        self.good.as_ref().map(|good| good.problem.as_str())
    }
}

impl Supervise {
    /// Keeps the config that a collector was started with, and has proved, as last known good.
    pub(super) fn promote(&mut self) {
        // The newest is the one that has proved itself; an older one beside it did so long ago.
        if let Some(file) = self.collectors.newest().map(|live| live.config) {
            self.keep_good(file);
        }
        self.settle_state();
    }

    fn keep_good(&mut self, file: FileId) {
        self.pending_writes.good = None;
        match self.store.promote(file) {
            Ok(true) => {
                let revision = self.store.read_config().ok().map(|config| config.revision());
                let revision = revision.as_ref().map_or(UNREADABLE, Revision::short);
                log::info!(revision = revision; "config promoted to last known good");
            }
            Ok(false) => log::debug!("collector passed probation"),
            Err(error) => {
                self.pending_writes.good = Some(Good { file, problem: error.to_string() });
            }
        }
    }

    /// Tries again to write what could not be written.
    pub(super) fn retry_state(&mut self) {
        if let Some(Good { file, .. }) = self.pending_writes.good {
            self.keep_good(file);
        }
        self.settle_state();
    }

    /// After something was written, or not.
    pub(super) fn settle_state(&mut self) {
        let rejected = self.state_tracker.settle_rejected().err().map(|error| error.to_string());
        let problem = self.pending_writes.good().map(str::to_string).or(rejected);
        self.state_tracker.state_kept(problem.as_deref());
        self.pending_writes.retry_at = problem.map(|_| self.now() + RETRY_INTERVAL);
    }
}
