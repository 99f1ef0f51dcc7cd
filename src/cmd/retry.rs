//! `retry`: forgets that a config is rejected, so that it is tried again if the source offers it.

use super::status::{TIMEOUT, stranger};
use crate::control::client::{self, Answer};
use crate::control::{Reply, Request};
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::os::files;
use crate::os::lock::{Lock, Role};
use crate::settings::AgentPaths;
use crate::store::record::{self, Record, Rejected};

/// What came of it, in words.
///
/// # Errors
/// As of a check. 69 when the agent cannot do this, 75 when it ends meanwhile, or does not answer in the time that it
/// says, 77 when it cannot be told that it is the agent; without one 73 when its state cannot be written.
pub fn run(agent: &AgentPaths) -> Result<Masked> {
    match client::wait(agent, Request::Retry, TIMEOUT, &mut |_| {}) {
        Ok(Answer::Reply(Reply::Checked(outcome))) => match Exit::from_code(outcome.exit).unwrap_or(Exit::Bug) {
            Exit::Done => Ok(outcome.message),
            exit => Err(Error::new(exit, &*outcome.message)),
        },
        Ok(Answer::Reply(Reply::Error(_))) => {
            let what = "the running agent is an older one, which cannot do this: restart the agent";
            Err(Error::new(Exit::Unavailable, what))
        }
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
    let _lock = Lock::take(&agent.run_dir, &agent.state_dir, Role::Check)?;
    let mut rejected: Record<Rejected> = Record::open(&agent.state_dir, record::REJECTED);
    let Some(revision) = rejected.get().map(|rejected| rejected.revision.short().to_string()) else {
        return Ok(Masked::new("no config is rejected"));
    };
    rejected.set(None)?;
    Ok(format!("config {revision} is no longer rejected: the next check tries it").into())
}
