//! Small JSON files in the state directory, each written only when it changes.
//!
//! One file, one owner: `Rejected` belongs to the supervisor (or the one-shot that runs alone), the others to the code
//! that makes config checks. A file that cannot be read counts as absent; what that costs is in DESIGN.md, "State
//! files".

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::atomic;
use crate::config::value::Revision;
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::os::files::{FileId, Place, SeenFile, named, safe_open};
use crate::os::{error as os_error, shutdown};

pub const REJECTED: &str = "rejected.json";
pub const COLLECTOR_VERSION: &str = "collector-version.json";
pub const REQUESTS: &str = "restart-requests.json";
pub const INSTANCE_ID: &str = "instance-id.json";
/// A hash of the id of the machine that has that one.
pub const INSTANCE_MACHINE: &str = "instance-machine.json";
pub const UNFINISHED: &str = "unfinished-install.json";
/// The identity of the policy whose violations by the active config were logged last.
pub const POLICY: &str = "policy.json";

/// Bytes of a record: the longest one holds a problem, which ends with an excerpt of 3 KiB, and each of its bytes may
/// be six in JSON.
const MAX_BYTES: u64 = 1024 * 1024;

/// Stands for what a rejection depends on and what the next check finds out.
pub const UNKNOWN: &str = "";

/// A config that was refused or rolled back, and is not tried again with the same collector, overlay and environment,
/// as far as it depends on them (`agent::conditions`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub revision: Revision,
    pub problem: Masked,
    /// Unix seconds.
    pub at: u64,
    /// Where the config is, to be looked at.
    #[serde(default)]
    pub kept: Option<PathBuf>,
    /// Another config has been installed since: it is no problem any more, though still not tried again.
    #[serde(default)]
    pub resolved: bool,
    /// The collector that it failed with. `None` if any would.
    #[serde(default)]
    pub collector: Option<FileId>,
    #[serde(default)]
    pub conditions: Box<Conditions>,
    /// The identity of the policy that refused it; `None` if it was not a policy that did.
    #[serde(default)]
    pub policy: Option<String>,
}

/// What a rejection depends on besides. `None`: not on that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// The identity of the collector's content.
    pub content: Option<String>,
    /// The identity of the overlay.
    pub overlay: Option<String>,
    /// The overlay's file as it was when the collector was started, until that identity is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay_file: Option<SeenFile>,
    /// The identity of the variables that the config refers to. One that has served does not depend on them.
    pub environment: Option<String>,
    /// The file that its error names.
    pub named: Option<SeenFile>,
}

impl Conditions {
    /// For what the next check finds out, as it hashes the collector.
    pub fn unknown(has_served: bool, overlay_file: Option<SeenFile>) -> Box<Conditions> {
        let unknown = || Some(UNKNOWN.to_string());
        let environment = if has_served { None } else { unknown() };
        Box::new(Conditions { content: unknown(), overlay: unknown(), overlay_file, environment, named: None })
    }
}

impl Rejected {
    /// Just now, for any collector.
    pub fn new(revision: Revision, problem: impl Into<Masked>) -> Rejected {
        let (problem, at, conditions) = (problem.into(), unix_now(), Box::default());
        let (kept, collector, policy) = (None, None, None);
        Rejected { revision, problem, at, kept, resolved: false, collector, conditions, policy }
    }

    /// Whether it is rejected under this policy.
    pub fn holds_under(&self, policy: &str) -> bool {
        self.policy.as_ref().is_none_or(|own| own == policy)
    }
}

/// What a collector program said its version is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub path: PathBuf,
    /// The program's file. The name in the state file is older than this one.
    #[serde(rename = "stamp")]
    pub file: FileId,
    pub version: String,
}

/// An install of `--check` whose `on-change` command has not succeeded yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    pub revision: Revision,
    /// Whether a config was there before, kept for a roll back.
    pub replaced: bool,
    /// The generation that it is; none in a file of an earlier version, whose roll back goes to what it kept.
    #[serde(default)]
    pub former: Option<u64>,
}

/// A file of the state directory that holds one `T` or nothing.
#[derive(Clone, Debug)]
pub struct Record<T> {
    /// `None` when nothing is to be written.
    path: Option<PathBuf>,
    kept: Option<T>,
    /// It could not be written.
    unwritten: bool,
}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned> Record<T> {
    /// Reads what is there.
    pub fn open(state_dir: &Path, name: &str) -> Record<T> {
        let path = state_dir.join(name);
        let kept = match safe_open::read(&path, MAX_BYTES) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) => {
                if error.kind() == io::ErrorKind::FileTooLarge {
                    log::warn!(error:%; "cannot read the agent's state; continuing without it");
                }
                None
            }
        };
        Record { path: Some(path), kept, unwritten: false }
    }

    /// From now on the file stays as it is, for a dry run.
    pub fn freeze(&mut self) {
        self.path = None;
    }

    pub fn get(&self) -> Option<&T> {
        self.kept.as_ref()
    }

    /// Keeps `value`, in memory even when it cannot be written.
    ///
    /// # Errors
    /// 73.
    pub fn set(&mut self, value: Option<T>) -> Result<()> {
        self.put(value);
        self.settle()
    }

    /// Keeps `value` in memory alone, until it is settled.
    pub fn put(&mut self, value: Option<T>) {
        if self.kept != value {
            self.kept = value;
            self.unwritten = true;
        }
    }

    pub fn is_settled(&self) -> bool {
        !self.unwritten
    }

    /// A copy of this one was settled elsewhere: so is this one, if it has not changed since.
    pub fn settled_as(&mut self, copy: &Record<T>) {
        self.unwritten &= copy.unwritten || copy.kept != self.kept;
    }

    /// Writes what could not be written before.
    ///
    /// # Errors
    /// 73.
    pub fn settle(&mut self) -> Result<()> {
        let _step = self.unwritten.then(shutdown::step);
        self.flush()
    }

    /// As `settle`, at the end of the agent, which waits for nothing any more.
    ///
    /// # Errors
    /// 73.
    pub fn flush(&mut self) -> Result<()> {
        if self.unwritten {
            self.write().map_err(|error| {
                let what = format!("cannot write the agent's state{}", os_error::remedy_for_write(&error));
                Error::because(Exit::CannotWrite, what, error)
            })?;
            self.unwritten = false;
        }
        Ok(())
    }

    fn write(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        match &self.kept {
            Some(value) => {
                let mut text = serde_json::to_vec(value)?;
                text.push(b'\n');
                atomic::write(path, &text)
            }
            None => match Place::new(path).and_then(|place| place.remove()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, error)),
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }
}

/// Now, as the records count time: Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[cfg(unix)]
#[path = "record_tests.rs"]
mod tests;
