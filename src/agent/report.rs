//! What the agent knows of itself and its collector, put together for a report.
//!
//! It keeps the collector's version, which is asked for once. The host's name is asked for each
//! time, as it may change (cloud-init). How a report is sent is the source's business.

use std::time::Instant;

use crate::agent::instance_id::InstanceId;
use crate::agent::mailbox::Snapshot;
use crate::collector::Collector;
use crate::config::value::Revision;
use crate::core::problems::TimedProblem;
use crate::error::Exit;
use crate::log::Masked;
use crate::os::files::FileId;
use crate::os::host;
use crate::settings::Settings;
use crate::source::Report;
use crate::source::report::ConfigState;
use crate::store::Store;
use crate::store::generations::Standing;
use crate::store::record::{self, Record, Rejected};

pub struct Reporter {
    /// `None` means what the system says.
    host_name: Option<String>,
    is_docker: bool,
    started_at: Instant,
    collector: Collector,
    version: Record<record::Version>,
    /// `None` unless the extended report is asked for.
    instance_id: Option<InstanceId>,
}

impl Reporter {
    pub fn new(settings: &Settings, collector: &Collector, store: &Store) -> Reporter {
        Reporter {
            host_name: settings.host_name.clone(),
            is_docker: settings.docker_mode,
            started_at: Instant::now(),
            collector: collector.clone(),
            version: Record::open(store.state_dir(), record::COLLECTOR_VERSION),
            instance_id: settings.report_extended.then(|| InstanceId::new(settings, store)),
        }
    }

    /// What the former one knows and settings do not change.
    pub fn keep(&mut self, former: Reporter) {
        self.started_at = former.started_at;
        self.version = former.version;
        if let (Some(instance_id), Some(former)) = (&mut self.instance_id, former.instance_id) {
            instance_id.keep(former);
        }
    }

    /// For a dry run: nothing is kept.
    pub fn read_only(&mut self) {
        self.version.freeze();
        if let Some(instance_id) = &mut self.instance_id {
            instance_id.read_only();
        }
    }

    pub fn report<'a>(
        &'a mut self,
        known: &'a Snapshot,
        active: Option<Revision>,
        config_state: ConfigState,
    ) -> Report<'a> {
        let collector_version = self.collector_version();
        let instance_id = self.instance_id.as_mut().and_then(InstanceId::get);
        Report {
            host_name: self.host_name.clone().unwrap_or_else(host::name),
            is_docker: self.is_docker,
            uptime: self.started_at.elapsed(),
            instance_id,
            is_collector_running: known.is_collector_running,
            collector_version,
            collector_restarts: known.restarts,
            problem: known.problem.as_ref(),
            active,
            rejected: known.rejected.as_ref().map(|rejected| &rejected.revision),
            config_state,
        }
    }

    /// `None` if the program was not asked, or there is none.
    pub fn known_version(&self) -> Option<String> {
        let path = self.collector.find().ok()?;
        let file = FileId::of(&path)?;
        let kept = self.version.get().filter(|kept| kept.path == path && kept.file == file)?;
        Some(kept.version.clone())
    }

    /// Asked of the program once, and again when the program has changed.
    fn collector_version(&mut self) -> String {
        if let Some(version) = self.known_version() {
            return version;
        }
        let Ok(path) = self.collector.find() else { return String::new() };
        let Some(file) = FileId::of(&path) else { return String::new() };
        let asked = self.collector.version(&path).inspect_err(|error| {
            log::warn!(error:%; "cannot determine the collector's version");
        });
        // That says nothing about the program.
        if asked.as_ref().is_err_and(|error| error.exit() == Exit::TryAgain) {
            return String::new();
        }
        let version = asked.unwrap_or_default();
        if let Err(error) = self.version.set(Some(record::Version { path, file, version: version.clone() })) {
            log::debug!(error:% = error; "cannot save the collector's version; will ask again");
        }
        version
    }
}

pub fn state_of_active(store: &Store) -> ConfigState {
    let Some(file) = store.look().transpose() else { return ConfigState::None };
    match file.ok().and_then(|file| store.seen_generation(file)).map(|generation| generation.standing) {
        Some(Standing::Confirmed) => ConfigState::Confirmed,
        Some(Standing::Unconfirmed { .. }) => ConfigState::Unconfirmed,
        // One that nobody has started yet has to prove itself as well.
        _ => ConfigState::Probation,
    }
}

impl From<&Rejected> for TimedProblem<Masked> {
    fn from(rejected: &Rejected) -> TimedProblem<Masked> {
        let problem = format!("config {} is rejected: {}", rejected.revision.short(), rejected.problem);
        TimedProblem { problem: problem.into(), at: rejected.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_config_is_a_problem_with_its_name_and_time() {
        let revision = crate::config::value::Value::Null.revision();
        let problem = format!("config {} is rejected: boom", revision.short());
        let rejected = Rejected { at: 7, ..Rejected::new(revision, "boom") };
        assert_eq!(TimedProblem::from(&rejected), TimedProblem { problem: problem.into(), at: 7 });
    }
}
