//! The poller's part of DESIGN.md, "One config check": report, compare, render, write the candidate, validate.
//!
//! It ends before the install. The poller and `--check` both run it; the one that does owns the records that it keeps.

use std::path::Path;
use std::time::Duration;

use crate::agent::check_outcome::CheckOutcome;
use crate::agent::conditions::Conditions;
use crate::agent::mailbox::Snapshot;
use crate::agent::readings::Readings;
use crate::agent::report::{Reporter, state_of_active};
use crate::collector::Collector;
use crate::collector::disclosure::Said;
use crate::collector::output;
use crate::collector::start_failure;
use crate::collector::validate::Validation;
use crate::config::policy::Policy;
use crate::config::value::{Revision, Value};
use crate::config::yaml;
use crate::core::restart_requests::{Asked, Decision, RestartThrottle};
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::log::masked::{self, Holder};
use crate::os::user::User;
use crate::settings::Settings;
use crate::source::report::ConfigState;
use crate::source::{Failure, Offer, Response, Source};
use crate::store::Store;
use crate::store::record::{self, Record, Rejected, unix_now};

pub struct ConfigCheck {
    source: Source,
    reporter: Reporter,
    pub(super) collector: Collector,
    pub(super) store: Store,
    requests: Record<RestartThrottle>,
    /// What is known of the configs that were read.
    pub(super) readings: Readings,
    /// Whether it could not be looked at when the latest check wanted to compare it.
    is_hidden: bool,
    /// Bytes of a config as YAML: twice the longest answer, as YAML that is made of JSON has blanks for its braces.
    max_yaml: u64,
    conditions: Conditions,
    pub(super) policy: Policy,
    pub(super) policy_file: String,
    /// `None` when this run has looked, or is not to.
    pub(super) noticed: Option<Record<String>>,
    /// Of the config that the latest check was offered: it is neither active nor rejected yet.
    undecided: Option<ConfigState>,
    /// No agent runs, so the active config is the confirmed one.
    pub(super) is_alone: bool,
}

impl ConfigCheck {
    pub fn new(settings: &Settings, source: Source, collector: &Collector, store: &Store) -> ConfigCheck {
        ConfigCheck {
            source,
            reporter: Reporter::new(settings, collector, store),
            collector: collector.clone(),
            store: store.clone(),
            requests: Record::open(store.state_dir(), record::REQUESTS),
            readings: Readings::new(settings),
            is_hidden: false,
            max_yaml: settings.max_config_size.saturating_mul(2),
            conditions: Conditions::new(collector, settings.max_config_file()),
            policy: settings.policy.clone(),
            policy_file: settings.policy_file.display().to_string(),
            noticed: Some(Record::open(store.state_dir(), record::POLICY)),
            undecided: None,
            is_alone: false,
        }
    }

    /// With other settings. What was found out and could not be kept on the disk stays.
    pub fn renew(&mut self, settings: &Settings, source: Source, collector: &Collector, store: &Store) {
        let former = std::mem::replace(self, ConfigCheck::new(settings, source, collector, store));
        self.reporter.keep(former.reporter);
        self.requests = former.requests;
        self.is_hidden = former.is_hidden;
        self.undecided = former.undecided;
    }

    /// The active config and the overlay, as far as they can be read.
    pub fn configs(&self) -> Vec<Value> {
        self.store.read_config().ok().into_iter().chain(self.overlay()).collect()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// For a run with one check: what cannot be looked at now is not looked at again.
    pub fn single_attempt(&mut self) {
        self.is_hidden = true;
        self.readings.without_facts();
    }

    /// For a host without an agent, which promotes no config.
    pub fn without_agent(&mut self) {
        self.is_alone = true;
    }

    /// For a dry run: what it finds must not change what the next check does.
    pub fn read_only(&mut self) {
        self.reporter.read_only();
        self.noticed = None;
        self.requests.freeze();
    }

    /// Reports, and leaves the answer for the next check.
    ///
    /// # Errors
    /// The source cannot be asked.
    pub fn report(&mut self, known: &Snapshot) -> std::result::Result<(), Failure> {
        self.ask(known, None).map(|_| ())
    }

    /// `pending` is the latest candidate that this check's caller has had no verdict on.
    ///
    /// # Errors
    /// The source cannot be asked or its answer not read; nothing was changed.
    pub fn run(&mut self, known: &Snapshot, pending: Option<&Revision>) -> std::result::Result<CheckOutcome, Failure> {
        if let Source::Nobody { reason } = &self.source {
            return Ok(CheckOutcome::Local { reason: reason.clone() });
        }
        self.notice_violations();
        let response = self.ask(known, pending)?;
        let outcome = self.consider(response, known, pending).unwrap_or_else(CheckOutcome::Postponed);
        self.undecided = outcome.undecided();
        Ok(outcome)
    }

    fn ask(&mut self, known: &Snapshot, pending: Option<&Revision>) -> std::result::Result<Response, Failure> {
        let active = self.active().ok().flatten();
        let waits = pending.filter(|pending| active.as_ref() != Some(pending)).map(|_| ConfigState::Pending);
        let config_state = waits.or(self.undecided).unwrap_or_else(|| state_of_active(&self.store));
        self.source.ask(&self.reporter.report(known, active, config_state))
    }

    fn consider(&mut self, response: Response, known: &Snapshot, pending: Option<&Revision>) -> Result<CheckOutcome> {
        let offer = match response.offer.transpose() {
            Ok(offer) => offer,
            // Refused anew each time it would be a new outcome each time, and each outcome is followed by a poll at
            // once.
            Err(refusal) => {
                return Ok(match self.still_rejected(known, &refusal.revision, None) {
                    Some(rejected) => CheckOutcome::StillRejected(rejected),
                    None => CheckOutcome::Refused(Rejected::new(refusal.revision, refusal.problem)),
                });
            }
        };
        let active = match self.active() {
            // What cannot be looked at for once is not to be replaced by what it may be itself. What never can is.
            Err(error) if offer.is_some() && !std::mem::replace(&mut self.is_hidden, true) => return Err(error),
            Err(_) => None,
            Ok(active) => {
                self.is_hidden = false;
                active
            }
        };
        let revision = offer.as_ref().map(|offer| &offer.revision);
        let mut requests = self.requests.get().copied().unwrap_or_default();
        let asked = Asked { restart_required: response.restart, config: revision };
        if pending.is_some() && pending == revision && active.as_ref() != revision {
            return Ok(CheckOutcome::OnItsWay);
        }
        if let (Some(postponed), Some(offer)) = (&known.postponed, &offer)
            && postponed.revision == offer.revision
            && active.as_ref() != revision
            && !postponed.is_due()
        {
            return Err(Error::new(Exit::TryAgain, self.conditions.explained(&postponed.problem, &offer.value)));
        }
        let is_active = active.is_some() && active.as_ref() == revision;
        let offered = offer.as_ref().filter(|_| !is_active);
        let rejected = offered.and_then(|it| self.still_rejected(known, &it.revision, Some(&it.value)));
        let decision = requests.decide(asked, active.as_ref(), rejected.as_ref().map(|it| &it.revision), unix_now());
        if decision == Decision::Restart
            && let Err(error) = self.would_start_again()
        {
            // Not remembered as met.
            return Ok(CheckOutcome::NotRestarted(error.within("restart requested by the API was skipped")));
        }
        self.remember(requests);
        match (decision, offer, rejected) {
            (Decision::Install, Some(offer), _) => {
                let retried = known.rejected.as_ref().is_some_and(|rejected| rejected.revision == offer.revision);
                self.prepare(offer, retried)
            }
            (Decision::Restart, ..) => Ok(CheckOutcome::Restart),
            (Decision::NotYet, Some(Offer { revision, .. }), _) => Ok(CheckOutcome::NotYet { revision }),
            (Decision::StillRejected, _, Some(rejected)) => Ok(CheckOutcome::StillRejected(rejected)),
            (Decision::Nothing | Decision::NotYet | Decision::Install | Decision::StillRejected, offer, _) => {
                Ok(CheckOutcome::Unchanged { confirmed: offer.is_some() })
            }
        }
    }

    /// The rejection of this config, if there is one that holds for what would run now.
    fn still_rejected(&mut self, known: &Snapshot, revision: &Revision, config: Option<&Value>) -> Option<Rejected> {
        let rejected = known.rejected.as_ref().filter(|rejected| rejected.revision == *revision)?;
        if !rejected.holds_under(self.policy.identity()) {
            return None;
        }
        self.conditions.hold(rejected, config)
    }

    fn remember(&mut self, requests: RestartThrottle) {
        if let Err(error) = self.requests.set((requests != RestartThrottle::default()).then_some(requests)) {
            log::warn!(error:% = error; "cannot save the restart request; the next run may restart again");
        }
    }

    /// A collector is not stopped if the program cannot be executed any more, or rejects the active config.
    ///
    /// # Errors
    /// Why it would not.
    pub fn would_start_again(&self) -> Result<()> {
        if !self.store.has_config() {
            return Ok(());
        }
        let told = |output: &Masked| match self.store.read_config() {
            Ok(config) => self.told_outside(output, &config),
            Err(error) => Masked::from(error.to_string()),
        };
        match self.collector.validate(self.store.config()) {
            Ok(Validation::Good | Validation::Unsupported) => Ok(()),
            Ok(Validation::Bad(output)) => {
                let what = "the collector rejects the active config";
                Err(Error::because(Exit::ConfigRefused, what, told(&output).to_string()))
            }
            Ok(Validation::Denied { user, output }) => Err(not_judged(user, &told(&output))),
            Err(error) => Err(error),
        }
    }

    /// Judges, renders, writes and validates the candidate.
    fn prepare(&mut self, Offer { value, revision }: Offer, retried: bool) -> Result<CheckOutcome> {
        let violations = self.judge(&value, self.confirmed().as_ref());
        if !violations.is_empty() {
            let problem = format!("the policy refuses the config: {}", violations.explain(&self.policy_file));
            let policy = Some(self.policy.identity().to_string());
            // Places that the overlay sets are not judged.
            let overlay = Some(self.conditions.overlay());
            let conditions = Box::new(record::Conditions { overlay, ..record::Conditions::default() });
            let rejected = Rejected { policy, conditions, ..Rejected::new(revision, problem) };
            // Its YAML is not proved here; whoever looks at it sees what would not be.
            return Ok(self.refused(rejected, &yaml::render(&value)));
        }
        let text = match yaml::render_proven(&value, self.max_yaml) {
            Ok(text) => text,
            Err(error) => {
                let problem = format!("the config cannot be written as YAML: {error}");
                return Ok(CheckOutcome::Refused(Rejected::new(revision, problem)));
            }
        };
        let offered = self.find_out(&value);
        masked::know(Holder::Candidate, offered.secrets());
        let mut candidate = self.store.write_candidate(&text, revision)?;
        let begun = self.conditions.begin();
        match self.collector.validate(candidate.path())? {
            validation @ (Validation::Good | Validation::Unsupported) => {
                if let Validation::Unsupported = validation {
                    log::info!("collector has no validate command; relying on probation");
                }
                self.store.keep_candidate(&mut candidate, &text);
                self.readings.offer(candidate.generation(), offered);
                Ok(CheckOutcome::Install { candidate, retried })
            }
            Validation::Denied { user, output } => Err(not_judged(user, &self.told_outside(&output, &value))),
            Validation::Bad(output) => {
                let what = match self.overlay_at_fault(candidate.path()) {
                    Some(overlay) => format!("the collector rejects the overlay {}", overlay.display()),
                    None => "the collector rejects the config".to_string(),
                };
                let problem = format!("{what}: {}", self.told_outside(&output, &value));
                let mut rejected = Rejected::new(candidate.revision.clone(), problem);
                rejected.conditions.named = start_failure::named_file(&format!("Error: {output}"));
                let rejected = self.conditions.refused(rejected, &value, begun);
                Ok(self.refused(rejected, &text))
            }
        }
    }

    /// It is kept, so that an operator can look at it.
    fn refused(&self, rejected: Rejected, text: &str) -> CheckOutcome {
        let kept = self.store.keep_refused(text, &rejected.revision, &rejected.problem);
        CheckOutcome::Refused(Rejected { kept, ..rejected })
    }

    /// The overlay, if the collector accepts this config without it.
    fn overlay_at_fault(&self, config: &Path) -> Option<&Path> {
        let overlay = self.collector.local_config()?;
        let alone = self.collector.clone().without_overlay().validate(config);
        matches!(alone, Ok(Validation::Good)).then_some(overlay)
    }

    /// What may be told of what the collector said of `config`; the log has all of it.
    fn told_outside(&self, output: &Masked, config: &Value) -> Masked {
        let overlay = self.overlay();
        let configs: Vec<&Value> = [config].into_iter().chain(overlay.as_ref()).collect();
        let told = self.collector.told_outside(output, Said::Validating, &configs);
        if told != *output {
            log::error!(output:% = output::gist(output); "error withheld from the API and from status, as it may quote what the config reads");
        }
        output::gist(&told)
    }

    /// As far as it can be read; the collector says what is wrong with it.
    pub(super) fn overlay(&self) -> Option<Value> {
        self.collector.overlay(|path| self.store.read_overlay(path)).ok().flatten()
    }

    /// The revision of the active config; the file is read again only when it has changed.
    ///
    /// # Errors
    /// It is there and cannot be looked at, or not be read.
    fn active(&mut self) -> Result<Option<Revision>> {
        Ok(self.read_active()?.and_then(|reading| reading.revision.ok()))
    }

    /// Of the collector; empty if it was not asked yet.
    pub fn known_version(&self) -> String {
        self.reporter.known_version().unwrap_or_default()
    }
}

/// How long a check may take at most, for a client that waits for one.
pub fn longest(settings: &Settings) -> Duration {
    settings.poll_timeout + settings.validate_timeout + crate::collector::program::VERSION_TIMEOUT
}

fn not_judged(user: User, output: &Masked) -> Error {
    let what = format!(
        "the collector, run as {user}, who owns the config or the program, was refused a file, so the config is not judged: \
         let that user read it, or chown config, program and their directories to root"
    );
    Error::because(Exit::TryAgain, what, output::gist(output).to_string())
}
