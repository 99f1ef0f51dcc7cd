//! What belongs on disk: the generations and the rejected revision.
//!
//! While a collector lives, which may be waiting for the supervisor, the poller writes it; before a start the
//! supervisor does. What cannot be written is tried again until it works, and reported meanwhile.

use std::time::Duration;

use super::Supervise;
use super::actions::UNREADABLE;
use crate::agent::mailbox::{PollerCommand, Saved};
use crate::config::value::Revision;
use crate::core::Uptime;
use crate::core::event::ChildId;

/// Besides at every config check. What fills a disk or takes a permission away seldom ends sooner, and nothing wakes
/// for this unless something is wrong.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct PendingWrites {
    /// A collector with the active config has passed its probation under this agent.
    pub(super) has_run: bool,
    /// How often the poller was asked, and has not answered.
    asked: u32,
    /// A verdict that waits for the active config to be readable.
    unproved: Option<Unproved>,
    /// `None` when all is written.
    retry_at: Option<Uptime>,
}

/// The collector of a config that could not be read has proved itself.
struct Unproved {
    collector: Option<ChildId>,
    is_confirmed: bool,
    /// Why the config cannot be kept.
    problem: String,
}

impl PendingWrites {
    pub(super) fn retry_at(&self) -> Option<Uptime> {
        self.retry_at
    }

    /// Whether the active config has proved itself and cannot be kept.
    pub(super) fn is_unreadable(&self) -> bool {
        self.unproved.is_some()
    }
}

impl Supervise {
    /// The active config has passed its probation.
    pub(super) fn promote(&mut self) {
        self.prove(false);
    }

    /// It has run for confirm-time since.
    pub(super) fn confirm(&mut self) {
        self.prove(true);
    }

    fn prove(&mut self, is_confirmed: bool) {
        self.pending_writes.unproved = None;
        // The newest is the one that has proved itself; an older one beside it did so long ago.
        let newest = self.collectors.newest().map(|live| (live.child, live.generation));
        let known = newest.and_then(|(_, generation)| generation);
        // It could not be looked at when the collector was started.
        match known.or_else(|| self.store.trust().generation) {
            Some(number) => self.record_proof(number, is_confirmed),
            None => {
                let error = self.store.unreadable().map(|error| error.to_string());
                let problem = error.unwrap_or_else(|| "the config could not be read for a moment".to_string());
                let collector = newest.map(|(child, _)| child);
                self.pending_writes.unproved = Some(Unproved { collector, is_confirmed, problem });
            }
        }
        self.save_state();
    }

    /// Makes up for a verdict on a config that can be read by now; not if another collector has been started since.
    fn prove_late(&mut self) {
        let Some(unproved) = self.pending_writes.unproved.take() else { return };
        if self.collectors.newest().map(|live| live.child) != unproved.collector {
            return;
        }
        match self.store.trust().generation {
            Some(number) => self.record_proof(number, unproved.is_confirmed),
            None => self.pending_writes.unproved = Some(unproved),
        }
    }

    fn record_proof(&mut self, number: u64, is_confirmed: bool) {
        if self.store.prove(number, is_confirmed) {
            let revision = self.revision(number);
            match is_confirmed {
                true => log::info!(revision = revision.as_str(), generation = number; "config confirmed"),
                false => log::info!(revision = revision.as_str(), generation = number; "config promoted"),
            }
        }
    }

    /// A collector of the active config has exited.
    pub(super) fn record_exits(&mut self, exits: u32) {
        if let Some(number) = self.store.active_generation() {
            log::warn!(generation = number, exits = exits; "collector of an unconfirmed config exited");
            self.store.record_exits(number, exits);
        }
        self.save_state();
    }

    pub(super) fn revision(&self, number: u64) -> String {
        let revision = self.store.generation(number).and_then(|generation| generation.revision);
        revision.as_ref().map_or(UNREADABLE, Revision::short).to_string()
    }

    /// Writes what has changed, or has it written.
    pub(super) fn save_state(&mut self) {
        if self.pending_writes.unproved.is_some() {
            self.prove_late();
            self.settled(None);
        }
        if self.is_saved() {
            return;
        }
        if self.collectors.iter().next().is_none() {
            // Unless the poller is at it, or has an older one to write still.
            let mut saved = self.store.try_save().unwrap_or(Ok(()));
            if self.pending_writes.asked == 0 {
                saved = saved.and(self.state_tracker.rejected.settle());
            }
            if let Err(error) = saved {
                return self.settled(Some(error.to_string()));
            }
        }
        match self.is_saved() {
            true => self.settled(None),
            false => {
                self.pending_writes.asked += 1;
                self.poller.send(PollerCommand::Save(self.state_tracker.rejected.clone()));
            }
        }
    }

    /// The poller writes nothing any more.
    pub(super) fn save_at_end(&mut self) {
        self.store.end(self.pending_writes.has_run);
        let saved = self.store.try_save().unwrap_or(Ok(()));
        if let Err(error) = saved.and(self.state_tracker.rejected.flush()) {
            log::warn!(error:%; "cannot write state before the end");
        }
    }

    fn is_saved(&self) -> bool {
        !self.store.is_unsaved() && self.state_tracker.rejected.is_settled()
    }

    /// What could not be written, if anything.
    fn settled(&mut self, problem: Option<String>) {
        let problem = problem.or_else(|| Some(self.pending_writes.unproved.as_ref()?.problem.clone()));
        self.state_tracker.state_kept(problem.as_deref());
        self.pending_writes.retry_at = problem.map(|_| self.now() + RETRY_INTERVAL);
    }

    pub(super) fn saved(&mut self, saved: &Saved) {
        self.pending_writes.asked = self.pending_writes.asked.saturating_sub(1);
        self.state_tracker.rejected.settled_as(&saved.rejected);
        self.settled(saved.problem.clone());
    }
}
