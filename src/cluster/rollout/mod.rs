//! Rollout mode, for anybody's collector pods: the ConfigMap is changed, its workload restarted and observed, and both
//! are put back if that fails.
//!
//! `core::rollout` has the steps, `core::workload` what is observed; here they are made. Each step can be made again,
//! and what a run needs to go on is in the ConfigMap (`state`) before anything else changes. So one that was killed, or
//! that the API server or a stop request has halted, is finished or undone by the next one. A roll back also writes
//! back the old value of the template's annotation: the pods that still have it stay as they are.

mod calls;
mod observe;
mod state;

use std::time::{Duration, SystemTime};

use crate::cluster::kubernetes::{Api, ApiFailure, Cause, ConfigMap, ConfigMapPatch, Name, WorkloadId};
use crate::config::value::Revision;
use crate::core::Uptime;
use crate::core::event::Problem;
use crate::core::rollout::{End, Found, Rollout as Steps, Step, Version};
use crate::core::workload::{self, Progress};
use crate::log::utc::Utc;
pub use state::{ROLLING_OUT, Rejection, previous_key, revision_of};
use state::{Stage, State};

/// Between two looks at a workload. A crash loop is seen after about 4 s.
const POLL: Duration = Duration::from_secs(2);

/// In a row. Each means that somebody else has changed the ConfigMap just now.
const MAX_CONFLICTS: u32 = 5;

/// A ConfigMap's config, and the workload whose pods use it.
#[derive(Clone, Debug)]
pub struct Target {
    pub config_map: Name,
    /// Of the data.
    pub key: String,
    pub workload: WorkloadId,
}

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long a rollout may go on without another pod that is updated.
    pub deadline: Duration,
    /// How long all pods have to be available before the config has proved itself.
    pub settle: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub revision: &'a Revision,
    /// As the ConfigMap gets it.
    pub text: &'a str,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub revision: Revision,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Installed,
    /// It is rejected, which the ConfigMap says, too. `former` is the problem with the config that is back in place.
    RolledBack {
        problem: Problem,
        former: Option<Problem>,
    },
    /// Nothing is changed, and nothing is said against the config: it may be tried again.
    NotInstalled {
        reason: Problem,
    },
}

/// Why a run ended before its end; the next one goes on.
#[derive(Debug)]
pub enum Halted {
    Stopped,
    Failed(ApiFailure),
}

/// A stop request came.
#[derive(Debug)]
pub struct Stopped;

/// Whoever waits, and can be told to stop meanwhile.
pub trait Pace {
    /// On a clock that never goes back.
    fn now(&self) -> Uptime;

    /// # Errors
    /// The wait was cut short by a stop request.
    fn pause(&mut self, duration: Duration) -> Result<(), Stopped>;
}

pub struct Rollout<'a> {
    pub api: &'a dyn Api,
    pub target: &'a Target,
    pub rules: Rules,
    pub pace: &'a mut dyn Pace,
}

impl Rollout<'_> {
    /// Finishes or undoes what an earlier run has left; if there is nothing, rolls `wanted` out. So with what it
    /// returns it says which config that is about. Takes as long as that takes.
    ///
    /// # Errors
    /// The run was stopped, or cannot go on for now. The next one does.
    pub fn run(&mut self, wanted: Option<Candidate>) -> Result<Option<Finished>, Halted> {
        let mut conflicts = 0;
        loop {
            let config_map = self.config_map()?;
            let result = match (State::of(&config_map), wanted) {
                (Some(state), _) => self.resume(&config_map, state),
                (None, Some(candidate)) => self.begin(&config_map, candidate),
                (None, None) => return Ok(None),
            };
            match result {
                Err(Halted::Failed(failure)) if failure.cause == Cause::Conflict && conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                }
                other => return other.map(Some),
            }
        }
    }

    /// Restarts the pods with the config that they have, if that takes nothing that serves. It is not observed.
    ///
    /// # Errors
    /// As for `run`.
    pub fn restart(&mut self) -> Result<Result<(), Problem>, Halted> {
        let read = self.workload()?;
        let pods = self.pods(&read)?;
        if let Err(reason) = workload::may_begin(&observe::workload(self.target.workload.kind, &read), &pods) {
            return Ok(Err(reason));
        }
        let (now, version) = (Utc::from(SystemTime::now()).to_string(), read.metadata.resource_version.as_str());
        self.call(|it| it.api.set_restarted_at(&it.target.workload, Some(&now), Some(version)))?;
        Ok(Ok(()))
    }

    fn begin(&mut self, config_map: &ConfigMap, candidate: Candidate) -> Result<Finished, Halted> {
        let revision = candidate.revision.clone();
        if let Err(problem) = state::has_room(config_map, &self.target.key, candidate.text) {
            let rejection = Rejection { revision: revision.clone(), problem: problem.clone() };
            self.patch(&rejection.write(ConfigMapPatch::of(config_map)))?;
            return Ok(Finished { revision, outcome: Outcome::RolledBack { problem, former: None } });
        }
        let read = self.workload()?;
        // Whatever they are: without the right to see them nothing is to begin.
        let pods = self.pods(&read)?;
        let seen = observe::workload(self.target.workload.kind, &read);
        if let Err(reason) = workload::may_begin(&seen, &pods) {
            return Ok(Finished { revision, outcome: Outcome::NotInstalled { reason } });
        }
        let min_ready = Duration::from_secs(read.spec.min_ready_seconds.into());
        if min_ready < self.rules.settle {
            log::warn!(workload:% = self.target.workload, min_ready_seconds = read.spec.min_ready_seconds,
                min_uptime_seconds = self.rules.settle.as_secs();
                "minReadySeconds is less than min-uptime: a config that fails in between reaches all pods; raise it");
        }
        let state = State {
            candidate: revision,
            stage: Stage::RollingOut,
            restarted_at: Utc::from(SystemTime::now()).to_string(),
            restarted_at_before: read.restarted_at().cloned(),
            problem: None,
        };
        self.patch(&state::install(config_map, &self.target.key, candidate.text, &state))?;
        log::info!(workload:% = self.target.workload, revision = state.candidate.short(); "rollout began");
        let mut steps = Steps::begin(true);
        steps.advance(Ok(()));
        self.drive(steps, state)
    }

    fn resume(&mut self, config_map: &ConfigMap, state: State) -> Result<Finished, Halted> {
        log::info!(workload:% = self.target.workload, revision = state.candidate.short(); "unfinished rollout found");
        let is_candidate = revision_of(config_map, &self.target.key).as_ref() == Some(&state.candidate);
        let is_rejected = state.stage == Stage::RollingBack;
        // Without a config before there was the one that the pods have of their own.
        let found = Found { is_installed: is_candidate && !is_rejected, is_rejected, has_former: true };
        self.drive(Steps::resume(found), state)
    }

    fn drive(&mut self, mut steps: Steps, mut state: State) -> Result<Finished, Halted> {
        loop {
            let result = match steps.step().clone() {
                // `begin` has made it.
                Step::Install => Ok(()),
                Step::Activate(Version::New) => match self.activate(&state) {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(reason)) => {
                        self.withdraw(&state)?;
                        return Ok(finished(state, Outcome::NotInstalled { reason }));
                    }
                    Err(halted) => return Err(halted),
                },
                Step::Observe(Version::New) => self.observe(self.rules.settle)?,
                Step::Undo(problem) => {
                    log::warn!(workload:% = self.target.workload, revision = state.candidate.short(),
                        reason = problem.as_str(); "rollout failed; rolling back");
                    let rejection = Rejection { revision: state.candidate.clone(), problem: problem.clone() };
                    state = State { stage: Stage::RollingBack, problem: Some(problem), ..state };
                    self.change(|config_map, key| rejection.write(state::undo(config_map, key, &state)))?;
                    Ok(())
                }
                Step::Activate(Version::Former) => {
                    let before = state.restarted_at_before.as_deref();
                    self.call(|it| it.api.set_restarted_at(&it.target.workload, before, None))?;
                    Ok(())
                }
                Step::Observe(Version::Former) => self.observe(Duration::ZERO)?,
                Step::End(end) => return self.end(state, end),
            };
            steps.advance(result);
        }
    }

    /// Restarts the pods, as soon as that takes nothing that serves.
    fn activate(&mut self, state: &State) -> Result<Result<(), Problem>, Halted> {
        let until = self.pace.now() + self.rules.deadline;
        loop {
            let seen = self.look(&mut None)?;
            // Whoever has restarted them: new pods have the new config.
            if seen.workload.restarted_at != state.restarted_at_before {
                return Ok(Ok(()));
            }
            match workload::may_begin(&seen.workload, &seen.pods) {
                Ok(()) => {
                    // Not if anything was seen of it since.
                    let (value, version) = (Some(state.restarted_at.as_str()), Some(seen.resource_version.as_str()));
                    match self.call(|it| it.api.set_restarted_at(&it.target.workload, value, version)) {
                        Err(Halted::Failed(failure)) if failure.cause == Cause::Conflict => {}
                        // No pod was restarted, and none will be.
                        Err(Halted::Failed(failure)) if is_refusal(failure.cause) => {
                            self.withdraw(state)?;
                            return Err(Halted::Failed(failure));
                        }
                        other => return other.map(|_| Ok(())),
                    }
                }
                Err(reason) if self.pace.now() >= until => return Ok(Err(reason)),
                Err(_) => {}
            }
            self.pause(POLL)?;
        }
    }

    /// Until all pods have been available for so long, or something is wrong.
    fn observe(&mut self, settle: Duration) -> Result<Result<(), Problem>, Halted> {
        let (mut until, mut most_updated) = (self.pace.now() + self.rules.deadline, 0);
        let (mut listed, mut done_at) = (None, None);
        loop {
            let seen = self.look(&mut listed)?;
            let now = self.pace.now();
            match workload::progress(&seen.workload, &seen.pods) {
                Progress::Done => {
                    if now.saturating_sub(*done_at.get_or_insert(now)) >= settle {
                        return Ok(Ok(()));
                    }
                }
                Progress::Failed(problem) => return Ok(Err(problem)),
                Progress::Going(waits_for) => {
                    done_at = None;
                    if seen.workload.is_observed && seen.workload.updated > most_updated {
                        (until, most_updated) = (now + self.rules.deadline, seen.workload.updated);
                    }
                    if now >= until {
                        let deadline = self.rules.deadline;
                        return Ok(Err(format!("no progress for {deadline:?}: {waits_for}")));
                    }
                }
            }
            self.pause(POLL)?;
        }
    }

    /// As if it had not begun; only while no pod was restarted.
    fn withdraw(&mut self, state: &State) -> Result<(), Halted> {
        self.change(|config_map, key| state::end(state::undo(config_map, key, state), key))
    }

    fn end(&mut self, state: State, end: End) -> Result<Finished, Halted> {
        let is_installed = end == End::Installed;
        self.change(|config_map, key| {
            let patch = state::end(ConfigMapPatch::of(config_map), key);
            if is_installed { state::prove(config_map, patch, &state.candidate) } else { patch }
        })?;
        log::info!(workload:% = self.target.workload, revision = state.candidate.short(), is_installed;
            "rollout ended");
        let outcome = match end {
            End::Installed => Outcome::Installed,
            End::RolledBack { former } => {
                Outcome::RolledBack { problem: state.problem.clone().unwrap_or_default(), former }
            }
            End::NotInstalled => {
                let name = &self.target.config_map;
                Outcome::NotInstalled { reason: format!("somebody else has changed the config in ConfigMap {name}") }
            }
        };
        Ok(finished(state, outcome))
    }
}

/// The API server has answered, and the change is not made.
fn is_refusal(cause: Cause) -> bool {
    matches!(cause, Cause::Forbidden | Cause::Invalid | Cause::NotFound)
}

fn finished(state: State, outcome: Outcome) -> Finished {
    Finished { revision: state.candidate, outcome }
}

#[cfg(test)]
mod real_tests;
#[cfg(test)]
mod tests;
