//! Doing what the core orders, one action at a time, and telling what came of it.

use super::{LiveCollector, Supervise};
use crate::collector::health::Probe;
use crate::collector::process::Process;
use crate::config::inspect;
use crate::config::value::Value;
use crate::config::yaml;
use crate::control::Reply;
use crate::core::event::{Action, ActivationMode, ChildId, Event, Problem, SpawnResult, TrustLevel, Verdict};
use crate::os::files::safe_open;
use crate::store::{Candidate, Comparison};

impl Supervise {
    /// The outcome, for the actions that have one.
    pub(super) fn perform(&mut self, action: Action<Candidate>) -> Option<Event<Candidate>> {
        match action {
            Action::Spawn => return Some(Event::Launched(self.spawn())),
            Action::SpawnBeside => return Some(Event::Launched(self.spawn_beside())),
            Action::TakeOver { child, in_part } => return Some(self.take_over(child, in_part)),
            Action::GiveBack(child) => self.give_back(child),
            Action::Terminate(child) => self.signal(child, Process::ask_to_end),
            Action::Kill(child) => {
                log::warn!("collector did not stop within stop-timeout; sending SIGKILL");
                self.signal(child, Process::kill);
            }
            Action::Install(candidate) => return Some(Event::Installed(self.install(candidate))),
            Action::Discard(candidate) => {
                log::debug!(revision = candidate.revision.short(); "candidate discarded");
                self.state_tracker.settled();
            }
            Action::RollBack(problem) => return Some(Event::RolledBack(self.roll_back(&problem))),
            Action::Probe(child) => return self.begin_probe(child),
            Action::Promote => self.promote(),
            Action::Conclude(verdict) => self.conclude(verdict),
            Action::Finish => self.finished = true,
        }
        None
    }

    pub(super) fn spawn(&mut self) -> SpawnResult {
        let config = match self.store.look() {
            Ok(Some(config)) => config,
            Ok(None) => {
                let fallback = self.store.has_fallback();
                self.state_tracker.no_config(self.store.config(), fallback);
                return SpawnResult::NoConfig { fallback };
            }
            Err(error) => {
                let problem = error.to_string();
                self.state_tracker.cannot_start(&problem);
                return SpawnResult::Failed(problem);
            }
        };
        self.program = self.collector.stamp();
        let process = match self.collector.spawn(self.store.config(), self.overlap.binds()) {
            Ok(process) => process,
            Err(error) => {
                let problem = error.to_string();
                self.state_tracker.cannot_start(&problem);
                return SpawnResult::Failed(problem);
            }
        };
        let child = ChildId(self.starts);
        self.starts += 1;
        // After the start, which is not to wait for it.
        log::info!(pid = process.id(); "collector started");
        self.state_tracker.secrets.learn(child, &self.living, &self.configs(), &self.collector);
        let now = self.now();
        self.living.push(LiveCollector { child, process, started_at: now, config, is_ready: false, bound_at: now });
        SpawnResult::Spawned { child, standing: self.trust_level() }
    }

    /// Of the active config.
    fn trust_level(&self) -> TrustLevel {
        match self.store.compare() {
            Comparison::Same => TrustLevel::LastKnownGood,
            Comparison::Different => TrustLevel::OnProbation,
            Comparison::NoFallback => TrustLevel::NoFallback,
        }
    }

    fn signal(&self, child: ChildId, signal: fn(&Process)) {
        if let Some(living) = self.living.iter().find(|living| living.child == child) {
            signal(&living.process);
        }
    }

    fn install(&mut self, candidate: Candidate) -> Result<ActivationMode, Problem> {
        self.state_tracker.takes_up(&candidate.revision);
        if self.state_tracker.is_rejected(&candidate.revision, self.collector.stamp()) {
            return Err(format!("config {} was rejected meanwhile", candidate.revision.short()));
        }
        // If the config in force is the only one that has proved itself, this would overwrite it.
        self.retry_state();
        let installed = match self.pending_writes.good() {
            Some(problem) => Err(problem.to_string()),
            None => self.store.install(&candidate).map_err(|error| error.to_string()),
        };
        match &installed {
            Ok(()) => log::info!(revision = candidate.revision.short(); "config installed"),
            Err(problem) => log::error!(problem = problem.as_str(); "config not installed; keeping the active config"),
        }
        installed.map(|()| self.manner())
    }

    fn roll_back(&mut self, problem: &str) -> Result<(), Problem> {
        let had_config = self.store.has_config();
        // What is the last known good already is not to be rejected, whatever became of its start.
        let on_trial = self.trust_level() == TrustLevel::OnProbation;
        let replaced = self.store.read_config().ok().filter(|_| on_trial).map(|config| config.revision());
        self.store.roll_back().map_err(|error| {
            log::error!(error:% = error; "cannot roll back");
            error.to_string()
        })?;
        if had_config {
            let kept = self.store.rejected_path();
            log::warn!(problem = problem, kept:% = kept.display(); "config rolled back to the last known good");
            if self.deserves_another_try(problem) {
                log::info!("hand-over failed; the next check will apply this config by restart");
                self.overlap.forgone = replaced;
                self.state_tracker.not_beside(problem);
            } else {
                self.state_tracker.rolled_back(replaced, problem, self.program);
                self.settle_state();
            }
        } else {
            log::warn!(problem = problem; "no usable config; last known good restored");
        }
        Ok(())
    }

    fn begin_probe(&mut self, child: ChildId) -> Option<Event<Candidate>> {
        let configs = self.configs();
        let configs: Vec<&Value> = configs.iter().collect();
        let check = inspect::health_check(&configs, &|name| self.collector.env(name));
        let alone = check.as_ref().map_or(Ok(()), |check| self.answers_alone(child, &check.address));
        if let Err(problem) = self.is_let_run(child).and(alone) {
            return Some(Event::Probed { child, health: Err(problem) });
        }
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

    fn conclude(&mut self, verdict: Verdict) {
        if matches!(verdict, Verdict::Failing(_)) && self.living.len() == 1 {
            log::warn!("collector is running but unhealthy");
        }
        let outcome = self.state_tracker.concluded(&verdict);
        self.settle_state();
        if let Some(outcome) = outcome {
            for client in std::mem::take(&mut self.verdict_clients) {
                self.server.reply(client, &Reply::Checked(outcome.clone()));
            }
        }
    }

    /// The config in force and the overlay, as far as they can be read; the collector itself says what is wrong with them.
    fn configs(&self) -> Vec<Value> {
        self.store.read_config().ok().into_iter().chain(self.overlay()).collect()
    }

    pub(super) fn overlay(&self) -> Option<Value> {
        let bytes = safe_open::read(self.collector.local_config()?).ok()?;
        yaml::parse(&bytes).ok()
    }
}
