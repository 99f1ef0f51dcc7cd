//! The poller's part of a reload: the settings are read again, and everything that the poller has of them is made anew.
//!
//! The supervisor gets the rest, and the word whether the collector is to be replaced: only for a variable that its
//! config refers to. A key file that has changed when the API refuses the key is a small reload. Settings that cannot
//! be used change nothing.

use crate::agent::check::ConfigCheck;
use crate::agent::mailbox::KnownFacts;
use crate::collector::Collector;
use crate::core::Uptime;
use crate::core::cadence::Cadence;
use crate::core::supervisor::Limits;
use crate::error::Result;
use crate::log::masked::{self, Holder};
use crate::log::redact::Secrets;
use crate::settings::changes::Changes;
use crate::settings::{Resolved, Settings};
use crate::source::Source;
use crate::store::Store;

/// Reads the settings as a start does.
pub type Resolve = Box<dyn Fn() -> Result<(Resolved, Source)> + Send>;

/// The settings that the poller works with.
pub struct Present {
    resolve: Resolve,
    resolved: Resolved,
    collector: Collector,
}

/// Of a supervisor with these settings.
pub fn limits(settings: &Settings) -> Limits {
    Limits {
        min_uptime: settings.min_uptime,
        start_timeout: settings.start_timeout,
        confirm_time: settings.confirm_time,
        stop_timeout: settings.stop_timeout,
    }
}

/// What the supervisor is to work with from now on.
#[derive(Debug)]
pub struct Reloaded {
    pub settings: Settings,
    pub collector: Collector,
    pub store: Store,
    /// Of the active config, as the new settings have it read.
    pub facts: Vec<KnownFacts>,
    /// What was done, and what was not.
    pub message: String,
    /// The collector is to be replaced.
    pub replace: bool,
}

impl Present {
    pub fn new(resolve: Resolve, resolved: Resolved, collector: Collector) -> Present {
        Present { resolve, resolved, collector }
    }

    /// # Errors
    /// The settings cannot be used, and nothing has changed.
    pub fn reload(&mut self, check: &mut ConfigCheck, cadence: &mut Cadence, now: Uptime) -> Result<Box<Reloaded>> {
        let (mut resolved, source) = (self.resolve)()?;
        let changes = Changes::take(&self.resolved, &mut resolved);
        let settings = &resolved.settings;
        crate::log::init(settings.log_level, settings.log_format);
        for warning in &resolved.warnings {
            log::warn!(problem = warning.as_str(); "check the settings");
        }
        cadence.reconfigured(source.interval(settings), now);
        let mut reloaded = self.adopt(resolved, source, check);
        reloaded.message.insert_str(0, &changes.describe());
        Ok(reloaded)
    }

    /// What follows from the file of the key or token that was sent, if that has another one by now.
    pub fn take_changed_credential(&mut self, check: &mut ConfigCheck) -> Option<Box<Reloaded>> {
        let settings = self.resolved.settings.with_changed_credential()?;
        let source = Source::new(&settings)
            .inspect_err(|error| log::warn!(error:%; "the key file has another key, which cannot be used"))
            .ok()?;
        match &settings.update_token {
            Some(_) => log::info!("the token file has another token; using it"),
            None => log::info!("the key file has another key; using it"),
        }
        let resolved = Resolved { settings, ..self.resolved.clone() };
        Some(self.adopt(resolved, source, check))
    }

    fn adopt(&mut self, resolved: Resolved, source: Source, check: &mut ConfigCheck) -> Box<Reloaded> {
        let settings = &resolved.settings;
        let former = &self.resolved.settings;
        if !settings.secrets().eq(former.secrets()) {
            // What was said to the former ones may be quoted yet.
            masked::know(Holder::Keys, Secrets::new(former.secrets().chain(settings.secrets())));
        }
        let collector = Collector::new(settings);
        let store = check.store().limited_by(settings);
        let changed = collector.changed_references(&self.collector, &check.configs());
        check.renew(settings, source, &collector, &store);
        let mut message = String::new();
        let mut replace = !changed.is_empty();
        if replace {
            let names = changed.join(" and ");
            match check.would_start_again() {
                Ok(()) => {
                    message = format!("; replacing the collector, whose config refers to {names}");
                    log::info!(variables = names.as_str(); "the collector is to be replaced: its config refers to what has changed");
                }
                Err(error) => {
                    replace = false;
                    message = format!("; the collector goes on with the former {names}: {error}");
                    log::error!(variables = names.as_str(), error:%; "collector not restarted; the running one stays");
                }
            }
        }
        let settings = settings.clone();
        self.collector = collector.clone();
        self.resolved = resolved;
        check.config();
        Box::new(Reloaded { settings, collector, store, facts: check.known_facts(), message, replace })
    }
}
