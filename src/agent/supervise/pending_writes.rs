//! What belongs on disk and could not be written: it is tried again until it works, and reported meanwhile.
//!
//! That is the last known good, without which no install may overwrite the config that has proved itself, and the
//! rejected revision, which a restart of the agent would forget.

use std::time::Duration;

use super::Supervise;
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
    stamp: FileId,
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
        if let Some(stamp) = self.collectors.newest().map(|live| live.config) {
            self.keep_good(stamp);
        }
        self.settle_state();
    }

    fn keep_good(&mut self, stamp: FileId) {
        self.pending_writes.good = None;
        match self.store.promote(stamp) {
            Ok(true) => log::info!("config promoted to last known good"),
            Ok(false) => log::debug!("collector passed probation"),
            Err(error) => {
                self.pending_writes.good = Some(Good { stamp, problem: error.to_string() });
            }
        }
    }

    /// Tries again to write what could not be written.
    pub(super) fn retry_state(&mut self) {
        if let Some(Good { stamp, .. }) = self.pending_writes.good {
            self.keep_good(stamp);
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
