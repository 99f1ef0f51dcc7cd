//! A check without an agent: what it finds is done here, under the agent's lock.

use super::Extent;
use super::rollout::HostRollout;
use crate::agent::check::ConfigCheck;
use crate::agent::check_outcome::{Effects, Order, ProblemUpdate};
use crate::agent::mailbox::Snapshot;
use crate::collector::Collector;
use crate::config::value::Revision;
use crate::control::{CheckResult, Outcome};
use crate::core::problems::TimedProblem;
use crate::core::rollout::{End, Step, Version};
use crate::error::{Error, Exit, Result};
use crate::settings::Settings;
use crate::source::{Failure, Source};
use crate::store::record::Rejected;
use crate::store::{Candidate, Store};

pub(super) struct StandaloneCheck<'a> {
    settings: &'a Settings,
    store: Store,
    check: ConfigCheck,
    known: Snapshot,
    rollout: HostRollout<'a>,
    extent: Extent,
}

impl<'a> StandaloneCheck<'a> {
    /// `is_running` is what an agent that runs says of its collector.
    pub(super) fn new(settings: &'a Settings, is_running: Option<bool>, extent: Extent) -> Result<StandaloneCheck<'a>> {
        let store = Store::of(settings);
        let collector = Collector::new(settings).as_owner_of(&settings.config);
        let mut check = ConfigCheck::new(settings, Source::new(settings)?, &collector, &store);
        check.single_attempt();
        if is_running.is_none() {
            check.without_agent();
        }
        if extent == Extent::DryRun {
            check.read_only();
            store.freeze();
        }
        store.open_generations();
        // Init runs the collector: all that is known of it here is whether it has a config.
        let is_collector_running = is_running.unwrap_or_else(|| store.has_config());
        let rollout = HostRollout::new(settings, &store, collector);
        let known = known(is_collector_running, rollout.rejected());
        Ok(StandaloneCheck { settings, store, check, known, rollout, extent })
    }

    /// What could not be removed when it was due is, once all is over: the next check may be a day away.
    pub(super) fn check(mut self) -> Result<Outcome> {
        if self.extent == Extent::DryRun {
            return self.run();
        }
        self.store.sweep();
        let outcome = self.run();
        self.store.sweep();
        outcome
    }

    fn run(&mut self) -> Result<Outcome> {
        if self.extent == Extent::Install {
            if self.rollout.unfinished().is_some() {
                self.may_activate("the config that the latest check installed is not activated")?;
            }
            if let Some(outcome) = self.finish()? {
                return Ok(outcome);
            }
            self.rollout.confirm();
        }
        let found = self.check.run(&self.known, None).map_err(Failure::into_error)?;
        let Effects { problem, order, reply, dry_run, .. } = found.effects();
        if self.extent == Extent::DryRun {
            return Ok(dry_run.unwrap_or(reply));
        }
        match problem {
            ProblemUpdate::Rejected { rejected, is_new: true } => {
                self.rollout.reject(rejected);
                self.report();
            }
            // What it depends on may be known better.
            ProblemUpdate::Rejected { rejected, is_new: false } => self.rollout.reject(rejected),
            ProblemUpdate::Forgotten => self.rollout.forget_rejection(),
            // The server has gone back to the active config.
            ProblemUpdate::Resolved if self.known.problem.is_some() => {
                self.rollout.resolve();
                self.report();
            }
            _ => {}
        }
        match order {
            Order::Install(candidate) => {
                let revision = candidate.revision.short();
                self.may_activate(&format!(
                    "config {revision} is valid and not installed, since on-change cannot be run"
                ))?;
                self.install(&candidate)
            }
            Order::Restart => {
                self.may_activate("the collector is not restarted, as the API requested")?;
                self.restart()
            }
            Order::Nothing | Order::StartIfStopped => Ok(reply),
        }
    }

    /// A config that nothing activates would count as the one that runs.
    ///
    /// # Errors
    /// 78 when root ignores the `on-change` of the settings file.
    fn may_activate(&self, otherwise: &str) -> Result<()> {
        match self.settings.why_ignored("on-change") {
            Some(reason) => Err(Error::new(Exit::Settings, format!("{otherwise}: {reason}"))),
            None => Ok(()),
        }
    }

    fn install(&mut self, candidate: &Candidate) -> Result<Outcome> {
        let end = self.rollout.begin(candidate)?;
        self.report();
        Ok(self.outcome(&candidate.revision, end))
    }

    /// Finishes what a check that was killed has begun; `None` when that had not changed the config.
    fn finish(&mut self) -> Result<Option<Outcome>> {
        let Some((rollout, revision)) = self.rollout.unfinished() else { return Ok(None) };
        let is_new = *rollout.step() == Step::Activate(Version::New);
        match self.rollout.run(rollout, &revision, None)? {
            End::NotInstalled => Ok(None),
            End::RolledBack { former: Some(problem) } if !is_new => {
                log::warn!(problem = problem.as_str(); "on-change failed for the restored config; will retry");
                Ok(None)
            }
            end => {
                if is_new {
                    self.report();
                }
                Ok(Some(self.outcome(&revision, end)))
            }
        }
    }

    fn outcome(&self, revision: &Revision, end: End) -> Outcome {
        let revision = revision.short();
        let End::RolledBack { former } = end else {
            return Outcome::done(CheckResult::Installed, format!("installed config {revision}"));
        };
        let problem = self.rollout.rejected().map_or("", |rejected| &*rejected.problem);
        let former = former.map(|former| format!("; with the previous config too, {former}")).unwrap_or_default();
        let message = format!("config {revision} was rolled back: {problem}{former}");
        Outcome { exit: Exit::ConfigRefused.code(), result: CheckResult::RolledBack, message: message.into() }
    }

    fn restart(&mut self) -> Result<Outcome> {
        if self.settings.on_change.is_none() {
            let message = "the API requested a collector restart, but on-change is not set: set it";
            log::warn!("restart requested by the API was skipped: set on-change");
            return Ok(Outcome::done(CheckResult::Unchanged, message));
        }
        let failed = |problem| format!("the collector restart that the API requested failed: {problem}");
        match self.rollout.on_change()? {
            Err(problem) => Err(Error::new(Exit::Unavailable, failed(problem))),
            Ok(()) => Ok(Outcome::done(CheckResult::Restarted, "restarted the collector, as the API requested")),
        }
    }

    /// The server should learn how it came out; the check itself is done, so that this fails changes nothing.
    fn report(&mut self) {
        self.known = known(self.store.has_config(), self.rollout.rejected());
        if let Err(failure) = self.check.report(&self.known) {
            log::warn!(error:% = failure.into_error(); "cannot report the outcome to the API; the next check will");
        }
    }
}

fn known(is_collector_running: bool, rejected: Option<&Rejected>) -> Snapshot {
    Snapshot {
        is_collector_running,
        problem: rejected.filter(|it| !it.resolved).map(TimedProblem::from),
        rejected: rejected.cloned(),
        restarts: 0,
        postponed: None,
    }
}
