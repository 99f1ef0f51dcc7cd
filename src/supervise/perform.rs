//! Doing what the core orders, one action at a time, and telling what came of it.

use rustix::process::Signal;

use super::{Living, Supervise};
use crate::collector_config;
use crate::control::Reply;
use crate::core::event::{Action, Child, Event, Launch, Problem, Verdict};
use crate::probe::Probe;
use crate::process::Binds;
use crate::store::{Candidate, Stamp};
use crate::value::Value;
use crate::yaml;

impl Supervise {
    /// The outcome, for the actions that have one.
    pub(super) fn perform(&mut self, action: Action<Candidate>) -> Option<Event<Candidate>> {
        match action {
            Action::Spawn => return Some(Event::Launched(self.spawn())),
            Action::Terminate(child) => self.signal(child, Signal::TERM),
            Action::Kill(child) => {
                log::warn!("the collector did not end within stop-timeout, so it is killed");
                self.signal(child, Signal::KILL);
            }
            Action::Install(candidate) => return Some(Event::Installed(self.install(candidate))),
            Action::Discard(candidate) => {
                log::debug!(revision = candidate.revision.short(); "candidate discarded");
                self.ledger.settled();
            }
            Action::RollBack(problem) => return Some(Event::RolledBack(self.roll_back(&problem))),
            Action::Probe(child) => return self.begin_probe(child),
            Action::Promote => self.promote(),
            Action::Conclude(verdict) => self.conclude(verdict),
            Action::Finish => self.finished = true,
        }
        None
    }

    fn spawn(&mut self) -> Launch {
        if !self.store.has_config() {
            let fallback = self.store.has_fallback();
            self.ledger.no_config(self.store.config(), fallback);
            return Launch::NoConfig { fallback };
        }
        let config = Stamp::of(self.store.config());
        let process = match self.collector.spawn(self.store.config(), Binds::Unwatched) {
            Ok(process) => process,
            Err(error) => {
                let problem = error.to_string();
                self.ledger.cannot_start(&problem);
                return Launch::Failed(problem);
            }
        };
        let child = Child(self.starts);
        self.starts += 1;
        // After the start, which is not to wait for it.
        log::info!(pid = process.id(); "collector started");
        let configs = self.configs();
        self.ledger.learn_secrets(&configs, &self.collector);
        self.living = Some(Living { child, process, started_at: self.now(), config });
        Launch::Spawned { child, standing: self.store.standing() }
    }

    fn signal(&self, child: Child, signal: Signal) {
        if let Some(living) = self.living.as_ref().filter(|living| living.child == child) {
            living.process.signal(signal);
        }
    }

    fn install(&mut self, candidate: Candidate) -> Result<(), Problem> {
        self.ledger.takes_up(&candidate.revision);
        if self.ledger.is_rejected(&candidate.revision) {
            return Err(format!("config {} was rejected meanwhile", candidate.revision.short()));
        }
        if self.ledger.is_unkept() {
            // The config in force is the only one that has proved itself, and this would overwrite it.
            self.promote();
        }
        let installed = match self.ledger.is_unkept() {
            true => Err(self.ledger.unkept_problem()),
            false => self.store.install(&candidate).map_err(|error| error.to_string()),
        };
        match &installed {
            Ok(()) => log::info!(revision = candidate.revision.short(); "config installed"),
            Err(problem) => log::error!(problem = problem.as_str(); "config not installed, the one in force stays"),
        }
        installed
    }

    fn roll_back(&mut self, problem: &str) -> Result<(), Problem> {
        let had_config = self.store.has_config();
        let replaced = self.store.read_config().ok().map(|config| config.revision());
        self.store.roll_back().map_err(|error| {
            log::error!(error:% = error; "cannot roll back");
            error.to_string()
        })?;
        if had_config {
            let kept = self.store.rejected_path();
            log::warn!(problem = problem, kept:% = kept.display(); "config rolled back to the last known good");
            self.ledger.rolled_back(replaced, problem);
        } else {
            log::warn!(problem = problem; "last known good put in place of the config");
        }
        Ok(())
    }

    fn begin_probe(&mut self, child: Child) -> Option<Event<Candidate>> {
        let configs = self.configs();
        let configs: Vec<&Value> = configs.iter().collect();
        let check = collector_config::health_check(&configs, &|name| self.collector.env(name));
        let health = match check.as_ref().and_then(Probe::begin) {
            None => Ok(()),
            Some(Ok(probe)) => {
                self.probe = Some((child, probe));
                return None;
            }
            Some(Err(problem)) => Err(problem),
        };
        Some(Event::Probed { child, health })
    }

    fn promote(&mut self) {
        let stamp = self.living.as_ref().and_then(|living| living.config);
        let promoted = self.store.promote(stamp);
        match &promoted {
            Ok(true) => log::info!("the config has proved itself and is the last known good"),
            Ok(false) => log::debug!("the collector has proved itself"),
            Err(error) => log::error!(error:% = error; "cannot keep the last known good"),
        }
        self.ledger.state_kept(promoted.map(|_| ()));
    }

    fn conclude(&mut self, verdict: Verdict) {
        if matches!(verdict, Verdict::Failing(_)) && self.living.is_some() {
            log::warn!("the collector runs but is not healthy");
        }
        if let Some(outcome) = self.ledger.concluded(&verdict) {
            for client in std::mem::take(&mut self.verdict_clients) {
                self.server.reply(client, &Reply::Checked(outcome.clone()));
            }
        }
    }

    /// The config in force and the overlay, as far as they can be read; the collector itself says what is wrong with them.
    fn configs(&self) -> Vec<Value> {
        let overlay = self.collector.local_config().and_then(|path| fs_err::read(path).ok());
        let overlay = overlay.and_then(|bytes| yaml::read(&bytes).ok());
        self.store.read_config().ok().into_iter().chain(overlay).collect()
    }
}
