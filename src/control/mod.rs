//! The control socket's protocol: one JSON object a line each way, over `run-dir/control.sock`.
//!
//! `server` is the running agent's side, `client` is that of `stop`, `status` and `--check`. What the commands do is
//! decided by the supervisor.

pub mod client;
pub mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::error::Exit;
use crate::os;

/// Keys that this version does not know are ignored, so that a later client can say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Request {
    Status,
    /// Answered when the collector has ended. The connection then lasts as long as the agent's process, so that its end
    /// tells when the next agent may start.
    Stop,
    /// One config check now; answered when its outcome is known.
    Check,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    Status(Box<Status>),
    Stopped,
    Checked(Outcome),
    /// The request was not understood.
    Error(String),
    /// Too many have come at once, and this one had not said yet what it wants.
    Busy,
}

/// How a config check came out, for `--check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// An exit status of the table.
    pub exit: u8,
    pub result: CheckResult,
    /// What happened, in a sentence; the error when there is one.
    pub message: String,
}

impl Outcome {
    pub fn done(result: CheckResult, message: impl Into<String>) -> Outcome {
        Outcome { exit: Exit::Done.code(), result, message: message.into() }
    }

    /// Of a check that could not be made or finished.
    pub fn failed(error: &Error) -> Outcome {
        Outcome { exit: error.exit().code(), result: CheckResult::Failed, message: error.to_string() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    Unchanged,
    Installed,
    Restarted,
    /// `--dry-run` only: it would be installed.
    WouldInstall,
    /// `--dry-run` only.
    WouldRestart,
    Rejected,
    RolledBack,
    Failed,
}

/// What the agent is doing now: the answer to `status --json`. Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub agent_version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub collector: CollectorStatus,
    pub config: ConfigStatus,
    pub polling: PollingStatus,
    /// The newest unresolved problem; empty when all is well.
    pub last_error_message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectorStatus {
    /// `stopped`, `starting`, `running`, `handing-over`, `stopping` or `backoff`.
    pub state: String,
    pub pid: Option<u32>,
    /// Of the present process.
    pub uptime_seconds: Option<u64>,
    /// Starts after the first one, for whatever reason.
    pub restarts: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    pub path: PathBuf,
    /// Of the active config; `None` when there is none, or it cannot be read.
    pub revision: Option<String>,
    /// How the latest one took effect: `hand-over`, or `restart` and why; `None` before the first change.
    pub changed_by: Option<String>,
    pub rejected_revision: Option<String>,
    pub rejected_because: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PollingStatus {
    /// `None` in local mode.
    pub endpoint: Option<String>,
    /// Why there is no polling.
    pub local_because: Option<String>,
    /// When the latest check was answered.
    pub succeeded_at: Option<u64>,
    /// Why the latest check failed, if it did.
    pub error: Option<String>,
}

/// Where the agent of a run directory listens.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    os::control::endpoint(run_dir)
}
