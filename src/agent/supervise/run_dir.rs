//! The names in the run directory by which others find the agent: its lock, its socket, the record of its collectors.
//!
//! What cleans such directories may remove them (systemd-tmpfiles(8), or logind at a logout), or the directory. They
//! are looked at when the agent is awake for a config check or a start, and made anew.

use super::Supervise;
use crate::error::{Error, Exit, Result};
use crate::os::files;

impl Supervise {
    pub(super) fn restore_run_dir(&mut self) {
        let restored = self.restore_names();
        self.state_tracker.run_dir_usable(restored.as_ref().err().map(ToString::to_string).as_deref());
        if let Ok(true) = restored {
            log::warn!(path:% = self.run_dir.display(); "run directory was cleaned; its files are restored");
        }
    }

    /// True if one was missing.
    fn restore_names(&mut self) -> Result<bool> {
        files::make_private_directory(&self.run_dir)
            .map_err(|error| Error::because(Exit::CannotWrite, "cannot make the run directory", error))?;
        let lock = self.lock.restore(&self.run_dir)?;
        let socket = self.clients.restore(&self.run_dir)?;
        let record = self.collectors.restore_record();
        Ok(lock || socket || record)
    }
}
