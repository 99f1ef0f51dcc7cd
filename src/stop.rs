//! `stop`: asks the running agent to stop, and waits until it has.

use std::path::Path;
use std::time::Duration;

use crate::control::{Reply, Request, client};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::lock::Lock;

/// The longest `stop-timeout` is an hour; the agent's own is not known here.
const LONGEST: Duration = Duration::from_secs(3600 + 60);

/// # Errors
/// 69 when no agent runs, 75 when it does not end.
pub fn run(run_dir: &Path) -> Result<Exit> {
    match client::ask(run_dir, Request::Stop, LONGEST)? {
        Some(Reply::Stopped) | None => {}
        Some(reply) => return Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
    }
    // The reply is the agent's last act, and the lock goes with its process: only then may the next one start.
    Lock::wait(run_dir)?;
    Ok(Exit::Done)
}
