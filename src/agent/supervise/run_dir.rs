//! The names in the run directory by which others find the agent: its lock, its socket, the record of its collectors.
//!
//! What cleans such directories may remove them (systemd-tmpfiles(8), or logind at a logout), or the directory. A
//! second after something was removed there they are looked at and made anew, and when the agent is awake for a config
//! check or a start; each minute where the directory cannot be watched, or could not be restored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Supervise;
use crate::core::Uptime;
use crate::error::{Error, Exit, Result};
use crate::os::dir_watch::DirWatch;
use crate::os::files;
use crate::os::wait::Waitable;

/// So that a cleaner has removed the directory too, and one that never ends costs little.
const SETTLING: Duration = Duration::from_secs(1);
/// What cannot be watched, or restored, is looked at so often.
const INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct RunDir {
    path: PathBuf,
    /// Without it what is gone is noticed later.
    watch: Option<DirWatch>,
    look_at: Option<Uptime>,
}

impl RunDir {
    pub(super) fn new(path: &Path) -> RunDir {
        let mut run_dir = RunDir { path: path.to_path_buf(), watch: None, look_at: None };
        run_dir.rewatch(Uptime::ZERO);
        run_dir
    }

    pub(super) fn source(&self) -> Option<Waitable<'_>> {
        // It has been heard once.
        self.watch.as_ref().filter(|_| self.look_at.is_none()).map(DirWatch::waitable)
    }

    pub(super) fn deadline(&self) -> Option<Uptime> {
        self.look_at
    }

    /// The directory that has this name may be another one.
    fn rewatch(&mut self, now: Uptime) {
        self.watch = self.watch.take().or_else(|| DirWatch::new().ok());
        let is_watched = self.watch.as_ref().is_some_and(|watch| watch.add(&self.path).is_ok());
        self.look_at = (!is_watched).then(|| now + INTERVAL);
    }

    /// Whether it is time to look.
    fn is_due(&mut self, now: Uptime) -> bool {
        if self.watch.as_ref().is_some_and(DirWatch::take) {
            self.look_at.get_or_insert(now + SETTLING);
        }
        self.look_at.take_if(|at| now >= *at).is_some()
    }
}

impl Supervise {
    pub(super) fn watch_run_dir(&mut self) {
        let now = self.now();
        if self.run_dir.is_due(now) {
            self.restore_run_dir();
        }
    }

    pub(super) fn restore_run_dir(&mut self) {
        let now = self.now();
        let restored = self.restore_names(now);
        if restored.is_err() {
            self.run_dir.look_at = Some(now + INTERVAL);
        }
        self.state_tracker.run_dir_usable(restored.as_ref().err().map(ToString::to_string).as_deref());
        if let Ok(true) = restored {
            log::warn!(path:% = self.run_dir.path.display(); "run directory was cleaned; its files are restored");
        }
    }

    /// True if one was missing.
    fn restore_names(&mut self, now: Uptime) -> Result<bool> {
        files::make_private_directory(&self.run_dir.path)
            .map_err(|error| Error::because(Exit::CannotWrite, "cannot make the run directory", error))?;
        self.run_dir.rewatch(now);
        let path = &self.run_dir.path;
        let lock = self.lock.restore(path)?;
        let socket = self.clients.restore(path)?;
        let record = self.collectors.restore_record();
        Ok(lock || socket || record)
    }
}
