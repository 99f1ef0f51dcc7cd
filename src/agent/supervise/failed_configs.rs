//! What is kept of a config that failed: its rejection, or when it is tried again.

use std::time::Instant;

use super::state_tracker::{StateTracker, problem_now, reworded};
use crate::agent::check_outcome::ProblemUpdate;
use crate::agent::mailbox::Postponed;
use crate::config::value::Revision;
use crate::core::retries;
use crate::os::files::SeenFile;
use crate::store::record::Rejected;

impl StateTracker {
    /// A check that finds a rejection void has had it forgotten before its candidate arrives.
    pub(super) fn is_rejected(&self, revision: &Revision) -> bool {
        self.rejected.get().is_some_and(|it| it.revision == *revision && it.holds_under(&self.policy))
    }

    /// `is_offered`: the source has sent it.
    pub(super) fn rolled_back(&mut self, problem: &str, rejected: Option<Rejected>, is_offered: bool) {
        self.problems.config = problem_now(&format!("the config was rolled back: {problem}"));
        // The server learns of it also when no install led to it.
        self.concluded = true;
        if let Some(rejected) = rejected {
            self.reject(rejected);
            self.is_rejected_offered = is_offered && self.polling.endpoint.is_some();
        }
    }

    /// Whether a config is rejected, or waits to be tried again.
    pub(super) fn has_rejection(&self) -> bool {
        self.rejected.get().is_some() || self.postponed.is_some()
    }

    /// An operator, or a check that finds it void, has the rejection forgotten; and what a config that is tried again
    /// later waits for.
    pub(super) fn forget_rejection(&mut self) {
        self.postponed = None;
        let _ = self.rejected.set(None);
    }

    /// A check has found something else than the config that is to be tried again: it is not offered any more.
    pub(super) fn withdrawn(&mut self, found: &ProblemUpdate, pending: Option<&Revision>) {
        let is_tried = matches!(found, ProblemUpdate::Postponed(_)) || self.awaits_verdict();
        if !is_tried
            && self.polling.endpoint.is_some()
            && let Some(postponed) = self.postponed.take_if(|postponed| pending != Some(&postponed.revision))
        {
            self.problems.config.take_if(|timed| timed.problem.contains(&postponed.problem));
        }
    }

    /// The hand-over to the config failed, which may not be the config's fault.
    pub(super) fn hand_over_failed(&mut self, problem: &str) {
        self.problems.config =
            problem_now(&format!("hand-over failed; the next check will apply this config by restart: {problem}"));
    }

    /// The config failed for something outside of it: it is tried again when that has changed, or later, and later each
    /// time.
    pub(super) fn postponed(&mut self, revision: Revision, problem: &str, overlay: Option<SeenFile>) {
        let same = self.postponed.take().filter(|earlier| earlier.revision == revision);
        let attempts = same.map_or(0, |earlier| earlier.attempts).saturating_add(1);
        let delay = retries::delay(attempts);
        let problem = format!(
            "config {} was rolled back and will be tried again, in {} min at the latest, or at once by \
             `kmagent retry`: {problem}",
            revision.short(),
            delay.as_secs() / 60
        );
        // It began with the first attempt, whatever differs in what the collector said.
        let same = self.problems.config.take().filter(|_| attempts > 1);
        self.problems.config = reworded(same, &problem);
        let (until, named) = (Instant::now() + delay, self.outside.take());
        self.postponed = Some(Box::new(Postponed { revision, attempts, until, named, overlay, problem }));
    }
}
