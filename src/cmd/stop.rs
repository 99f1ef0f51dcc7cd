//! `stop`: asks the running agent to stop, and waits until it has.

use std::time::Duration;

use super::status::{TIMEOUT, stranger};
use crate::control::client::{self, Answer};
use crate::control::{Reply, Request};
use crate::error::{Error, Exit, Result};
use crate::log::sanitize;
use crate::settings::AgentPaths;

/// Of an agent that does not say how long it takes, as earlier ones do not: the longest `stop-timeout` is an hour.
const LONGEST: Duration = Duration::from_secs(3600 + 60);

const STOP: Request = Request::Stop { progress: true };

/// What is to be done so that it stays stopped, if anything is, goes to `advise` at once: in a container nothing
/// outlives the agent.
///
/// # Errors
/// Of `advise`; 69 when no agent runs, 75 when it does not answer or end, 77 when it cannot be told that it is the
/// agent.
pub fn run(agent: &AgentPaths, mut advise: impl FnMut(&str) -> Result<Exit>) -> Result<Exit> {
    // Of one that does not even answer this nobody would know whether it stops.
    client::ask(agent, Request::Status, TIMEOUT)?;
    let mut advised = None;
    let answer = client::wait(agent, STOP, LONGEST, &mut |waiting| {
        if let (None, Some(advice)) = (&advised, waiting.advice) {
            advised = Some(advise(&format!("{}\n", sanitize::line(&advice))));
        }
    });
    let stopped = || advised.unwrap_or(Ok(Exit::Done));
    match answer? {
        Answer::Reply(Reply::Stopped) => stopped(),
        Answer::Reply(reply) => Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
        Answer::Stranger(who) => Err(stranger(&who)),
        Answer::Refused(why) => Err(Error::new(Exit::Denied, why)),
        Answer::Ended => match client::ask(agent, Request::Status, TIMEOUT) {
            // It was killed meanwhile, or is being killed.
            Ok(Answer::Ended) => stopped(),
            Err(error) if error.exit() == Exit::Unavailable => stopped(),
            Err(error) => Err(error),
            Ok(Answer::Refused(why)) => Err(Error::new(Exit::Denied, why)),
            Ok(Answer::Stranger(who)) => Err(stranger(&who)),
            Ok(Answer::Reply(_)) => {
                Err(Error::new(Exit::TryAgain, "an agent is still running: see `kmagent status`, or try again"))
            }
        },
    }
}
