//! `--check`: one config check, install included, for cron and for people.
//!
//! If an agent runs it is asked to check, and its outcome is told. Otherwise the check is made here, under the same lock: there is
//! no collector of ours then, so `on-change` puts a new config into effect, and its failure rolls back. Bounded in time, silent
//! when nothing changed.

use std::process::Command;
use std::time::Duration;

use crate::api::Status;
use crate::collector::Collector;
use crate::config_check::{self, ConfigCheck};
use crate::control::{CheckResult, Outcome, Reply, Request, client};
use crate::core::Jitter;
use crate::core::status::Noted;
use crate::core::supervisor::PROBE_TIMEOUT;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::lock::Lock;
use crate::messages::{Finding, Snapshot};
use crate::process::{self, Ended};
use crate::settings::{Polling, Settings};
use crate::store::record::{self, Record, Rejected, Unfinished, unix_now};
use crate::store::{Candidate, Store};
use crate::value::Revision;

/// `on-change` restarts a service: stopping and starting take less than this with any service manager's defaults (systemd's are
/// 90 s each).
const ON_CHANGE_TIMEOUT: Duration = Duration::from_secs(200);
/// What the agent may take besides the steps that have timeouts of their own.
const SLACK: Duration = Duration::from_secs(10);

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
    let endpoint = match (&agent, &settings.polling) {
        (Some(Reply::Checked(outcome)), _) => return Ok(outcome.clone()),
        (_, Polling::Endpoint(url)) => url,
        (_, Polling::Local { reason }) => {
            return Err(Error::new(Exit::Settings, format!("there is no API to ask: {reason}")));
        }
    };
    match (agent, extent) {
        (Some(Reply::Status(status)), Extent::DryRun) => {
            let collector = running(status.collector.pid.is_some());
            Alone::new(settings, endpoint, Some(collector), extent)?.check()
        }
        (None, Extent::DryRun) => Alone::new(settings, endpoint, None, extent)?.check(),
        (None, Extent::Install) => {
            crate::start::make_directories(settings)?;
            let _lock = Lock::take(&settings.run_dir)?;
            Alone::new(settings, endpoint, None, extent)?.check()
        }
        (Some(reply), _) => Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
    }
}

/// Sleeps a random part of `splay`, so that a fleet's cron jobs do not ask in step.
pub fn wait(splay: Duration) {
    std::thread::sleep(splay.mul_f64(Jitter::new(crate::start::seed()).fraction()));
}

/// `None` when no agent runs.
fn ask_agent(settings: &Settings, request: Request) -> Result<Option<Reply>> {
    let longest =
        config_check::longest(settings) + settings.stop_timeout + settings.min_uptime * 2 + PROBE_TIMEOUT + SLACK;
    match client::ask(&settings.run_dir, request, longest) {
        Ok(Some(reply)) => Ok(Some(reply)),
        Ok(None) => Err(Error::new(Exit::TryAgain, "the agent ended before the check did: try again")),
        Err(error) if error.exit() == Exit::Unavailable => Ok(None),
        Err(error) => Err(error),
    }
}

fn running(is: bool) -> Status {
    if is { Status::Running } else { Status::Stopped }
}

/// A check without an agent.
struct Alone<'a> {
    settings: &'a Settings,
    store: Store,
    check: ConfigCheck,
    known: Snapshot,
    rejected: Record<Rejected>,
    unfinished: Record<Unfinished>,
    extent: Extent,
}

impl<'a> Alone<'a> {
    /// `collector` is what an agent that runs says of its collector.
    fn new(settings: &'a Settings, endpoint: &str, collector: Option<Status>, extent: Extent) -> Result<Alone<'a>> {
        let store = Store::new(&settings.config, &settings.state_dir);
        let program = Collector::new(settings);
        let mut check = ConfigCheck::new(settings, endpoint, &program, &store)?;
        if extent == Extent::DryRun {
            check.keep_nothing();
        }
        let rejected: Record<Rejected> = Record::open(store.state_dir(), record::REJECTED);
        let unfinished = Record::open(store.state_dir(), record::UNFINISHED);
        // Init runs the collector: that it has a config is all that can be told of it here.
        let collector_status = collector.unwrap_or_else(|| running(store.has_config()));
        let known = Snapshot {
            collector_status,
            problem: rejected.get().filter(|it| !it.resolved).map(Noted::from),
            rejected: rejected.get().cloned(),
            restarts: 0,
        };
        Ok(Alone { settings, store, check, known, rejected, unfinished, extent })
    }

    fn check(mut self) -> Result<Outcome> {
        if self.extent == Extent::Install {
            self.store.sweep();
            if let Some(unfinished) = self.unfinished.get().cloned() {
                // Killed between an install and its on-change: the config is new and nothing uses it yet.
                return self.put_into_effect(&unfinished.revision, unfinished.replaced);
            }
        }
        let finding = self.check.run(&self.known, None).map_err(|failure| failure.error)?;
        let done =
            |result, message: &str| Ok(Outcome { exit: Exit::Done.code(), result, message: message.to_string() });
        match (finding, self.extent) {
            (Finding::Install(candidate), Extent::Install) => self.install(candidate),
            (Finding::Install(candidate), Extent::DryRun) => {
                done(CheckResult::WouldInstall, &format!("would install config {}", candidate.revision.short()))
            }
            (Finding::Restart, Extent::Install) => self.restart(),
            (Finding::Restart, Extent::DryRun) => done(CheckResult::WouldRestart, "would restart the collector"),
            (Finding::Refused(rejected), extent) => {
                if extent == Extent::Install {
                    self.rejected.set(Some(rejected.clone()))?;
                    self.tell_server();
                }
                Ok(refused(&rejected))
            }
            (Finding::StillRejected(rejected), _) => Ok(refused(&rejected)),
            (Finding::Postponed(error), _) => Err(error),
            (Finding::NotYet | Finding::OnItsWay, _) => {
                done(CheckResult::Unchanged, "the API has a new config and does not ask to use it yet")
            }
            (Finding::Unchanged { .. } | Finding::Local { .. }, _) => {
                done(CheckResult::Unchanged, "the config is up to date")
            }
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

    /// Runs `on-change` for a config that was installed; its failure rolls back.
    fn put_into_effect(&mut self, revision: &Revision, replaced: bool) -> Result<Outcome> {
        let outcome = match self.on_change() {
            Ok(()) => {
                if let Some(former) = self.rejected.get().cloned() {
                    self.rejected.set(Some(Rejected { resolved: true, ..former }))?;
                }
                let message = format!("installed config {}", revision.short());
                Outcome { exit: Exit::Done.code(), result: CheckResult::Installed, message }
            }
            Err(problem) => self.undo(revision, replaced, problem)?,
        };
        self.unfinished.set(None)?;
        self.tell_server();
        Ok(outcome)
    }

    fn undo(&mut self, revision: &Revision, replaced: bool, problem: String) -> Result<Outcome> {
        // First, so that the config is not installed again if this is cut short.
        let rejected =
            Rejected { revision: revision.clone(), problem: problem.clone(), at: unix_now(), resolved: false };
        self.rejected.set(Some(rejected))?;
        let mut message = format!("config {} was rolled back: {problem}", revision.short());
        if replaced {
            self.store.restore_previous()?;
            if let Err(again) = self.on_change() {
                message.push_str(&format!("; with the former config too, {again}"));
            }
        } else {
            self.store.remove_config()?;
        }
        Ok(Outcome { exit: Exit::ConfigRefused.code(), result: CheckResult::RolledBack, message })
    }

    fn restart(&mut self) -> Result<Outcome> {
        if self.settings.on_change.is_none() {
            let message = "the API asks for a restart of the collector, and no on-change says how: set it".to_string();
            return Ok(Outcome { exit: Exit::Done.code(), result: CheckResult::Unchanged, message });
        }
        self.on_change().map_err(|problem| Error::new(Exit::ConfigRefused, problem))?;
        let message = "restarted the collector, as the API asks".to_string();
        Ok(Outcome { exit: Exit::Done.code(), result: CheckResult::Restarted, message })
    }

    /// The command that makes init's collector use the config; `Err` is its problem.
    fn on_change(&self) -> std::result::Result<(), String> {
        let Some(script) = &self.settings.on_change else { return Ok(()) };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        match process::run(command, ON_CHANGE_TIMEOUT) {
            Ok(Ended::Exited { status, .. }) if status.success() => Ok(()),
            Ok(Ended::Exited { status, output }) => {
                Err(format!("on-change `{script}` {}: {output}", process::describe(status)))
            }
            Ok(Ended::TimedOut { output }) => {
                Err(format!("on-change `{script}` did not end within {ON_CHANGE_TIMEOUT:?}: {output}"))
            }
            Err(error) => Err(format!("on-change `{script}` cannot be run: {error}")),
        }
    }

    /// The server should learn how it came out; the check itself is done, so that this fails changes nothing.
    fn tell_server(&mut self) {
        self.known.collector_status = running(self.store.has_config());
        self.known.rejected = self.rejected.get().cloned();
        self.known.problem = self.rejected.get().filter(|it| !it.resolved).map(Noted::from);
        if let Err(failure) = self.check.tell(&self.known) {
            log::warn!(error:% = failure.error; "the API was not told the outcome, the next check tells it");
        }
    }
}

fn refused(rejected: &Rejected) -> Outcome {
    let message = format!("config {} is rejected: {}", rejected.revision.short(), rejected.problem);
    Outcome { exit: Exit::ConfigRefused.code(), result: CheckResult::Rejected, message }
}
