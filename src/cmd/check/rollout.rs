//! A new config's rollout on a host whose collector is init's: the config file, what is kept of the former one, and
//! `on-change`.
//!
//! `core::rollout` says which step is next. A check may be killed anywhere: `unfinished-install.json` is there from
//! before the install until `on-change` has succeeded, and the next check goes on from what it finds.

use std::time::Duration;

use crate::collector::Collector;
use crate::collector::disclosure::Said;
use crate::collector::output;
use crate::collector::process::{self, Background, Ended};
use crate::config::value::{Revision, Value};
use crate::core::event::Problem;
use crate::core::rollout::{End, Found, Rollout, Step, Version};
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::log::masked::{self, Holder};
use crate::os::child;
use crate::os::files::SeenFile;
use crate::settings::Settings;
use crate::store::generations::{Generation, Origin, Standing};
use crate::store::record::{self, Record, Rejected, Unfinished};
use crate::store::{Candidate, Store, Target};

/// `on-change` restarts a service: stopping and starting take less than this with any service manager's defaults
/// (systemd's are 90 s each).
pub const ON_CHANGE_TIMEOUT: Duration = Duration::from_secs(200);

pub(super) struct HostRollout<'a> {
    settings: &'a Settings,
    store: Store,
    collector: Collector,
    rejected: Record<Rejected>,
    unfinished: Record<Unfinished>,
    /// What this run has replaced.
    former: Option<u64>,
    /// The overlay when the new config was activated.
    overlay: Option<SeenFile>,
}

impl<'a> HostRollout<'a> {
    pub(super) fn new(settings: &'a Settings, store: &Store, collector: Collector) -> HostRollout<'a> {
        let rejected = Record::open(store.state_dir(), record::REJECTED);
        let unfinished = Record::open(store.state_dir(), record::UNFINISHED);
        HostRollout { settings, store: store.clone(), collector, rejected, unfinished, former: None, overlay: None }
    }

    pub(super) fn rejected(&self) -> Option<&Rejected> {
        self.rejected.get()
    }

    /// # Errors
    /// A step could not be made, which says nothing about the config.
    pub(super) fn begin(&mut self, candidate: &Candidate) -> Result<End> {
        self.run(Rollout::begin(self.store.has_config()), &candidate.revision, Some(candidate))
    }

    /// What a check that was killed has begun.
    pub(super) fn unfinished(&self) -> Option<(Rollout, Revision)> {
        let Unfinished { revision, replaced, .. } = self.unfinished.get().cloned()?;
        let found = Found {
            is_installed: self.store.read_config().is_ok_and(|config| config.revision() == revision),
            is_rejected: self.rejected.get().is_some_and(|rejected| rejected.revision == revision),
            has_former: replaced,
        };
        Some((Rollout::resume(found), revision))
    }

    /// `candidate` is the config of this revision, unless that is installed.
    ///
    /// # Errors
    /// A step could not be made, which says nothing about the config.
    pub(super) fn run(
        &mut self,
        mut rollout: Rollout,
        revision: &Revision,
        candidate: Option<&Candidate>,
    ) -> Result<End> {
        loop {
            let result = match rollout.step() {
                Step::Install => {
                    candidate.map_or(Ok(()), |candidate| self.install(candidate, rollout.has_former()))?;
                    Ok(())
                }
                Step::Activate(Version::New) => {
                    self.overlay = self.collector.local_config().map(SeenFile::now);
                    self.on_change()?
                }
                Step::Activate(Version::Former) => self.on_change().unwrap_or_else(|error| Err(error.to_string())),
                // `on-change` has.
                Step::Observe(_) => Ok(()),
                Step::Undo(problem) => {
                    self.undo(revision, problem.clone(), rollout.has_former())?;
                    Ok(())
                }
                Step::End(end) => {
                    if *end == End::Installed {
                        self.judge();
                        self.resolve();
                    }
                    if end.is_final() {
                        self.unfinished.set(None)?;
                    }
                    return Ok(end.clone());
                }
            };
            rollout.advance(result);
        }
    }

    fn install(&mut self, candidate: &Candidate, has_former: bool) -> Result<()> {
        self.former = if has_former { Some(self.store.keep_active()?) } else { None };
        if self.settings.on_change.is_some() {
            let revision = candidate.revision.clone();
            self.unfinished.set(Some(Unfinished { revision, replaced: has_former, former: self.former }))?;
        }
        self.store.install_alone(candidate)?;
        self.save();
        Ok(())
    }

    /// What an earlier version of the agent kept before it began the install.
    fn previous(&self) -> Option<u64> {
        let generations = self.store.generations();
        let is_previous = |it: &&Generation| it.source == Origin::Before && it.standing == Standing::Replaced;
        generations.iter().rfind(is_previous).map(|it| it.number)
    }

    /// `on-change` has accepted the active config.
    fn judge(&self) {
        if let Some(number) = self.store.active_generation() {
            self.store.prove(number, self.settings.confirm_time.is_zero());
        }
        self.save();
    }

    /// The active config is confirmed by the first check that finds it after confirm-time. There is nothing that could
    /// tell an exit, so none is rolled back before.
    pub(super) fn confirm(&self) {
        if self.store.found_by_check(self.settings.confirm_time.as_secs()) {
            log::debug!("config confirmed");
        }
        self.save();
    }

    /// What cannot be written now is by the next check.
    fn save(&self) {
        if let Err(error) = self.store.save() {
            log::warn!(error:%; "cannot write state; the next check will retry");
        }
    }

    fn undo(&mut self, revision: &Revision, problem: Problem, has_former: bool) -> Result<()> {
        // First, so that the config is not installed again if this is cut short.
        let collector = self.collector.file_id();
        let kept = self.store.active_generation().map(|number| self.store.generation_path(number));
        let conditions = record::Conditions::unknown(true, self.overlay.take());
        let rejected = Rejected { collector, kept, conditions, ..Rejected::new(revision.clone(), problem) };
        let problem = rejected.problem.clone();
        self.reject(rejected);
        if has_former {
            let former = self.former.or_else(|| self.unfinished.get()?.former).or_else(|| self.previous());
            self.store.roll_back(former.map_or(Target::Fallback, Target::Generation), &problem, true)?;
        } else {
            self.store.remove_config(&problem)?;
        }
        self.save();
        Ok(())
    }

    /// What it depended on has changed.
    pub(super) fn forget_rejection(&mut self) {
        if let Err(error) = self.rejected.set(None) {
            log::warn!(error:%; "cannot write state; the next check will retry");
        }
    }

    /// That it cannot be kept only makes the next check refuse it anew.
    pub(super) fn reject(&mut self, rejected: Rejected) {
        if let Err(error) = self.rejected.set(Some(rejected)) {
            log::warn!(error:% = error; "cannot save the rejected revision; the next check will try it again");
        }
    }

    /// Another config than the rejected one is active, as the server wants it.
    pub(super) fn resolve(&mut self) {
        if let Some(former) = self.rejected.get().filter(|it| !it.resolved).cloned() {
            self.reject(Rejected { resolved: true, ..former });
        }
    }

    /// Runs the command that makes init's collector use the config, if there is one.
    ///
    /// # Errors
    /// Outside 75 when it cannot be run, which says nothing about the config; inside the problem that it met.
    pub(super) fn on_change(&self) -> Result<std::result::Result<(), Problem>> {
        let Some(script) = &self.settings.on_change else { return Ok(Ok(())) };
        let configs: Vec<Value> = self.configs();
        masked::know(Holder::Collector(0), self.collector.secrets(&configs));
        // What it starts lives on: where init has no supervisor, that is the collector itself. The command is not
        // named, since it may hold credentials and this goes to the server.
        let (what, output) = match process::run(child::shell(script), ON_CHANGE_TIMEOUT, Background::Stays) {
            Ok(Ended::Exited { status, .. }) if status.success() => return Ok(Ok(())),
            Ok(Ended::Exited { end, output, .. }) => (end, output),
            Ok(Ended::TimedOut { output }) => (format!("did not end within {ON_CHANGE_TIMEOUT:?}"), output),
            Err(error) => {
                return Err(Error::because(Exit::TryAgain, "cannot run on-change; the next check will retry", error));
            }
        };
        Ok(Err(if output.is_empty() {
            format!("on-change {what}")
        } else {
            let configs: Vec<&Value> = configs.iter().collect();
            let told: Masked = self.collector.told_outside(&output, Said::Running, &configs);
            if told != output {
                log::error!(output:% = output::gist(&output); "error withheld from the API and from status, as it may quote what the config reads");
            }
            format!("on-change {what}: {}", output::gist(&told))
        }))
    }

    /// The active config and the overlay, as far as they can be read.
    fn configs(&self) -> Vec<Value> {
        let overlay = self.collector.overlay(|path| self.store.read_overlay(path)).ok().flatten();
        self.store.read_config().ok().into_iter().chain(overlay).collect()
    }
}
