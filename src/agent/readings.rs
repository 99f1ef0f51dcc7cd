//! What is known of the configs that a config check has read: the active one by its file, so that it is read again only
//! when that has changed, and the latest candidate.
//!
//! The supervisor gets what it has to know of a config before it starts one (`collector::config_facts`), since it reads
//! none while a collector may be waiting for it.

use std::sync::Arc;
use std::time::Duration;

use super::check::ConfigCheck;
use super::mailbox::{ConfigReading, KnownFacts};
use super::reload::limits;
use crate::collector::Collector;
use crate::collector::config_facts::ConfigFacts;
use crate::config::value::Value;
use crate::error::{Error, Exit, Result};
use crate::log::redact::Secrets;
use crate::os::files::FileId;
use crate::settings::Settings;
use crate::store::Store;

pub(super) struct Readings {
    /// The config file and the overlay as they were seen last.
    active: Option<(ConfigReading, Option<FileId>)>,
    active_facts: Option<KnownFacts>,
    offered: Option<KnownFacts>,
    longest_overlap: Duration,
    /// Nobody needs them of the active config.
    without_facts: bool,
}

/// What was found out of a config, with the overlay that there was.
pub(super) struct FoundOut {
    overlay: Option<FileId>,
    facts: Arc<ConfigFacts>,
}

impl Readings {
    pub(super) fn new(settings: &Settings) -> Readings {
        let longest_overlap = limits(settings).longest_overlap();
        Readings { active: None, active_facts: None, offered: None, longest_overlap, without_facts: false }
    }

    pub(super) fn without_facts(&mut self) {
        self.without_facts = true;
    }

    /// This is the candidate's.
    pub(super) fn offer(&mut self, generation: Option<u64>, found: FoundOut) {
        self.offered = generation.map(|generation| found.of(generation));
    }
}

impl FoundOut {
    pub(super) fn secrets(&self) -> Arc<Secrets> {
        self.facts.secrets.clone()
    }

    fn of(self, generation: u64) -> KnownFacts {
        KnownFacts { generation, overlay: self.overlay, facts: self.facts }
    }
}

impl ConfigCheck {
    pub(super) fn find_out(&self, config: &Value) -> FoundOut {
        let overlay = overlay_file(&self.collector);
        let facts = facts(&self.collector, &self.store, Ok(config), self.readings.longest_overlap);
        FoundOut { overlay, facts: Arc::new(facts) }
    }

    /// The active config; read again only when its file has changed, or the overlay.
    ///
    /// # Errors
    /// It is there and cannot be looked at, or not be read.
    pub(super) fn read_active(&mut self) -> Result<Option<ConfigReading>> {
        let Some(file) = self.store.look()? else { return Ok(None) };
        let overlay = overlay_file(&self.collector);
        if let Some((seen, under)) = &self.readings.active
            && (seen.file, *under) == (file, overlay)
        {
            return Ok(Some(seen.clone()));
        }
        self.readings.active_facts = None;
        let revision = match self.store.read_config() {
            Ok(config) if self.readings.without_facts => Ok(config.revision()),
            Ok(config) => {
                let found = self.find_out(&config);
                let revision = found.facts.revision.clone();
                self.readings.active_facts = self.store.generation_of(file).map(|generation| found.of(generation));
                Ok(revision.unwrap_or_else(|| config.revision()))
            }
            Err(error) if error.exit() == Exit::ConfigRefused => Err(error.to_string().into()),
            Err(error) => return Err(error),
        };
        let reading = ConfigReading { file, revision };
        self.readings.active = Some((reading.clone(), overlay));
        Ok(Some(reading))
    }

    /// The active config as it is now; `None` when there is none, or none that can be looked at.
    pub fn config(&mut self) -> Option<ConfigReading> {
        let unreadable = |file, error: Error| ConfigReading { file, revision: Err(error.to_string().into()) };
        match self.read_active() {
            Ok(reading) => reading,
            Err(error) => self.store.look().ok().flatten().map(|file| unreadable(file, error)),
        }
    }

    /// What was found out of the active config, as it was read last, and of the latest candidate.
    pub fn known_facts(&mut self) -> Vec<KnownFacts> {
        self.readings.active_facts.clone().into_iter().chain(self.readings.offered.take()).collect()
    }
}

/// What is laid over the config, as a file.
pub fn overlay_file(collector: &Collector) -> Option<FileId> {
    collector.local_config().and_then(FileId::of)
}

/// What there is to know of this config with the overlay, which is read here.
pub fn facts(
    collector: &Collector,
    store: &Store,
    config: std::result::Result<&Value, String>,
    longest_overlap: Duration,
) -> ConfigFacts {
    let overlay = collector.overlay(|path| store.read_overlay(path)).map_err(|error| error.to_string());
    ConfigFacts::new(collector, config, overlay.as_ref().map(Option::as_ref).map_err(Clone::clone), longest_overlap)
}
