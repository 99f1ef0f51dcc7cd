//! Whose secrets are masked while the agent runs: those of the configs of all collectors that live, of the
//! one before them, and of the last known good.
//!
//! During a hand-over two configs are in use, after one that failed the old one still is, and what was said of one that
//! has just ended is told a little later.

use crate::collector::Collector;
use crate::collector::disclosure::Said;
use crate::config::value::Value;
use crate::core::event::ChildId;
use crate::log::masked::{self, Holder};

/// Collectors that have ended and whose secrets are still known: the predecessor, which others may go on to quote.
const MAX_ENDED: usize = 1;

#[derive(Default)]
pub(super) struct SecretRegistry {
    /// Oldest first, and whether its last lines may quote what the source does not know.
    known: Vec<(ChildId, bool)>,
}

impl SecretRegistry {
    /// From now on nothing is shown that looks like a secret in these configs of `child`.
    pub(super) fn learn(&mut self, collector: &Collector, child: ChildId, live: &[ChildId], configs: &[Value]) {
        masked::know(Holder::Collector(child.0), collector.secrets(configs));
        let configs: Vec<&Value> = configs.iter().collect();
        self.known.push((child, collector.reads_elsewhere(Said::Running, &configs).is_some()));
        let mut ended = self.known.iter().filter(|(known, _)| !live.contains(known)).count();
        self.known.retain(|(known, _)| {
            let is_kept = live.contains(known) || ended <= MAX_ENDED;
            ended -= usize::from(!live.contains(known));
            is_kept
        });
        masked::forget_collectors(|number| self.known.iter().any(|(known, _)| known.0 == number));
    }

    /// Whether what `child` printed may hold what the source does not know; yes for an unknown one.
    pub(super) fn reads_elsewhere(&self, child: ChildId) -> bool {
        self.known.iter().find(|(known, _)| *known == child).is_none_or(|(_, reads)| *reads)
    }
}
