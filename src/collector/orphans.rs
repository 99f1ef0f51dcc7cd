//! Processes that an earlier agent of this run directory left behind: they are ended before the first start.
//!
//! A collector gets SIGTERM when its agent dies, however that dies; one that ignores the signal, or has forked what
//! does, would keep its ports and send everything twice. They are known by the variable that each collector is started
//! with. The caller holds the lock, so no agent lives that they could belong to.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::os::orphans::{self, Orphan};
use crate::os::wait::{Waitable, wait};

/// Names the run directory in the environment of each collector.
pub const VARIABLE: &str = "KM_AGENT_RUN_DIR";
/// The kernel sent them SIGTERM when their agent died; this is the time to send their data, the default of
/// stop-timeout.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends them: SIGTERM, `stop_timeout` or half a minute, SIGKILL.
pub fn end(run_dir: &Path, stop_timeout: Duration) {
    let mut left = orphans::find(VARIABLE, run_dir.as_os_str());
    if left.is_empty() {
        return;
    }
    let pids: Vec<u32> = left.iter().map(Orphan::id).collect();
    log::warn!(pids:? = pids; "terminating processes that a killed agent left behind");
    left.iter().for_each(Orphan::ask_to_end);
    await_end(&mut left, stop_timeout.min(PATIENCE));
    left.iter().for_each(Orphan::kill);
    await_end(&mut left, PATIENCE);
    for orphan in left {
        log::error!(
            pid = orphan.id();
            "a process that a killed agent left behind does not exit: kill it, or reboot"
        );
    }
}

/// Keeps those that are still there after `patience`.
fn await_end(left: &mut Vec<Orphan>, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !left.is_empty() && Instant::now() < deadline {
        let sources: Vec<Waitable<'_>> = left.iter().map(Orphan::waitable).collect();
        // Whatever it says, each is looked at.
        let _ = wait(&sources, Some(deadline));
        left.retain(|orphan| !orphan.has_ended());
    }
}
