//! `stop`: asks the running agent to stop, and waits until it has.

use super::complain;
use super::status::{TIMEOUT, stranger};
use crate::control::client::{self, Answer};
use crate::control::{Reply, Request};
use crate::error::{Error, Exit, Result};
use crate::log::sanitize;
use crate::os::restarter;
use crate::settings::AgentPaths;

const STOP: Request = Request::Stop { progress: true };

/// What is to be done so that it stays stopped, if anything is, goes to `advise` before it is asked: in a container
/// nothing outlives the agent.
///
/// # Errors
/// Of `advise`; 69 when no agent runs, 75 when it does not answer or end, 77 when it cannot be told that it is the
/// agent.
pub fn run(agent: &AgentPaths, mut advise: impl FnMut(&str) -> Result<Exit>) -> Result<Exit> {
    // Of one that does not even answer this nobody would know whether it stops.
    let status = client::ask(agent, Request::Status, TIMEOUT)?;
    let mut say = |advice: &str| advise(&format!("{}\n", sanitize::line(advice)));
    let after = match &status {
        Answer::Reply(Reply::Status(status)) => restarter::after_stop_of(status.pid, Exit::Stopped.code()).advice,
        _ => None,
    };
    let (mut advised, mut has_said_how_long) = (after.map(|advice| say(&advice)), false);
    let mut answer = client::wait(agent, STOP, TIMEOUT, &mut |waiting| {
        has_said_how_long = true;
        if let (None, Some(advice)) = (&advised, waiting.advice) {
            advised = Some(say(&advice));
        }
    });
    if !has_said_how_long && answer.as_ref().is_err_and(|error| error.exit() == Exit::TryAgain) {
        // An earlier version, which has heard it: it is asked again only to learn of its end.
        let longest = agent.stop_timeout + TIMEOUT;
        complain(&format!("the agent is stopping; it may take {longest:?}, by the stop-timeout of its settings"));
        answer = match client::ask(agent, STOP, longest) {
            Err(error) if error.exit() == Exit::Unavailable => return Ok(Exit::Done),
            answer => answer,
        };
    }
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
