//! The control socket's protocol: one JSON object a line each way, over `run-dir/control.sock`.
//!
//! `server` is the running agent's side, `client` is that of the commands. What the commands do is
//! decided by the supervisor.

pub mod client;
mod cluster;
pub mod server;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::error::Exit;
use crate::log::Masked;
use crate::os;
pub use cluster::{ClusterStatus, GroupStatus};

/// Keys that this version does not know are ignored, so that a later client can say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Request {
    Status,
    /// Answered when the collector has ended. The connection then lasts as long as the agent's process, so that its end
    /// tells when the next agent may start.
    Stop {
        /// Whether `Waiting` may come first, which an older client takes for the answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        progress: bool,
    },
    /// One config check now; answered when its outcome is known.
    Check,
    /// The same, and a rejected config is tried again.
    Retry,
    /// The settings are read again; answered when they hold or cannot be used.
    Reload,
    /// Of the collector; answered when its verdict is known.
    Restart,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    Status(Box<Status>),
    /// The same of an updater (`kmagent cluster`).
    Cluster(Box<ClusterStatus>),
    Stopped,
    Checked(Outcome),
    /// To `reload` and `restart`.
    Done(Done),
    /// The request is heard; the answer follows.
    Waiting(Waiting),
    /// The request was not understood.
    Error(Masked),
    /// Too many have come at once, and this one had not said yet what it wants.
    Busy,
}

/// Bytes of a reply's line. A client reads no more, since anything could be at the other end.
pub const REPLY_LIMIT: usize = 64 * 1024;

/// Bytes of each text of a reply, unless a reply with several of them is too long; a text is a sentence, a URL or an
/// excerpt of an output, none of which is longer when it makes sense.
const TEXT_LIMIT: usize = 4096;

impl Reply {
    /// As it is sent: one line, which a client reads whole. Texts are cut as far as that takes.
    pub fn line(&self) -> Vec<u8> {
        let mut limit = TEXT_LIMIT;
        let mut reply = self.clone();
        loop {
            reply.cut(limit);
            let mut line = serde_json::to_vec(&reply).unwrap_or_default();
            line.push(b'\n');
            if line.len() <= REPLY_LIMIT || limit == 0 {
                return line;
            }
            // A byte may be six in JSON.
            limit /= 2;
        }
    }

    fn cut(&mut self, limit: usize) {
        let cut = |text: &mut Masked| *text = std::mem::take(text).cut(limit);
        match self {
            Reply::Status(status) => {
                let Status { collector, config, polling, settings_problem, last_error_message, .. } = &mut **status;
                for path in [Some(&mut config.path), collector.program.as_mut()].into_iter().flatten() {
                    if path.as_os_str().len() > limit {
                        let whole = path.to_string_lossy();
                        *path = whole[..whole.floor_char_boundary(limit)].into();
                    }
                }
                let texts =
                    [&mut config.revision_unknown_because, &mut config.changed_by, &mut config.rejected_because];
                texts.into_iter().flatten().for_each(cut);
                let texts = [&mut polling.endpoint, &mut polling.local_because, &mut polling.error];
                texts.into_iter().flatten().chain(settings_problem).for_each(cut);
                cut(last_error_message);
            }
            Reply::Cluster(status) => status.cut(limit),
            Reply::Checked(outcome) => cut(&mut outcome.message),
            Reply::Done(done) => cut(&mut done.message),
            Reply::Error(problem) => cut(problem),
            Reply::Waiting(Waiting { advice: Some(advice), .. }) => cut(advice),
            Reply::Waiting(_) | Reply::Stopped | Reply::Busy => {}
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// An exit status of the table.
    pub exit: u8,
    pub message: Masked,
}

/// How long the answer may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// At most, unless the host is overloaded.
    pub seconds: u64,
    /// What a person has to do besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Masked>,
}

/// How a config check came out, for `--check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// An exit status of the table.
    pub exit: u8,
    pub result: CheckResult,
    /// What happened, in a sentence; the error when there is one.
    pub message: Masked,
}

impl Outcome {
    pub fn done(result: CheckResult, message: impl Into<Masked>) -> Outcome {
        Outcome { exit: Exit::Done.code(), result, message: message.into() }
    }

    /// Of a check that could not be made or finished.
    pub fn failed(error: &Error) -> Outcome {
        Outcome { exit: error.exit().code(), result: CheckResult::Failed, message: error.to_string().into() }
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
    /// What is wrong with the settings, if the agent uses earlier ones.
    #[serde(default)]
    pub settings_problem: Option<Masked>,
    /// The newest unresolved problem; empty when all is well.
    pub last_error_message: Masked,
    /// When that began.
    #[serde(default)]
    pub last_error_at: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectorStatus {
    /// `stopped`, `starting`, `running`, `handing-over`, `stopping` or `backoff`.
    pub state: String,
    #[serde(default)]
    pub state_since: Option<u64>,
    /// One that has passed its probation runs, and is not suspended.
    #[serde(default)]
    pub is_ready: bool,
    pub pid: Option<u32>,
    /// Of the present process.
    pub uptime_seconds: Option<u64>,
    /// Until the end of the delay after a failure.
    #[serde(default)]
    pub next_start_seconds: Option<u64>,
    /// The program that was started last.
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// As it says itself, once it was asked for a report.
    #[serde(default)]
    pub version: Option<String>,
    /// Starts after the first one, for whatever reason.
    pub restarts: u64,
    /// Its file gives it rights, so it does not end when the agent is killed, but at the next start.
    #[serde(default)]
    pub outlives_agent: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    pub path: PathBuf,
    /// Of the active config; `None` when there is none, or it is not known.
    pub revision: Option<String>,
    /// Why it is not known, for instance since the file cannot be read as the collector reads it.
    #[serde(default)]
    pub revision_unknown_because: Option<Masked>,
    /// How the latest one took effect: `hand-over`, or `restart` and why; `None` before the first change.
    pub changed_by: Option<Masked>,
    /// Of the active config: `probation`, `unconfirmed` or `confirmed`; `None` when there is none, or it is not known.
    #[serde(default)]
    pub standing: Option<String>,
    /// When it was installed, or found.
    #[serde(default)]
    pub installed_at: Option<u64>,
    /// Until it is confirmed, if its collector runs until then.
    #[serde(default)]
    pub confirmed_in_seconds: Option<u64>,
    /// What the API offers and does not ask to apply yet.
    #[serde(default)]
    pub pending_revision: Option<String>,
    #[serde(default)]
    pub pending_since: Option<u64>,
    pub rejected_revision: Option<String>,
    pub rejected_because: Option<Masked>,
    #[serde(default)]
    pub rejected_at: Option<u64>,
    /// Whether the latest check found that the API offers it.
    #[serde(default)]
    pub rejected_is_offered: bool,
    /// Where the rejected config is kept.
    #[serde(default)]
    pub rejected_kept: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PollingStatus {
    /// `None` in local mode.
    pub endpoint: Option<Masked>,
    /// Why there is no polling.
    pub local_because: Option<Masked>,
    /// When the latest check was answered.
    pub succeeded_at: Option<u64>,
    /// Why the latest check failed, if it did.
    pub error: Option<Masked>,
    /// When the first check in a row failed.
    #[serde(default)]
    pub failing_since: Option<u64>,
    /// `None` when none is due before an operator asks.
    #[serde(default)]
    pub next_check_seconds: Option<u64>,
}

/// Where the agent of a run directory listens.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    os::control::endpoint(run_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_fits_whatever_is_in_it() {
        let long = || "\u{1}".repeat(200_000);
        let text = || Masked::from(long());
        let status = Status {
            agent_version: "2.0.0".into(),
            pid: 1,
            uptime_seconds: 1,
            collector: CollectorStatus {
                state: "running".into(),
                state_since: None,
                is_ready: true,
                pid: None,
                uptime_seconds: None,
                next_start_seconds: None,
                program: Some(long().into()),
                version: None,
                restarts: 0,
                outlives_agent: false,
            },
            config: ConfigStatus {
                path: long().into(),
                revision: None,
                revision_unknown_because: Some(text()),
                changed_by: Some(text()),
                standing: None,
                installed_at: None,
                confirmed_in_seconds: None,
                pending_revision: None,
                pending_since: None,
                rejected_revision: None,
                rejected_because: Some(text()),
                rejected_at: None,
                rejected_is_offered: false,
                rejected_kept: None,
            },
            polling: PollingStatus {
                endpoint: Some(text()),
                local_because: Some(text()),
                error: Some(text()),
                ..PollingStatus::default()
            },
            settings_problem: Some(text()),
            last_error_message: text(),
            last_error_at: None,
        };
        let outcome = Outcome::done(CheckResult::Installed, text());
        for reply in [Reply::Status(Box::new(status)), Reply::Checked(outcome), Reply::Error(text())] {
            let line = reply.line();
            assert!(line.len() <= REPLY_LIMIT && line.ends_with(b"\n"), "{}", line.len());
            assert!(line.len() > 2000, "no more is cut than has to be");
            serde_json::from_slice::<Reply>(&line).unwrap();
        }
        let outcome = Outcome::done(CheckResult::Installed, "é".repeat(4096));
        let Reply::Checked(cut) = serde_json::from_slice(&Reply::Checked(outcome).line()).unwrap() else { panic!() };
        assert_eq!(*cut.message, "é".repeat(2048));
    }
}
