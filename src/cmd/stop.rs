//! `stop`: asks the running agent to stop, and waits until it has.

use std::path::Path;
use std::time::Duration;

use crate::control::{Reply, Request, client};
use crate::error::{Error, Exit, Result};

/// The longest `stop-timeout` is an hour; the agent's own is not known here.
const LONGEST: Duration = Duration::from_secs(3600 + 60);

/// # Errors
/// 69 when no agent runs, 75 when it does not end.
pub fn run(run_dir: &Path) -> Result<Exit> {
    match client::ask(run_dir, Request::Stop, LONGEST)? {
        Some(Reply::Stopped) => Ok(Exit::Done),
        Some(reply) => Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
        None => match client::ask(run_dir, Request::Status, LONGEST) {
            // It was killed meanwhile, or is being killed.
            Ok(None) => Ok(Exit::Done),
            Err(error) if error.exit() == Exit::Unavailable => Ok(Exit::Done),
            Err(error) => Err(error),
            Ok(Some(_)) => {
                Err(Error::new(Exit::TryAgain, "an agent is still running: see `kmagent status`, or try again"))
            }
        },
    }
}
