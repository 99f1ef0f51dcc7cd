//! `--check`: one config check, install included, for cron and interactive use.
//!
//! If an agent runs it is asked to check, and its outcome is shown. Otherwise the check is made here, under the same
//! lock: there is no collector of ours then, so `on-change` puts a new config into effect, and its failure rolls back.
//! Bounded in time, silent when nothing changed.

mod rollout;
mod standalone;

use std::time::Duration;

use crate::agent::check::longest;
use crate::agent::check_outcome::CheckOutcome;
use crate::control::client::{self, Answer};
use crate::control::{Outcome, Reply, Request};
use crate::core::{Jitter, supervisor::PROBE_TIMEOUT};
use crate::error::{Error, Exit, Result};
use crate::os::lock::{Lock, Role};
use crate::settings::{Polling, Settings};
pub use rollout::ON_CHANGE_TIMEOUT;
use standalone::StandaloneCheck;

/// What the agent may take besides the steps that have timeouts of their own.
pub const SLACK: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Install,
    /// Every step but the install.
    DryRun,
}

/// # Errors
/// Whatever kept the check from being made; how it came out is in the outcome.
pub fn run(settings: &Settings, extent: Extent) -> Result<Outcome> {
    // Also when there is no API: the agent looks whether an operator has put a config in place.
    let agent = match extent {
        Extent::Install => ask_agent(settings, Request::Check)?,
        Extent::DryRun => ask_agent(settings, Request::Status)?,
    };
    let is_running = match (agent, extent) {
        (Some(Reply::Checked(outcome)), Extent::Install) => return Ok(outcome),
        (Some(Reply::Status(status)), Extent::DryRun) => Some(status.collector.pid.is_some()),
        (None, _) => None,
        (Some(reply), _) => {
            return Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}")));
        }
    };
    if let Polling::Local { reason } = &settings.polling {
        return Ok(CheckOutcome::Local { reason: reason.clone() }.effects().reply);
    }
    let _lock = match extent {
        Extent::Install => {
            crate::cmd::start::make_directories(settings)?;
            Some(Lock::take(&settings.run_dir, &settings.state_dir, Role::Check)?)
        }
        Extent::DryRun => None,
    };
    StandaloneCheck::new(settings, is_running, extent)?.check()
}

/// Sleeps a random part of `splay`, so that a fleet's cron jobs do not ask in step.
pub fn wait(splay: Duration) {
    std::thread::sleep(splay.mul_f64(Jitter::new(crate::cmd::start::seed()).fraction()));
}

/// How long an agent may take for a check, the verdict on a new config included.
pub fn longest_beside_agent(settings: &Settings) -> Duration {
    longest(settings) + settings.stop_timeout + settings.start_timeout + settings.min_uptime * 2 + PROBE_TIMEOUT + SLACK
}

/// `None` when no agent runs, or one that cannot be believed: the lock tells whether there is another.
fn ask_agent(settings: &Settings, request: Request) -> Result<Option<Reply>> {
    match client::ask(&settings.agent_paths(), request, longest_beside_agent(settings)) {
        Ok(Answer::Reply(reply)) => Ok(Some(reply)),
        Ok(Answer::Stranger(why) | Answer::Refused(why)) => {
            log::warn!(reason = why.as_str(); "checking without the agent");
            Ok(None)
        }
        Ok(Answer::Ended) => Err(Error::new(Exit::TryAgain, "the agent ended during the check: try again")),
        Err(error) if error.exit() == Exit::Unavailable => Ok(None),
        Err(error) => Err(error),
    }
}
