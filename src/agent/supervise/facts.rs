//! What is known of the configs that may be started next, without reading them.
//!
//! The poller finds it out, of the active config and of each candidate, and says so before the config can be started. A
//! generation's content never changes, so it is known by that one's number, with the overlay that there was.

use std::sync::Arc;

use super::Supervise;
use crate::agent::mailbox::KnownFacts;
use crate::agent::readings;
use crate::collector::config_facts::ConfigFacts;

/// The active config, what a roll back would bring back, and a candidate that is queued.
const MAX_KNOWN: usize = 3;

/// The latest first.
#[derive(Default)]
pub(super) struct FactsCache(Vec<KnownFacts>);

impl FactsCache {
    pub(super) fn learn(&mut self, known: KnownFacts) {
        self.0.retain(|it| it.generation != known.generation);
        self.0.insert(0, known);
        self.0.truncate(MAX_KNOWN);
    }

    /// The settings have changed, which say what variables hold.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

impl Supervise {
    /// Of the active config, which is this generation; `None` if the poller has not read it as it is now.
    pub(super) fn known_facts(&mut self, generation: Option<u64>) -> Option<Arc<ConfigFacts>> {
        let overlay = readings::overlay_file(self.collectors.collector());
        let is_it = |it: &KnownFacts| Some(it.generation) == generation && it.overlay == overlay;
        let at = self.facts.0.iter().position(is_it)?;
        let known = self.facts.0.remove(at);
        let facts = known.facts.clone();
        self.facts.learn(known);
        Some(facts)
    }

    /// The same, read here if need be: only while no collector lives, as before the first start, or when an operator
    /// has edited the config of one that then died. So none waits meanwhile.
    pub(super) fn facts_to_start(&mut self, generation: Option<u64>) -> Option<Arc<ConfigFacts>> {
        let known = self.known_facts(generation);
        if known.is_some() || self.collectors.iter().next().is_some() {
            return known;
        }
        let collector = self.collectors.collector();
        let overlay = readings::overlay_file(collector);
        let config = self.store.read_config().map_err(|error| error.to_string());
        let config = config.as_ref().map_err(Clone::clone);
        let facts = Arc::new(readings::facts(collector, &self.store, config, self.handover.longest_overlap()));
        if let Some(generation) = generation {
            self.store.found_revision(generation, facts.revision.as_ref());
            self.facts.learn(KnownFacts { generation, overlay, facts: facts.clone() });
        }
        Some(facts)
    }
}
