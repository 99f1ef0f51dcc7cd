//! The agent's own process: what it was started with, and what is left of it when it dies.

use rustix::process::DumpableBehavior;

pub use super::open_files::raise_open_files_limit;
pub use super::pid1::run_as_child_of_process_one;
pub use super::sys::inherited::{default_signals, hold_hangup, keep_from_children};

/// For every mode: no core dump of this process, whatever ends it, and no tracing by others of its user
/// (PR_SET_DUMPABLE, prctl(2)). The API key is in its memory. A child gets the default back with its exec, so the
/// collector's dumps are its own affair.
pub fn leave_no_core() {
    // It fails on no kernel that runs us.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
