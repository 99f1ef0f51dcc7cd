//! The poller's part of DESIGN.md, "One config check": report, compare, render, write the candidate, validate.
//!
//! It ends before the install. The poller and the one-shot both run it; whoever does owns the records that it keeps.

use std::time::{Duration, Instant};

use crate::agent::mailbox::{CheckOutcome, Snapshot};
use crate::agent::report;
use crate::collector::output;
use crate::collector::{Collector, Validation};
use crate::config::inspect;
use crate::config::value::{Revision, Value};
use crate::config::yaml;
use crate::core::restart_requests::{Asked, Decision, RestartThrottle};
use crate::error::{Error, Exit, Result};
use crate::log::redact::Secrets;
use crate::os::files::FileId;
use crate::settings::Settings;
use crate::source::kloudmate::{Answer, Client, Extended, Failure, Options, Report};
use crate::store::Store;
use crate::store::record::{self, Record, Rejected, unix_now};

pub struct ConfigCheck {
    client: Client,
    collector: Collector,
    store: Store,
    version: Record<record::Version>,
    requests: Record<RestartThrottle>,
    /// The revision of the config file as it was last seen; `None` when it is not one that can be read.
    in_force: Option<(FileId, Option<Revision>)>,
    /// Whether it could not be looked at when the latest check wanted to compare it.
    is_hidden: bool,
    /// Bytes of a config as YAML: twice the longest answer, as YAML that is made of JSON has blanks for its braces.
    most_yaml: u64,
    host: report::Host,
    /// `None` unless the extended report is asked for.
    instance_id: Option<Record<String>>,
    started_at: Instant,
    key: Option<String>,
}

impl ConfigCheck {
    /// # Errors
    /// 78 when the CA file cannot be used.
    pub fn new(settings: &Settings, endpoint: &str, collector: &Collector, store: &Store) -> Result<ConfigCheck> {
        let client = Client::new(&Options {
            endpoint,
            api_key: settings.api_key.as_ref(),
            ca_file: settings.ca_file.as_deref(),
            poll_timeout: settings.poll_timeout,
            max_answer: settings.max_config_size,
        })?;
        Ok(ConfigCheck {
            client,
            collector: collector.clone(),
            store: store.clone(),
            version: Record::open(store.state_dir(), record::COLLECTOR_VERSION),
            requests: Record::open(store.state_dir(), record::REQUESTS),
            in_force: None,
            is_hidden: false,
            most_yaml: settings.max_config_size.saturating_mul(2),
            host: report::Host::new(settings),
            instance_id: settings.report_extended.then(|| Record::open(store.state_dir(), record::INSTANCE_ID)),
            started_at: Instant::now(),
            key: settings.api_key.as_ref().map(|key| key.expose().to_string()),
        })
    }

    /// For a run with one check: what cannot be looked at now is not looked at again.
    pub fn single_attempt(&mut self) {
        self.is_hidden = true;
    }

    /// For a dry run: what it finds must not change what the next check does.
    pub fn read_only(&mut self) {
        self.version.freeze();
        self.requests.freeze();
        if let Some(instance_id) = &mut self.instance_id {
            instance_id.freeze();
        }
    }

    /// Reports, and leaves the answer for the next check.
    ///
    /// # Errors
    /// The API cannot be asked.
    pub fn tell(&mut self, known: &Snapshot) -> std::result::Result<(), Failure> {
        let report = self.report(known);
        self.client.check(&report).map(|_| ())
    }

    /// `pending` is the latest candidate that this check's caller has had no verdict on.
    ///
    /// # Errors
    /// The API cannot be asked or its answer not read; nothing was changed.
    pub fn run(&mut self, known: &Snapshot, pending: Option<&Revision>) -> std::result::Result<CheckOutcome, Failure> {
        let report = self.report(known);
        let answer = self.client.check(&report)?;
        Ok(self.consider(answer, known, pending).unwrap_or_else(CheckOutcome::Postponed))
    }

    fn consider(&mut self, answer: Answer, known: &Snapshot, pending: Option<&Revision>) -> Result<CheckOutcome> {
        let config = answer.config;
        let revision = config.as_ref().map(Value::revision);
        let rejected = known.rejected.as_ref().filter(|rejected| rejected.holds_for(self.collector.stamp()));
        if config.as_ref().and_then(Value::as_object).is_some_and(<[_]>::is_empty) {
            let revision = revision.unwrap_or_else(|| Value::Null.revision());
            let problem = "the API sent an empty config, which no collector can run".to_string();
            // Refused anew each time it would be a new outcome each time, and each outcome is followed by a poll at once.
            return Ok(match rejected.filter(|rejected| rejected.revision == revision) {
                Some(rejected) => CheckOutcome::StillRejected(rejected.clone()),
                None => refused(revision, problem, None),
            });
        }
        let in_force = match self.in_force() {
            // What cannot be looked at for once is not to be replaced by what it may be itself. What never can is.
            Err(error) if config.is_some() && !std::mem::replace(&mut self.is_hidden, true) => return Err(error),
            Err(_) => None,
            Ok(in_force) => {
                self.is_hidden = false;
                in_force
            }
        };
        let mut requests = self.requests.get().copied().unwrap_or_default();
        let asked = Asked { restart_required: answer.restart_required, config: revision.as_ref() };
        if pending.is_some() && pending == revision.as_ref() && in_force != revision {
            return Ok(CheckOutcome::OnItsWay);
        }
        let decision = requests.decide(asked, in_force.as_ref(), rejected.map(|it| &it.revision), unix_now());
        if decision == Decision::Restart
            && let Err(error) = self.would_start_again()
        {
            // Not remembered as met.
            return Ok(CheckOutcome::NotRestarted(error));
        }
        self.remember(requests);
        match (decision, config, revision) {
            (Decision::Install, Some(config), Some(revision)) => self.prepare(&config, revision),
            (Decision::Restart, ..) => Ok(CheckOutcome::Restart),
            (Decision::NotYet, ..) => Ok(CheckOutcome::NotYet),
            (Decision::StillRejected, ..) if rejected.is_some() => {
                Ok(rejected.map_or(CheckOutcome::NotYet, |rejected| CheckOutcome::StillRejected(rejected.clone())))
            }
            (Decision::Nothing | Decision::Install | Decision::StillRejected, config, _) => {
                Ok(CheckOutcome::Unchanged { confirmed: config.is_some() })
            }
        }
    }

    fn remember(&mut self, requests: RestartThrottle) {
        if let Err(error) = self.requests.set((requests != RestartThrottle::default()).then_some(requests)) {
            log::warn!(error:% = error; "cannot save the restart request; the next run may restart again");
        }
    }

    /// Nobody is stopped for a collector that cannot be executed any more, or refuses the config in force.
    ///
    /// # Errors
    /// Why it would not.
    fn would_start_again(&self) -> Result<()> {
        if !self.store.has_config() {
            return Ok(());
        }
        let not_restarted =
            |exit, cause: String| Error::new(exit, format!("restart requested by the API was skipped: {cause}"));
        match self.collector.validate(self.store.config()) {
            Ok(Validation::Good | Validation::Unsupported) => Ok(()),
            Ok(Validation::Bad(output)) => Err(not_restarted(
                Exit::ConfigRefused,
                format!("the collector rejects the active config: {}", output::gist(&output)),
            )),
            Err(error) => Err(not_restarted(error.exit(), error.to_string())),
        }
    }

    /// Renders, writes and validates the candidate.
    fn prepare(&mut self, config: &Value, revision: Revision) -> Result<CheckOutcome> {
        let text = match yaml::render_proven(config, self.most_yaml) {
            Ok(text) => text,
            Err(error) => return Ok(refused(revision, format!("the config cannot be written as YAML: {error}"), None)),
        };
        let candidate = self.store.write_candidate(&text, revision)?;
        let program = self.collector.stamp();
        match self.collector.validate(candidate.path())? {
            Validation::Good => Ok(CheckOutcome::Install(candidate)),
            Validation::Unsupported => {
                log::info!("collector has no validate command; relying on probation");
                Ok(CheckOutcome::Install(candidate))
            }
            Validation::Bad(output) => {
                let found = inspect::secrets(config, &|name| self.collector.env(name));
                let output = Secrets::new(self.key.iter().cloned().chain(found)).mask(&output).into_owned();
                let problem = format!("the collector rejects the config: {}", output::gist(&output));
                Ok(refused(candidate.revision.clone(), problem, program))
            }
        }
    }

    /// The revision of the config in force; the file is read again only when it has changed.
    ///
    /// # Errors
    /// It is there and cannot be looked at, or not be read.
    fn in_force(&mut self) -> Result<Option<Revision>> {
        let Some(stamp) = self.store.look()? else { return Ok(None) };
        if let Some((seen, revision)) = &self.in_force
            && *seen == stamp
        {
            return Ok(revision.clone());
        }
        let revision = match self.store.read_config() {
            Ok(config) => Some(config.revision()),
            Err(error) if error.exit() == Exit::ConfigRefused => None,
            Err(error) => return Err(error),
        };
        self.in_force = Some((stamp, revision.clone()));
        Ok(revision)
    }

    fn report(&mut self, known: &Snapshot) -> Report {
        let version = self.collector_version();
        let extended = self.instance_id().map(|instance_id| Extended {
            instance_id,
            config_revision: self.in_force().ok().flatten().map(|revision| revision.to_string()),
            rejected_revision: known.rejected.as_ref().map(|rejected| rejected.revision.to_string()),
            collector_restarts: known.restarts,
            uptime_seconds: self.started_at.elapsed().as_secs(),
        });
        report::build(&self.host, known, version, extended)
    }

    /// Made once and kept; a new one for each run where nothing can be kept.
    fn instance_id(&mut self) -> Option<String> {
        let kept = self.instance_id.as_mut()?;
        if kept.get().is_none()
            && let Err(error) = kept.set(Some(report::new_instance_id()))
        {
            log::warn!(error:% = error; "cannot save the instance id; it will change at the next start");
        }
        kept.get().cloned()
    }

    /// Asked of the program once, and again when the program has changed.
    fn collector_version(&mut self) -> String {
        let Ok(path) = self.collector.find() else { return String::new() };
        let Some(stamp) = FileId::of(&path) else { return String::new() };
        if let Some(kept) = self.version.get().filter(|kept| kept.path == path && kept.stamp == stamp) {
            return kept.version.clone();
        }
        let version = self.collector.version(&path).unwrap_or_else(|error| {
            log::warn!(error:% = error; "cannot determine the collector's version");
            String::new()
        });
        if let Err(error) = self.version.set(Some(record::Version { path, stamp, version: version.clone() })) {
            log::debug!(error:% = error; "cannot save the collector's version; will ask again");
        }
        version
    }
}

/// How long a check may take at most, for whoever waits for one.
pub fn longest(settings: &Settings) -> Duration {
    settings.poll_timeout + settings.validate_timeout + crate::collector::VERSION_TIMEOUT
}

fn refused(revision: Revision, problem: String, collector: Option<FileId>) -> CheckOutcome {
    CheckOutcome::Refused(Rejected { revision, problem, at: unix_now(), resolved: false, collector })
}
