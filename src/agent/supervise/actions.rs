//! Doing what the core orders, one action at a time; the outcome is an event.

use super::drain::Drained;
use super::{Supervise, handover};
use crate::collector::process::Process;
use crate::config::value::{Revision, Value};
use crate::core::event::{
    Action, ActivationMode, Blame, ChildId, Event, Health, Problem, RestartReason, RollBackTarget, SpawnResult,
    TrustLevel, Verdict,
};
use crate::error::Error;
use crate::log::masked::{self, Holder};
use crate::store::{Candidate, Comparison};

/// Stands for the revision of a config that is no YAML or cannot be read.
pub(super) const UNREADABLE: &str = "unknown";

impl Supervise {
    /// The outcome, for the actions that have one.
    pub(super) fn perform(&mut self, action: Action<Candidate>) -> Option<Event<Candidate>> {
        match action {
            Action::Spawn | Action::SpawnSecond => return Some(Event::Launched(self.spawn())),
            Action::TakeOver { child, in_part } => {
                let outcome = handover::take_over(&self.collectors, child, in_part, self.now());
                return Some(Event::TookOver { child, outcome });
            }
            Action::GiveBack(child) => handover::give_back(&self.collectors, child),
            Action::Terminate(child) => self.collectors.signal(child, Process::ask_to_end),
            Action::Kill(child) => {
                log::warn!("collector did not stop within stop-timeout; sending SIGKILL");
                self.collectors.signal(child, Process::kill);
            }
            Action::Install { candidate, hand_over } => {
                let installed = self.install(&candidate);
                return Some(Event::Installed(
                    installed.map(|()| self.activation_mode(&candidate.revision, hand_over)),
                ));
            }
            Action::Discard(candidate) => {
                log::debug!(revision = candidate.revision.short(); "candidate discarded");
                self.state_tracker.candidate_answered();
            }
            Action::RollBack { problem, blame, target: RollBackTarget::Fallback | RollBackTarget::Predecessor } => {
                return Some(Event::RolledBack(self.roll_back(&problem, blame)));
            }
            Action::Probe(child) => return self.begin_probe(child),
            Action::Promote => self.promote(),
            Action::Confirm => log::info!("config confirmed"),
            Action::RecordExit { exits } => log::warn!(exits = exits; "unconfirmed config: its collector exited"),
            Action::Conclude(verdict) => self.conclude(verdict),
            Action::Finish => self.finished = true,
        }
        None
    }

    /// Starts a collector on the active config. One beside another one leaves all new connections to that.
    fn spawn(&mut self) -> SpawnResult {
        let config = match self.store.look() {
            Ok(Some(config)) => config,
            Ok(None) => {
                let fallback = self.store.has_fallback();
                self.state_tracker.no_config(self.store.config(), fallback);
                return SpawnResult::NoConfig { fallback };
            }
            Err(error) => return self.cannot_start(&error),
        };
        self.expect_config(config);
        self.restore_run_dir();
        let now = self.now();
        let (child, is_watched) = match self.collectors.spawn(&self.store, config, now) {
            Ok(live) => (live.child, live.process.binds().is_ok()),
            Err(error) => return self.cannot_start(&error),
        };
        // After the start, which is not to wait for it.
        let configs = self.configs();
        self.state_tracker.problems.health = None;
        let declared = self.collectors.health_check(&configs.iter().collect::<Vec<_>>());
        self.health_watch.started(declared, now);
        let live: Vec<ChildId> = self.collectors.iter().map(|live| live.child).collect();
        self.state_tracker.secrets.learn(self.collectors.collector(), child, &live, &configs);
        if self.collectors.starts() == 1
            && self.trust_level() == TrustLevel::OnProbation
            && let Ok(good) = self.store.read_last_known_good()
        {
            masked::know(Holder::LastKnownGood, self.collectors.collector().secrets([&good]));
        }
        SpawnResult::Spawned { child, trust: self.trust_level(), is_watched }
    }

    fn cannot_start(&mut self, error: &Error) -> SpawnResult {
        let problem = error.to_string();
        self.state_tracker.cannot_start(&problem);
        SpawnResult::Failed(problem)
    }

    /// Of the active config.
    fn trust_level(&self) -> TrustLevel {
        match self.store.compare() {
            Comparison::Same => TrustLevel::Confirmed,
            Comparison::Different => TrustLevel::OnProbation,
            Comparison::NoFallback => TrustLevel::NoFallback,
        }
    }

    fn install(&mut self, candidate: &Candidate) -> Result<(), Problem> {
        self.state_tracker.begin_install(&candidate.revision);
        if self.state_tracker.is_rejected(&candidate.revision) {
            return Err(format!("config {} was rejected meanwhile", candidate.revision.short()));
        }
        // If the active config is the only one that has proved itself, this would overwrite it.
        self.retry_state();
        let installed = match self.pending_writes.good() {
            Some(problem) => Err(problem.to_string()),
            None => self.store.install(candidate).map_err(|error| error.to_string()),
        };
        match &installed {
            Ok(()) => {
                self.active_config.installed(self.store.look(), &candidate.revision);
                log::info!(revision = candidate.revision.short(); "config installed");
            }
            Err(problem) => log::error!(
                revision = candidate.revision.short(), problem = problem.as_str(); "config not installed; nothing changed"
            ),
        }
        installed
    }

    /// How the config that was just installed takes effect: by restart if the core has a reason, or the kernel or the
    /// configs do.
    fn activation_mode(&mut self, revision: &Revision, hand_over: Result<(), RestartReason>) -> ActivationMode {
        let revision = revision.short();
        let possible = hand_over.map_err(describe).and_then(|()| self.handover.prepare(&self.collectors, &self.store));
        let (mode, method) = match possible {
            Ok(()) => {
                log::info!(revision = revision, method = "hand-over"; "applying config");
                (ActivationMode::HandOver, "hand-over".to_string())
            }
            Err(reason) => {
                log::info!(revision = revision, method = "restart", reason = reason.as_str(); "applying config");
                (ActivationMode::Restart, format!("restart ({reason})"))
            }
        };
        self.state_tracker.changed_by(method);
        mode
    }

    fn roll_back(&mut self, problem: &str, blame: Blame) -> Result<(), Problem> {
        let had_config = self.store.has_config();
        // What is the last known good already is not to be rejected, whatever became of its start.
        let on_probation = self.trust_level() == TrustLevel::OnProbation;
        let replaced = self.store.read_config().ok().map(|config| config.revision());
        let revision = replaced.as_ref().map_or(UNREADABLE, Revision::short);
        self.store.roll_back().map_err(|error| {
            log::error!(revision = revision, error:% = error; "cannot roll back");
            error.to_string()
        })?;
        if had_config {
            let kept = self.store.rejected_path();
            log::warn!(
                revision = revision, problem = problem, kept:% = kept.display();
                "config rolled back to the last known good"
            );
            match blame {
                Blame::Config | Blame::Start => {
                    let rejected = replaced.filter(|_| on_probation);
                    let (collector, has_served) = (self.collectors.started_program(), blame == Blame::Config);
                    self.state_tracker.rolled_back(rejected, problem, collector, has_served);
                    self.settle_state();
                }
                Blame::Environment => {
                    log::info!(revision = revision; "what failed is outside the config; it will be tried again");
                    self.state_tracker.postponed(replaced, problem);
                }
                Blame::HandOver => {
                    log::info!(
                        revision = revision; "hand-over failed; the next check will apply this config by restart"
                    );
                    self.state_tracker.hand_over_failed(problem);
                }
            }
        } else {
            log::warn!(problem = problem; "no usable config; last known good restored");
        }
        Ok(())
    }

    /// The answer, if there is nothing to wait for.
    fn begin_probe(&mut self, child: ChildId) -> Option<Event<Candidate>> {
        self.health_watch.give_up();
        self.drain.asks_health(self.now());
        let check = self.collectors.health_check(&self.configs().iter().collect::<Vec<_>>());
        let own = check.map(|check| handover::own_health_check(&self.collectors, child, check)).transpose();
        // One that has been suspended for as long as it lives has proved nothing.
        let is_suspended = self.collectors.find(child).is_some_and(|live| live.process.is_suspended());
        let suspended = "the collector is suspended by a signal (such as SIGSTOP)".to_string();
        let health = match own {
            Err(Health::Unknown(_)) if is_suspended => Health::Unknown(suspended),
            _ if is_suspended => Health::Unhealthy(suspended),
            Err(health) => health,
            Ok(check) => self.collectors.begin_probe(child, check.as_ref())?,
        };
        self.answer_probe(child, health)
    }

    /// The answer, unless a new collector is healthy that the old one has to make way for first.
    pub(super) fn answer_probe(&mut self, child: ChildId, health: Health) -> Option<Event<Candidate>> {
        match health {
            Health::Healthy => self.drain.begin(&self.collectors, child, self.now()).map(|it| self.healthy(it)),
            health => Some(Event::Probed { child, health }),
        }
    }

    pub(super) fn healthy(&mut self, drained: Drained) -> Event<Candidate> {
        let Drained { child, problem } = drained;
        if let Some(problem) = problem {
            log::warn!(problem = problem.as_str(); "a client of the old collector may lose a connection");
            self.state_tracker.changed_by(format!("hand-over ({problem})"));
        }
        Event::Probed { child, health: Health::Healthy }
    }

    fn conclude(&mut self, verdict: Verdict) {
        if matches!(verdict, Verdict::Failing(_)) && self.collectors.only().is_some() {
            log::warn!("collector is running but unhealthy");
        }
        self.conclude_restart(&verdict);
        let outcome = self.state_tracker.concluded(&verdict);
        self.settle_state();
        if let Some(outcome) = outcome {
            self.clients.reply_verdict(&outcome);
        }
    }

    /// The active config and the overlay, as far as they can be read; the collector itself says what is wrong with
    /// them.
    pub(super) fn configs(&self) -> Vec<Value> {
        self.store.read_config().ok().into_iter().chain(self.collectors.overlay(&self.store).ok().flatten()).collect()
    }
}

fn describe(reason: RestartReason) -> String {
    match reason {
        RestartReason::NothingToHandOverFrom => "nothing running to hand over from".to_string(),
        RestartReason::HandOverFailed => "an earlier hand-over to this config failed".to_string(),
    }
}
