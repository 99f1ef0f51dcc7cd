//! `stop`: asks the running agent to stop, and waits until it has.

use std::time::Duration;

use super::status::stranger;
use crate::control::client::{self, Answer};
use crate::control::{Reply, Request};
use crate::error::{Error, Exit, Result};
use crate::settings::AgentPaths;

/// The longest `stop-timeout` is an hour; the agent's own is not known here.
const LONGEST: Duration = Duration::from_secs(3600 + 60);

/// # Errors
/// 69 when no agent runs, 75 when it does not end, 77 when it cannot be told that it is the agent.
pub fn run(agent: &AgentPaths) -> Result<Exit> {
    match client::ask(agent, Request::Stop, LONGEST)? {
        Answer::Reply(Reply::Stopped) => Ok(Exit::Done),
        Answer::Reply(reply) => Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
        Answer::Stranger(who) => Err(stranger(&who)),
        Answer::Refused(why) => Err(Error::new(Exit::Denied, why)),
        Answer::Ended => match client::ask(agent, Request::Status, LONGEST) {
            // It was killed meanwhile, or is being killed.
            Ok(Answer::Ended) => Ok(Exit::Done),
            Err(error) if error.exit() == Exit::Unavailable => Ok(Exit::Done),
            Err(error) => Err(error),
            Ok(Answer::Refused(why)) => Err(Error::new(Exit::Denied, why)),
            Ok(Answer::Stranger(who)) => Err(stranger(&who)),
            Ok(Answer::Reply(_)) => {
                Err(Error::new(Exit::TryAgain, "an agent is still running: see `kmagent status`, or try again"))
            }
        },
    }
}
