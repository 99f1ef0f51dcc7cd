//! What the agent knows of itself and its collector, put together for a report.
//!
//! It keeps the collector's version and the instance id, each asked for or made once. The host's name is asked for each
//! time, as it may change (cloud-init). How a report is sent is the source's business.

use std::time::Instant;

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
use crate::store::Store;
use crate::store::record::{self, Record, Rejected};

pub struct Reporter {
    /// `None` means what the system says.
    host_name: Option<String>,
    is_docker: bool,
    started_at: Instant,
    collector: Collector,
    version: Record<record::Version>,
    /// `None` unless the extended report is asked for.
    instance_id: Option<Record<String>>,
}

impl Reporter {
    pub fn new(settings: &Settings, collector: &Collector, store: &Store) -> Reporter {
        Reporter {
            host_name: settings.host_name.clone(),
            is_docker: settings.docker_mode,
            started_at: Instant::now(),
            collector: collector.clone(),
            version: Record::open(store.state_dir(), record::COLLECTOR_VERSION),
            instance_id: settings.report_extended.then(|| Record::open(store.state_dir(), record::INSTANCE_ID)),
        }
    }

    /// What the former one knows and settings do not change.
    pub fn keep(&mut self, former: Reporter) {
        self.started_at = former.started_at;
        self.version = former.version;
        if self.instance_id.is_some() && former.instance_id.is_some() {
            self.instance_id = former.instance_id;
        }
    }

    /// For a dry run: nothing is kept.
    pub fn read_only(&mut self) {
        self.version.freeze();
        if let Some(instance_id) = &mut self.instance_id {
            instance_id.freeze();
        }
    }

    pub fn report<'a>(&'a mut self, known: &'a Snapshot, active: Option<Revision>) -> Report<'a> {
        let collector_version = self.collector_version();
        let instance_id = self.instance_id();
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
        }
    }

    /// Made once and kept; a new one for each run where nothing can be kept.
    fn instance_id(&mut self) -> Option<String> {
        let kept = self.instance_id.as_mut()?;
        if kept.get().is_none()
            && let Err(error) = kept.set(Some(new_instance_id()))
        {
            log::warn!(error:% = error; "cannot save the instance id; it will change at the next start");
        }
        kept.get().cloned()
    }

    /// Asked of the program once, and again when the program has changed.
    fn collector_version(&mut self) -> String {
        let Ok(path) = self.collector.find() else { return String::new() };
        let Some(file) = FileId::of(&path) else { return String::new() };
        if let Some(kept) = self.version.get().filter(|kept| kept.path == path && kept.file == file) {
            return kept.version.clone();
        }
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

impl From<&Rejected> for TimedProblem<Masked> {
    fn from(rejected: &Rejected) -> TimedProblem<Masked> {
        let problem = format!("config {} is rejected: {}", rejected.revision.short(), rejected.problem);
        TimedProblem { problem: problem.into(), at: rejected.at }
    }
}

/// 128 random bits in hexadecimal.
fn new_instance_id() -> String {
    let mut bytes = [0u8; 16];
    // It fails only where the kernel has no randomness at all; an id of zeros is one that an operator will notice.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

    #[test]
    fn instance_ids_differ() {
        assert_eq!(new_instance_id().len(), 32);
        assert_ne!(new_instance_id(), new_instance_id());
    }
}
