//! The mailboxes of the supervisor and the poller: what each sends to the other. A closed channel means stop. What the
//! threads share besides is in DESIGN.md, "Threads".

use std::sync::Arc;
use std::time::Instant;

use crate::agent::check_outcome::Effects;
use crate::agent::reload::Reloaded;
use crate::collector::config_facts::ConfigFacts;
use crate::collector::start_failure::Outside;
use crate::config::value::Revision;
use crate::core::Uptime;
use crate::core::problems::TimedProblem;
use crate::error::Result;
use crate::log::Masked;
use crate::os::files::{FileId, SeenFile};
use crate::os::process_id::ProcessId;
use crate::source::Failure;
use crate::store::record::{Record, Rejected};

/// To the supervisor.
#[derive(Debug)]
pub enum SupervisorEvent {
    Checked(Checked),
    Saved(Saved),
    /// The settings were read again, as was asked, or cannot be used.
    Reloaded(Result<Box<Reloaded>>),
    /// The key file had another key.
    KeyChanged(Box<Reloaded>),
    /// Whether the collector would start again, as was asked.
    MayRestart(Result<()>),
    /// What `ReadConfig` asked for.
    Found(Findings),
    /// The poller panicked, which is our own bug.
    PollerEnded,
}

/// What was to be written is, or not.
#[derive(Debug)]
pub struct Saved {
    /// What could not be.
    pub problem: Option<String>,
    pub rejected: Record<Rejected>,
}

/// A config check ended.
#[derive(Debug)]
pub struct Checked {
    /// The newest `CheckNow` that had arrived when the check began.
    pub ticket: u64,
    pub result: std::result::Result<Box<Effects>, Failure>,
    pub findings: Findings,
}

/// What `status` shows and the poller knows.
#[derive(Debug)]
pub struct Findings {
    /// `None` when there is no config file, or none that can be looked at.
    pub config: Option<ConfigReading>,
    /// Of the configs that the supervisor may start next, as far as they can be read.
    pub facts: Vec<KnownFacts>,
    /// Of the collector, as far as it was asked for it; empty if it was not.
    pub version: String,
    /// The next check; `None` if there is none.
    pub next_check_at: Option<Uptime>,
}

/// What was found out of a generation, with the overlay that there was.
#[derive(Clone, Debug)]
pub struct KnownFacts {
    pub generation: u64,
    pub overlay: Option<FileId>,
    pub facts: Arc<ConfigFacts>,
}

/// A config file as it was when it was read: a file of megabytes takes seconds, which the supervisor has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigReading {
    pub file: FileId,
    /// The error is why it has none.
    pub revision: std::result::Result<Revision, Masked>,
}

/// To the poller.
#[derive(Debug)]
pub enum PollerCommand {
    Changed(Snapshot),
    /// The latest candidate has its verdict: the server should learn of it.
    Concluded,
    /// The active config is another file than the supervisor knows.
    ReadConfig,
    /// The supervisor has decided something that belongs on disk, and a collector lives that may be waiting for it.
    Save(Record<Rejected>),
    /// An operator asks for a check.
    CheckNow {
        ticket: u64,
    },
    /// The same; what was rejected is not any more.
    Retry {
        ticket: u64,
    },
    /// Read the settings again.
    Reload,
    /// An operator asks for a restart of the collector, if it would start again.
    Restart,
    /// One of two collectors has ended: what was started before the other one, and has lost its parent, ends too.
    EndDescendants {
        before: ProcessId,
    },
    Stop,
}

/// What the poller reports of the supervisor's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// One that is starting counts as running.
    pub is_collector_running: bool,
    pub problem: Option<TimedProblem<Masked>>,
    pub rejected: Option<Rejected>,
    pub restarts: u64,
    pub postponed: Option<Box<Postponed>>,
}

/// A config that failed for something which is not its fault, such as a port that another process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postponed {
    pub revision: Revision,
    pub attempts: u32,
    /// Not tried before, unless what it named or the overlay has changed.
    pub until: Instant,
    pub named: Option<Outside>,
    /// What it was started with, laid over it.
    pub overlay: Option<SeenFile>,
    pub problem: String,
}

impl Postponed {
    pub fn is_due(&self) -> bool {
        let has_changed = self.named.as_ref().is_some_and(Outside::has_changed)
            || self.overlay.as_ref().is_some_and(SeenFile::has_changed);
        has_changed || Instant::now() >= self.until
    }
}
