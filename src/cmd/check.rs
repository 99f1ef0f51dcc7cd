//! `--check`: one config check, install included, for cron and for people.
//!
//! If an agent runs it is asked to check, and its outcome is told. Otherwise the check is made here, under the same lock: there is
//! no collector of ours then, so `on-change` puts a new config into effect, and its failure rolls back. Bounded in time, silent
//! when nothing changed.

use std::process::Command;
use std::time::Duration;

use crate::agent::check::{ConfigCheck, longest};
use crate::agent::mailbox::{CheckOutcome, Snapshot};
use crate::collector::Collector;
use crate::collector::output;
use crate::collector::process::{self, Ended};
use crate::config::inspect;
use crate::config::value::Revision;
use crate::control::{CheckResult, Outcome, Reply, Request, client};
use crate::core::{Jitter, problems::TimedProblem, supervisor::PROBE_TIMEOUT};
use crate::error::{Error, Exit, Result};
use crate::log::redact::Secrets;
use crate::os::lock::Lock;
use crate::settings::{Polling, Settings};
use crate::source::kloudmate::Status;
use crate::store::record::{self, Record, Rejected, Unfinished, unix_now};
use crate::store::{Candidate, Store};

/// `on-change` restarts a service: stopping and starting take less than this with any service manager's defaults (systemd's are
/// 90 s each).
pub const ON_CHANGE_TIMEOUT: Duration = Duration::from_secs(200);
/// What the agent may take besides the steps that have timeouts of their own.
pub const SLACK: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Install,
    /// Every step but the install.
    DryRun,
}

/// # Errors
/// Whatever kept the check from being made; how it came out is in the outcome.
pub fn run(settings: &Settings, extent: Extent) -> Result<Outcome> {
    // Also when there is no API: the agent looks whether a person has put a config in place.
    let agent = match extent {
        Extent::Install => ask_agent(settings, Request::Check)?,
        Extent::DryRun => ask_agent(settings, Request::Status)?,
    };
    match (agent, extent) {
        (Some(Reply::Checked(outcome)), Extent::Install) => Ok(outcome),
        (Some(Reply::Status(status)), Extent::DryRun) => {
            let collector = running(status.collector.pid.is_some());
            StandaloneCheck::new(settings, endpoint(settings)?, Some(collector), extent)?.check()
        }
        (None, Extent::DryRun) => StandaloneCheck::new(settings, endpoint(settings)?, None, extent)?.check(),
        (None, Extent::Install) => {
            let endpoint = endpoint(settings)?;
            crate::cmd::start::make_directories(settings)?;
            let _lock = Lock::take(&settings.run_dir)?;
            StandaloneCheck::new(settings, endpoint, None, extent)?.check()
        }
        (Some(reply), _) => Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
    }
}

fn endpoint(settings: &Settings) -> Result<&str> {
    match &settings.polling {
        Polling::Endpoint(url) => Ok(url),
        Polling::Local { reason } => Err(Error::new(Exit::Settings, format!("no API endpoint: {reason}"))),
    }
}

/// Sleeps a random part of `splay`, so that a fleet's cron jobs do not ask in step.
pub fn wait(splay: Duration) {
    std::thread::sleep(splay.mul_f64(Jitter::new(crate::cmd::start::seed()).fraction()));
}

/// `None` when no agent runs.
fn ask_agent(settings: &Settings, request: Request) -> Result<Option<Reply>> {
    let patience = longest(settings) + settings.stop_timeout + settings.min_uptime * 2 + PROBE_TIMEOUT + SLACK;
    match client::ask(&settings.run_dir, request, patience) {
        Ok(Some(reply)) => Ok(Some(reply)),
        Ok(None) => Err(Error::new(Exit::TryAgain, "the agent ended during the check: try again")),
        Err(error) if error.exit() == Exit::Unavailable => Ok(None),
        Err(error) => Err(error),
    }
}

fn running(is: bool) -> Status {
    if is { Status::Running } else { Status::Stopped }
}

/// A check without an agent.
struct StandaloneCheck<'a> {
    settings: &'a Settings,
    store: Store,
    program: Collector,
    check: ConfigCheck,
    known: Snapshot,
    rejected: Record<Rejected>,
    unfinished: Record<Unfinished>,
    extent: Extent,
}

impl<'a> StandaloneCheck<'a> {
    /// `collector` is what an agent that runs says of its collector.
    fn new(
        settings: &'a Settings,
        endpoint: &str,
        collector: Option<Status>,
        extent: Extent,
    ) -> Result<StandaloneCheck<'a>> {
        let store = Store::new(&settings.config, &settings.state_dir);
        let program = Collector::new(settings);
        let mut check = ConfigCheck::new(settings, endpoint, &program, &store)?;
        check.single_attempt();
        if extent == Extent::DryRun {
            check.read_only();
        }
        let rejected: Record<Rejected> = Record::open(store.state_dir(), record::REJECTED);
        let unfinished = Record::open(store.state_dir(), record::UNFINISHED);
        // Init runs the collector: that it has a config is all that can be told of it here.
        let collector_status = collector.unwrap_or_else(|| running(store.has_config()));
        let known = Snapshot {
            collector_status,
            problem: rejected.get().filter(|it| !it.resolved).map(TimedProblem::from),
            rejected: rejected.get().cloned(),
            restarts: 0,
        };
        Ok(StandaloneCheck { settings, store, program, check, known, rejected, unfinished, extent })
    }

    fn check(mut self) -> Result<Outcome> {
        if self.extent == Extent::Install {
            self.store.sweep();
            if let Some(unfinished) = self.unfinished.get().cloned()
                && let Some(outcome) = self.finish(&unfinished)?
            {
                return Ok(outcome);
            }
        }
        let finding = self.check.run(&self.known, None).map_err(|failure| failure.error)?;
        let done = |result, message: &str| Ok(Outcome::done(result, message));
        match (finding, self.extent) {
            (CheckOutcome::Install(candidate), Extent::Install) => self.install(candidate),
            (CheckOutcome::Install(candidate), Extent::DryRun) => {
                done(CheckResult::WouldInstall, &format!("would install config {}", candidate.revision.short()))
            }
            (CheckOutcome::Restart, Extent::Install) => self.restart(),
            (CheckOutcome::Restart, Extent::DryRun) => done(CheckResult::WouldRestart, "would restart the collector"),
            (CheckOutcome::Refused(rejected), extent) => {
                if extent == Extent::Install {
                    self.reject(rejected.clone());
                    self.tell_server();
                }
                Ok(refused(&rejected))
            }
            (CheckOutcome::StillRejected(rejected), _) => Ok(refused(&rejected)),
            (CheckOutcome::Postponed(error) | CheckOutcome::NotRestarted(error), _) => Err(error),
            (CheckOutcome::NotYet | CheckOutcome::OnItsWay, _) => {
                done(CheckResult::Unchanged, "the API offers a new config but does not ask to apply it yet")
            }
            (CheckOutcome::Unchanged { confirmed }, extent) => {
                if confirmed && extent == Extent::Install && self.known.problem.is_some() {
                    // The server has gone back to the config in force.
                    self.resolve();
                    self.tell_server();
                }
                done(CheckResult::Unchanged, "the config is up to date")
            }
            (CheckOutcome::Local { reason }, _) => done(CheckResult::Unchanged, &reason),
        }
    }

    fn install(&mut self, candidate: Candidate) -> Result<Outcome> {
        let revision = candidate.revision.clone();
        let replaced = self.store.has_config();
        if replaced {
            self.store.keep_previous()?;
        }
        if self.settings.on_change.is_some() {
            self.unfinished.set(Some(Unfinished { revision: revision.clone(), replaced }))?;
        }
        self.store.install(&candidate)?;
        self.put_into_effect(&revision, replaced)
    }

    /// Finishes what a check that was killed has begun; `None` when that had not changed the config.
    fn finish(&mut self, unfinished: &Unfinished) -> Result<Option<Outcome>> {
        let Unfinished { revision, replaced } = unfinished;
        if self.store.read_config().is_ok_and(|config| config.revision() == *revision) {
            return self.put_into_effect(revision, *replaced).map(Some);
        }
        let rejected = self.rejected.get().filter(|rejected| rejected.revision == *revision).cloned();
        // It was rolled back; whether anything uses the former config again is not known.
        if rejected.is_some()
            && *replaced
            && let Some(problem) = self.use_former()
        {
            log::warn!(problem = problem.as_str(); "on-change failed for the restored config; will retry");
            return Ok(None);
        }
        self.unfinished.set(None)?;
        Ok(rejected.map(|rejected| rolled_back(&rejected, None)))
    }

    /// Runs `on-change` for a config that was installed; its failure rolls back.
    fn put_into_effect(&mut self, revision: &Revision, replaced: bool) -> Result<Outcome> {
        let outcome = match self.on_change()? {
            None => {
                self.resolve();
                self.unfinished.set(None)?;
                Outcome::done(CheckResult::Installed, format!("installed config {}", revision.short()))
            }
            Some(problem) => self.undo(revision, replaced, problem)?,
        };
        self.tell_server();
        Ok(outcome)
    }

    /// It stays unfinished as long as nothing uses the former config again.
    fn undo(&mut self, revision: &Revision, replaced: bool, problem: String) -> Result<Outcome> {
        // First, so that the config is not installed again if this is cut short.
        let collector = self.program.stamp();
        let rejected = Rejected { revision: revision.clone(), problem, at: unix_now(), resolved: false, collector };
        self.reject(rejected.clone());
        let again = if replaced {
            self.store.restore_previous()?;
            self.use_former()
        } else {
            self.store.remove_config()?;
            None
        };
        if again.is_none() {
            self.unfinished.set(None)?;
        }
        Ok(rolled_back(&rejected, again))
    }

    /// That it cannot be kept only makes the next check refuse it anew.
    fn reject(&mut self, rejected: Rejected) {
        if let Err(error) = self.rejected.set(Some(rejected)) {
            log::warn!(error:% = error; "cannot save the rejected revision; the next check will try it again");
        }
    }

    /// Another config than the rejected one is in force, as the server wants it.
    fn resolve(&mut self) {
        if let Some(former) = self.rejected.get().filter(|it| !it.resolved).cloned() {
            self.reject(Rejected { resolved: true, ..former });
        }
    }

    fn restart(&mut self) -> Result<Outcome> {
        if self.settings.on_change.is_none() {
            let message = "the API requested a collector restart, but on-change is not set: set it";
            log::warn!("{message}");
            return Ok(Outcome::done(CheckResult::Unchanged, message));
        }
        let failed = |problem| format!("the collector restart that the API requested failed: {problem}");
        match self.on_change()? {
            Some(problem) => Err(Error::new(Exit::Unavailable, failed(problem))),
            None => Ok(Outcome::done(CheckResult::Restarted, "restarted the collector, as the API requested")),
        }
    }

    /// The problem with the former config, after a roll back.
    fn use_former(&self) -> Option<String> {
        self.on_change().unwrap_or_else(|error| Some(error.to_string()))
    }

    /// The command that makes init's collector use the config; `Some` is its problem.
    ///
    /// # Errors
    /// 75 when it cannot be run, which says nothing about the config: the next check tries again.
    fn on_change(&self) -> Result<Option<String>> {
        let Some(script) = &self.settings.on_change else { return Ok(None) };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        // Without the command itself, which may hold credentials: the server is told of it.
        let (what, output) = match process::run(command, ON_CHANGE_TIMEOUT) {
            Ok(Ended::Exited { status, .. }) if status.success() => return Ok(None),
            Ok(Ended::Exited { status, output }) => (process::describe(status), output),
            Ok(Ended::TimedOut { output }) => (format!("did not end within {ON_CHANGE_TIMEOUT:?}"), output),
            Err(error) => {
                return Err(Error::because(Exit::TryAgain, "cannot run on-change; the next check will retry", error));
            }
        };
        Ok(Some(if output.is_empty() {
            format!("on-change {what}")
        } else {
            format!("on-change {what}: {}", output::gist(&self.mask(&output)))
        }))
    }

    /// Without the key, and without what looks like a secret in the config in force.
    fn mask(&self, text: &str) -> String {
        let env = |name: &str| self.program.env(name);
        let config = self.store.read_config().map(|config| inspect::secrets(&config, &env));
        let key = self.settings.api_key.iter().map(|key| key.expose().to_string());
        Secrets::new(key.chain(config.unwrap_or_default())).mask(text).into_owned()
    }

    /// The server should learn how it came out; the check itself is done, so that this fails changes nothing.
    fn tell_server(&mut self) {
        self.known.collector_status = running(self.store.has_config());
        self.known.rejected = self.rejected.get().cloned();
        self.known.problem = self.rejected.get().filter(|it| !it.resolved).map(TimedProblem::from);
        if let Err(failure) = self.check.tell(&self.known) {
            log::warn!(error:% = failure.error; "cannot report the outcome to the API; the next check will");
        }
    }
}

fn rolled_back(rejected: &Rejected, again: Option<String>) -> Outcome {
    let again = again.map(|again| format!("; with the previous config too, {again}")).unwrap_or_default();
    let message = format!("config {} was rolled back: {}{again}", rejected.revision.short(), rejected.problem);
    Outcome { exit: Exit::ConfigRefused.code(), result: CheckResult::RolledBack, message }
}

fn refused(rejected: &Rejected) -> Outcome {
    let TimedProblem { problem: message, .. } = TimedProblem::from(rejected);
    Outcome { exit: Exit::ConfigRefused.code(), result: CheckResult::Rejected, message }
}
