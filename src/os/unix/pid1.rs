//! Process 1 of a container: reaps what is orphaned there, passes a request to stop or reload on, and ends with the
//! agent.
//!
//! The kernel gives orphans to process 1, and only that can reap them; the agent knows the children that it started,
//! and no others. So the agent runs as a child, and process 1 does nothing but wait for signals: no clock, no file, no
//! log, no thread. When it ends the kernel kills everything that is left in the container.

use std::process;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process};

use crate::error::{Error, Exit, Result};
use crate::os::unix::sys::pid1 as signals;

/// Those that stop the agent.
const STOP: [Signal; 2] = [Signal::TERM, Signal::INT];

/// Returns at once, but in process 1: there in a child, which goes on as the agent. To be called while there is only
/// one thread.
///
/// # Errors
/// 71 when the system refuses a process.
pub fn run_as_child_of_process_one() -> Result<()> {
    if process::id() != 1 {
        return Ok(());
    }
    let refused = |error| Error::because(Exit::System, "the system refused a process for the agent", error);
    // Before there is a child, so that nothing that happens to it is missed.
    let former = signals::hold_signals().map_err(refused)?;
    match signals::fork().map_err(refused)? {
        None => {
            signals::release_signals(&former);
            Ok(())
        }
        Some(agent) => process::exit(wait_on(agent)),
    }
}

/// Until the agent has ended; the status to end with.
fn wait_on(agent: Pid) -> i32 {
    // Only for those who list processes: which of the two is which.
    let _ = rustix::thread::set_name(c"kmagent-init");
    let mut stopping = false;
    loop {
        // It fails only when it is interrupted, by SIGSTOP and SIGCONT for instance.
        let Ok(number) = signals::next_signal() else { continue };
        if number == Signal::CHILD.as_raw() {
            if let Some(status) = reap(agent) {
                return status;
            }
        } else if number == Signal::HUP.as_raw() {
            let _ = kill_process(agent, Signal::HUP);
        } else if let Some(stop) = STOP.into_iter().find(|stop| stop.as_raw() == number && !stopping) {
            // From a terminal the agent has it already, which is in the same process group; twice is no more than once.
            stopping = true;
            let _ = kill_process(agent, stop);
        }
    }
}

/// Reaps all that has ended, since one SIGCHLD may stand for several. The agent's status, as a shell gives it.
fn reap(agent: Pid) -> Option<i32> {
    let mut found = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == agent => {
                found = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return found,
        }
    }
}
