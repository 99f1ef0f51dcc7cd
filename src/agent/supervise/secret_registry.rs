//! Whose secrets are masked while the agent runs: those of the configs of all collectors that live, and of the one
//! before them. Those of what a roll back would have gone to at the start are known besides (`Holder::Fallback`).
//!
//! During a hand-over two configs are in use, after one that failed the old one still is, and what was said of one that
//! has just ended is told a little later.

use std::sync::Arc;

use crate::core::event::ChildId;
use crate::log::masked::{self, Holder};
use crate::log::redact::Secrets;

/// Collectors that have ended and whose secrets are still known: the predecessor, which others may go on to quote.
const MAX_ENDED: usize = 1;

#[derive(Default)]
pub(super) struct SecretRegistry {
    /// Oldest first.
    known: Vec<ChildId>,
}

impl SecretRegistry {
    /// From now on nothing of this is shown, which is secret in the configs of `child`.
    pub(super) fn learn(&mut self, child: ChildId, live: &[ChildId], secrets: Arc<Secrets>) {
        masked::know(Holder::Collector(child.0), secrets);
        self.known.push(child);
        let mut ended = self.known.iter().filter(|known| !live.contains(known)).count();
        self.known.retain(|known| {
            let is_kept = live.contains(known) || ended <= MAX_ENDED;
            ended -= usize::from(!live.contains(known));
            is_kept
        });
        masked::forget_collectors(|number| self.known.iter().any(|known| known.0 == number));
    }
}
