//! `reload`: has the running agent read its settings again.

use crate::control::client::{self, Answer};
use crate::control::{Reply, Request};
use crate::error::{Error, Exit, Result};
use crate::log::sanitize;
use crate::settings::AgentPaths;

use super::status::{TIMEOUT, stranger};

/// What was done, and what takes more than this.
///
/// # Errors
/// 78 when the settings cannot be used; else as of `order`.
pub fn run(agent: &AgentPaths) -> Result<String> {
    order(agent, Request::Reload)
}

/// Has the agent do something, and waits for what comes of it.
///
/// # Errors
/// 69 when no agent runs, 75 when it does not answer, 77 when it cannot be told that it is the agent; else what the
/// agent says.
pub fn order(agent: &AgentPaths, request: Request) -> Result<String> {
    match client::wait(agent, request, TIMEOUT, &mut |_| {})? {
        Answer::Reply(Reply::Done(done)) => match Exit::from_code(done.exit) {
            Some(Exit::Done) => Ok(format!("{}\n", sanitize::line(&done.message))),
            exit => Err(Error::new(exit.unwrap_or(Exit::Bug), &*done.message)),
        },
        Answer::Reply(Reply::Error(_)) => {
            let what = "the running agent is an older one, which cannot do this: restart the agent";
            Err(Error::new(Exit::Unavailable, what))
        }
        Answer::Reply(reply) => Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
        Answer::Stranger(who) => Err(stranger(&who)),
        Answer::Refused(why) => Err(Error::new(Exit::Denied, why)),
        Answer::Ended => Err(Error::new(Exit::Unavailable, "the agent ended just now: start it with `kmagent start`")),
    }
}
