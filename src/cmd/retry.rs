//! `retry`: forgets that a config is rejected, so that it is tried again if the source offers it.

use std::time::Duration;

use super::status::stranger;
use crate::control::client::{self, Answer};
use crate::control::{Reply, Request};
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::os::files;
use crate::os::lock::Lock;
use crate::settings::AgentPaths;
use crate::store::record::{self, Record, Rejected};

/// The agent's own timeouts, which bound it, are not known here: each is an hour at most.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// What came of it, in words.
///
/// # Errors
/// As of a check. 75 when the agent ends meanwhile, 77 when it cannot be told that it is the agent; without one 73
/// when its state cannot be written.
pub fn run(agent: &AgentPaths) -> Result<Masked> {
    match client::ask(agent, Request::Retry, LONGEST) {
        Ok(Answer::Reply(Reply::Checked(outcome))) => match Exit::from_code(outcome.exit).unwrap_or(Exit::Bug) {
            Exit::Done => Ok(outcome.message),
            exit => Err(Error::new(exit, &*outcome.message)),
        },
        Ok(Answer::Reply(reply)) => {
            Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}")))
        }
        Ok(Answer::Stranger(who)) => Err(stranger(&who)),
        Ok(Answer::Refused(why)) => Err(Error::new(Exit::Denied, why)),
        Ok(Answer::Ended) => Err(Error::new(Exit::TryAgain, "the agent ended during the check: try again")),
        Err(error) if error.exit() == Exit::Unavailable => forget(agent),
        Err(error) => Err(error),
    }
}

/// Without an agent: the next one, or the next `--check`, tries it.
fn forget(agent: &AgentPaths) -> Result<Masked> {
    files::make_private_directory(&agent.run_dir)
        .map_err(|error| Error::because(Exit::CannotWrite, "cannot make the run directory", error))?;
    let _lock = Lock::take(&agent.run_dir, &agent.state_dir)?;
    let mut rejected: Record<Rejected> = Record::open(&agent.state_dir, record::REJECTED);
    let Some(revision) = rejected.get().map(|rejected| rejected.revision.short().to_string()) else {
        return Ok(Masked::new("no config is rejected"));
    };
    rejected.set(None)?;
    Ok(format!("config {revision} is no longer rejected: the next check tries it").into())
}
