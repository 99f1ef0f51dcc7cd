//! Doing what the core orders, one action at a time; the outcome is an event.

use super::drain::Drained;
use super::{Supervise, handover};
use crate::collector::process::Process;
use crate::config::value::Revision;
use crate::core::event::{
    Action, ActivationMode, Blame, ChildId, Event, Health, Problem, RestartReason, RollBackTarget, SpawnResult,
    TrustLevel, Verdict,
};
use crate::error::{Error, Exit};
use crate::log::Masked;
use crate::log::masked::{self, Holder};
use crate::store::generations::{self, StartProblem};
use crate::store::record::{Conditions, Rejected};
use crate::store::{Candidate, RolledBack, Target};

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
                self.store.discard(&candidate);
                self.state_tracker.candidate_answered();
            }
            Action::RollBack { problem, blame, target } => {
                return Some(Event::RolledBack(self.roll_back(&problem, blame, target)));
            }
            Action::Probe(child) => return self.begin_probe(child),
            Action::Promote => self.promote(),
            Action::Confirm => self.confirm(),
            Action::RecordExit { exits } => self.record_exits(exits),
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
        self.restore_run_dir();
        let generations::Trust { generation, level } = self.store.trust();
        let Some(facts) = self.facts_to_start(generation) else {
            let problem = "the config was changed when a collector was to be started beside the old one";
            return self.cannot_start(&Error::new(Exit::TryAgain, problem));
        };
        if level == generations::TrustLevel::OnProbation && self.collectors.iter().next().is_none() {
            self.store.prepare_roll_back();
        }
        // Read before the first start, as the config itself: no collector waits for it.
        if self.collectors.starts() == 0
            && level != generations::TrustLevel::Confirmed
            && let Some(fallback) = self.store.read_fallback()
        {
            masked::know(Holder::Fallback, self.collectors.collector().secrets([&fallback]));
        }
        let now = self.now();
        let (child, is_watched) = match self.collectors.spawn(&self.store, generation, facts.clone(), now) {
            Ok(live) => (live.child, live.process.binds().is_ok()),
            Err(error) => return self.cannot_start(&error),
        };
        self.expect_config(config);
        self.state_tracker.problems.health = None;
        self.health_watch.started(now);
        let live: Vec<ChildId> = self.collectors.iter().map(|live| live.child).collect();
        self.state_tracker.secrets.learn(child, &live, facts.secrets.clone());
        self.save_state();
        SpawnResult::Spawned { child, trust: trust_level(level), is_watched }
    }

    fn cannot_start(&mut self, error: &Error) -> SpawnResult {
        let problem = error.to_string();
        self.state_tracker.cannot_start(&problem);
        SpawnResult::Failed(problem)
    }

    fn install(&mut self, candidate: &Candidate) -> Result<(), Problem> {
        self.state_tracker.begin_install(&candidate.revision);
        if self.state_tracker.is_rejected(&candidate.revision) {
            return Err(format!("config {} was rejected meanwhile", candidate.revision.short()));
        }
        let is_unkept = self.pending_writes.is_unreadable() || self.store.is_only_proved_unkept();
        let installed = match is_unkept {
            true => Err(format!("the active config is the only one that works, and {}", self.state_tracker.unkept())),
            false => self.store.install(candidate).map_err(|error| error.to_string()),
        };
        match &installed {
            Ok(()) => {
                self.active_config.installed(self.store.look(), &candidate.revision);
                log::info!(revision = candidate.revision.short(); "config installed");
            }
            Err(problem) => {
                self.store.discard(candidate);
                log::error!(
                    revision = candidate.revision.short(), problem = problem.as_str();
                    "config not installed; nothing changed"
                );
            }
        }
        self.save_state();
        installed
    }

    /// How the config that was just installed takes effect: by restart if the core has a reason, or the kernel or the
    /// configs do.
    fn activation_mode(&mut self, revision: &Revision, hand_over: Result<(), RestartReason>) -> ActivationMode {
        let revision = revision.short();
        let possible = hand_over.map_err(describe).and_then(|()| self.prepare_handover());
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

    fn roll_back(&mut self, problem: &str, blame: Blame, target: RollBackTarget) -> Result<(), Problem> {
        let had_config = self.store.has_config();
        let target = match target {
            RollBackTarget::Fallback => Target::Fallback,
            RollBackTarget::Predecessor => Target::Former,
        };
        let problem = Masked::new(problem);
        // Of one that was changed by hand.
        if let Some(generation) = self.store.trust().generation
            && let Some(facts) = self.known_facts(Some(generation))
        {
            self.store.found_revision(generation, facts.revision.as_ref());
        }
        let may_wait = self.collectors.iter().next().is_none();
        let RolledBack { from, kept, to } = self.store.roll_back(target, &problem, may_wait).map_err(|error| {
            log::error!(error:% = error; "cannot roll back");
            error.to_string()
        })?;
        self.save_state();
        let replaced = from.and_then(|from| self.store.generation(from));
        let source = replaced.as_ref().map(|replaced| replaced.source);
        let replaced = replaced.and_then(|replaced| replaced.revision);
        let revision = replaced.as_ref().map_or(UNREADABLE, Revision::short);
        if !had_config {
            log::warn!(problem = &*problem, generation = to; "no usable config; an earlier one restored");
            return Ok(());
        }
        let (shown, restored) = (kept.as_deref().map(|kept| kept.display().to_string()), self.revision(to));
        log::warn!(
            revision = revision, problem = &*problem, kept = shown, restored = restored.as_str(), generation = to;
            "config rolled back"
        );
        self.state_tracker.changed_by("roll back".to_string());
        match blame {
            Blame::Config | Blame::Start => {
                let collector = self.collectors.started_program();
                // What has served is not tried again in another environment.
                let conditions = Conditions::unknown(blame == Blame::Config, self.collectors.started_overlay());
                let rejected = replaced.map(|revision| Rejected {
                    collector,
                    kept,
                    conditions,
                    ..Rejected::new(revision, problem.clone())
                });
                self.state_tracker.rolled_back(&problem, rejected, source != Some(generations::Origin::Hand));
                self.save_state();
            }
            Blame::Environment => match replaced.filter(|_| source != Some(generations::Origin::Hand)) {
                Some(replaced) => {
                    log::info!(revision = replaced.short(); "what failed is outside the config; it will be tried again");
                    self.state_tracker.postponed(replaced, &problem, self.collectors.started_overlay());
                }
                // One that is not offered nobody tries again.
                None => self.state_tracker.rolled_back(&problem, None, false),
            },
            Blame::HandOver => {
                log::info!(revision = revision; "hand-over failed; the next check will apply this config by restart");
                self.state_tracker.hand_over_failed(&problem);
            }
        }
        Ok(())
    }

    /// An earlier agent, or the host, has ended with the active config: that may be its doing.
    pub(super) fn roll_back_at_start(&mut self) {
        let (problem, blame) = match self.store.start_problem() {
            None => return,
            Some(StartProblem::Exits(exits)) => {
                (format!("the collector exited unexpectedly {exits} times within confirm-time"), Blame::Config)
            }
            Some(StartProblem::Booted) => {
                ("the host was restarted while the config was on probation".to_string(), Blame::Environment)
            }
            Some(StartProblem::Starts(starts)) => {
                (format!("the agent ended {starts} times while the config was on probation"), Blame::Config)
            }
        };
        // One that cannot be undone is started all the same.
        let _ = self.roll_back(&problem, blame, RollBackTarget::Fallback);
    }

    /// The answer, if there is nothing to wait for.
    fn begin_probe(&mut self, child: ChildId) -> Option<Event<Candidate>> {
        self.health_watch.give_up();
        self.drain.asks_health(self.now());
        let check = self.collectors.find(child).and_then(|live| live.facts.health_check.clone());
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
        match verdict {
            Verdict::Promoted | Verdict::Proved => self.pending_writes.has_run = true,
            Verdict::RolledBack(_) => self.pending_writes.has_run = false,
            Verdict::Failing(_) | Verdict::NotInstalled(_) => {}
        }
        self.conclude_restart(&verdict);
        let now = self.now();
        let outcome = self.state_tracker.concluded(&verdict, now);
        self.save_state();
        if let Some(outcome) = outcome {
            self.clients.reply_verdict(&outcome);
        }
    }
}

fn describe(reason: RestartReason) -> String {
    match reason {
        RestartReason::NothingToHandOverFrom => "nothing running to hand over from".to_string(),
        RestartReason::HandOverFailed => "an earlier hand-over to this config failed".to_string(),
    }
}

fn trust_level(level: generations::TrustLevel) -> TrustLevel {
    match level {
        generations::TrustLevel::Confirmed => TrustLevel::Confirmed,
        generations::TrustLevel::Unconfirmed { exits, has_fallback } => TrustLevel::Unconfirmed { exits, has_fallback },
        generations::TrustLevel::OnProbation => TrustLevel::OnProbation,
        generations::TrustLevel::NoFallback => TrustLevel::NoFallback,
    }
}
