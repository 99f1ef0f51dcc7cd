//! What the supervisor knows besides the state machine: problems, the rejected revision, the latest check, secrets to mask.
//!
//! It turns what happened into the sentences that people read in `status`, in a `--check` and at the API. It starts and stops
//! nothing.

use std::path::Path;
use std::time::Duration;

use super::learned::Learned;
use crate::api;
use crate::control::{CheckResult, CollectorStatus, ConfigStatus, Outcome, PollingStatus, Status};
use crate::core::Uptime;
use crate::core::event::Verdict;
use crate::core::status::{self, Noted, Problems};
use crate::core::supervisor::Phrase;
use crate::error::Result;
use crate::exit::Exit;
use crate::messages::{Finding, Snapshot};
use crate::report;
use crate::settings::{Polling, Settings};
use crate::store::Store;
use crate::store::record::{self, Record, Rejected, unix_now};
use crate::value::Revision;

pub(super) struct Ledger {
    store: Store,
    problems: Problems,
    rejected: Record<Rejected>,
    /// Put into force and without a verdict.
    installing: Option<Revision>,
    /// How the latest config took effect.
    changed_by: Option<String>,
    /// Candidates that the core holds.
    held: u32,
    /// There is an outcome that the server has not been told.
    concluded: bool,
    polling: PollingStatus,
    pub(super) secrets: Learned,
}

impl Ledger {
    pub(super) fn new(store: &Store, settings: &Settings) -> Ledger {
        let rejected: Record<Rejected> = Record::open(store.state_dir(), record::REJECTED);
        let unresolved = rejected.get().filter(|it| !it.resolved).map(Noted::from);
        let (endpoint, local_because) = match &settings.polling {
            Polling::Endpoint(url) => (Some(url.clone()), None),
            Polling::Local { reason } => (None, Some(reason.clone())),
        };
        let key = settings.api_key.as_ref().map(|key| key.expose().to_string());
        Ledger {
            store: store.clone(),
            problems: Problems { config: unresolved, ..Problems::default() },
            rejected,
            installing: None,
            changed_by: None,
            held: 0,
            concluded: false,
            polling: PollingStatus { endpoint, local_because, succeeded_at: None, error: None },
            secrets: Learned::new(key),
        }
    }

    /// The problem, in words.
    pub(super) fn crashed(&mut self, status: &str, uptime: Duration, tail: &str) -> String {
        let lines = if tail.is_empty() { String::new() } else { format!("; its last lines:\n{tail}") };
        let problem = self.mask(&format!("the collector {status} after {:.1} s{lines}", uptime.as_secs_f64()));
        self.problems.collector = noted(&problem);
        problem
    }

    pub(super) fn cannot_start(&mut self, problem: &str) {
        // Said once, however often it is tried.
        if self.problems.collector.as_ref().is_none_or(|noted| noted.problem != problem) {
            log::error!(problem = problem; "collector not started");
        }
        self.problems.collector = noted(problem);
    }

    pub(super) fn no_config(&mut self, path: &Path, fallback: bool) {
        let path = path.display();
        let problem = match (fallback, &self.polling.endpoint) {
            (true, _) => format!("the collector config {path} was missing; the last known good was put in its place"),
            (false, Some(_)) => format!("there is no collector config {path} yet: waiting for the API to send one"),
            (false, None) => format!("there is no collector config {path}: put one there, then `kmagent --check`"),
        };
        if self.problems.collector.as_ref().is_none_or(|noted| noted.problem != problem) {
            log::warn!(problem = problem.as_str(); "collector not started");
        }
        self.problems.collector = noted(&problem);
    }

    pub(super) fn arrived(&mut self) {
        self.held += 1;
    }

    /// The core lets go of a candidate that it held.
    pub(super) fn settled(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// A candidate is being installed: the next verdict is about it.
    pub(super) fn takes_up(&mut self, revision: &Revision) {
        self.settled();
        self.installing = Some(revision.clone());
    }

    pub(super) fn changed_by(&mut self, words: String) {
        self.changed_by = Some(words);
    }

    pub(super) fn is_rejected(&self, revision: &Revision) -> bool {
        self.rejected.get().is_some_and(|rejected| rejected.revision == *revision)
    }

    pub(super) fn rolled_back(&mut self, revision: Option<Revision>, problem: &str) {
        let problem = self.mask(problem);
        self.problems.config = noted(&format!("the config was rolled back: {problem}"));
        if let Some(revision) = revision {
            self.reject(Rejected { revision, problem, at: unix_now(), resolved: false });
        }
    }

    /// What cannot be written, if anything.
    pub(super) fn state_kept(&mut self, problem: Option<&str>) {
        if self.problems.state.as_ref().map(|noted| noted.problem.as_str()) != problem {
            self.problems.state = problem.and_then(noted);
        }
    }

    /// Writes the rejected revision if that could not be done before.
    pub(super) fn settle_rejected(&mut self) -> Result<()> {
        self.rejected.settle()
    }

    /// The outcome for those who wait for it, if this is about an install.
    pub(super) fn concluded(&mut self, verdict: &Verdict) -> Option<Outcome> {
        // After a roll back too: the config's problem says it all, and the old collector may never have ended.
        if matches!(verdict, Verdict::Promoted | Verdict::Proved | Verdict::RolledBack(_)) {
            self.problems.collector = None;
        }
        if let Verdict::Failing(problem) = verdict {
            self.problems.collector = noted(&self.mask(problem));
        }
        let revision = self.installing.take()?;
        self.concluded = true;
        let name = revision.short();
        let (exit, result, message) = match verdict {
            Verdict::Promoted | Verdict::Proved => {
                self.resolve();
                (Exit::Done, CheckResult::Installed, format!("installed config {name}"))
            }
            Verdict::RolledBack(problem) => {
                let message = format!("config {name} was rolled back: {}", self.mask(problem));
                (Exit::ConfigRefused, CheckResult::RolledBack, message)
            }
            Verdict::Failing(problem) => {
                let message = format!("config {name} fails, and there is none to go back to: {}", self.mask(problem));
                (Exit::ConfigRefused, CheckResult::Failed, message)
            }
            Verdict::NotInstalled(problem) => {
                self.problems.config = noted(problem);
                (Exit::CannotWrite, CheckResult::Failed, problem.clone())
            }
        };
        Some(Outcome { exit: exit.code(), result, message })
    }

    /// Whether the latest candidate is on its way to a verdict.
    pub(super) fn awaits_verdict(&self) -> bool {
        self.held > 0 || self.installing.is_some()
    }

    /// Takes in how a config check ended, and says it to those who asked for it.
    pub(super) fn checked(&mut self, finding: &Result<Finding>) -> Outcome {
        let finding = match finding {
            Ok(finding) => finding,
            Err(error) => {
                self.polling.error = Some(error.to_string());
                return Outcome::failed(error);
            }
        };
        if let Finding::Local { reason } = finding {
            let message = format!("there is no API to ask: {reason}");
            return Outcome { exit: Exit::Settings.code(), result: CheckResult::Failed, message };
        }
        self.polling.succeeded_at = Some(unix_now());
        self.polling.error = None;
        match finding {
            Finding::Unchanged { confirmed } => {
                if *confirmed && !self.awaits_verdict() {
                    self.resolve();
                }
                Outcome::done(CheckResult::Unchanged, "the config is up to date")
            }
            Finding::NotYet => {
                Outcome::done(CheckResult::Unchanged, "the API has a new config and does not ask to use it yet")
            }
            Finding::Install(_) | Finding::OnItsWay => {
                Outcome::done(CheckResult::Unchanged, "the config awaits its verdict")
            }
            Finding::Restart => Outcome::done(CheckResult::Restarted, "the collector is restarted, as the API asks"),
            Finding::Refused(rejected) => {
                self.concluded = true;
                self.reject(rejected.clone());
                self.still_rejected(rejected)
            }
            Finding::StillRejected(rejected) => self.still_rejected(rejected),
            Finding::Postponed(error) => {
                self.problems.config = noted(&self.mask(&error.to_string()));
                Outcome::failed(error)
            }
            Finding::Local { reason } => Outcome::done(CheckResult::Unchanged, reason.as_str()),
        }
    }

    pub(super) fn take_concluded(&mut self) -> bool {
        std::mem::take(&mut self.concluded)
    }

    pub(super) fn snapshot(&self, phrase: Phrase, restarts: u64) -> Snapshot {
        Snapshot {
            collector_status: match status::counts_as_running(phrase) {
                true => api::Status::Running,
                false => api::Status::Stopped,
            },
            problem: self.problems.newest().cloned(),
            rejected: self.rejected.get().cloned(),
            restarts,
        }
    }

    /// `process` is the collector's pid and uptime, if it lives.
    pub(super) fn status(&self, phrase: Phrase, now: Uptime, process: Option<(u32, Uptime)>, starts: u64) -> Status {
        let rejected = self.rejected.get();
        let revision = self.store.read_config().ok().map(|config| config.revision().to_string());
        Status {
            agent_version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            uptime_seconds: now.as_secs(),
            collector: CollectorStatus {
                state: phrase.as_str().to_string(),
                pid: process.map(|(pid, _)| pid),
                uptime_seconds: process.map(|(_, uptime)| uptime.as_secs()),
                restarts: starts.saturating_sub(1),
            },
            config: ConfigStatus {
                path: self.store.config().to_path_buf(),
                revision,
                changed_by: self.changed_by.clone(),
                rejected_revision: rejected.map(|rejected| rejected.revision.to_string()),
                rejected_because: rejected.map(|rejected| rejected.problem.clone()),
            },
            polling: self.polling.clone(),
            last_error_message: self.problems.newest().map(report::message).unwrap_or_default(),
        }
    }

    fn still_rejected(&mut self, rejected: &Rejected) -> Outcome {
        let noted = Noted::from(rejected);
        let message = noted.problem.clone();
        self.problems.config = Some(noted);
        Outcome { exit: Exit::ConfigRefused.code(), result: CheckResult::Rejected, message }
    }

    /// Another config than the rejected one is in force, as the server wants it.
    fn resolve(&mut self) {
        self.problems.config = None;
        if let Some(rejected) = self.rejected.get().filter(|it| !it.resolved).cloned() {
            self.reject(Rejected { resolved: true, ..rejected });
        }
    }

    fn reject(&mut self, rejected: Rejected) {
        if let Err(error) = self.rejected.set(Some(rejected)) {
            log::error!(error:% = error; "the rejected revision is not remembered past this run");
        }
    }

    fn mask(&self, text: &str) -> String {
        self.secrets.mask(text)
    }
}

fn noted(problem: &str) -> Option<Noted> {
    Some(Noted { problem: problem.to_string(), at: unix_now() })
}
