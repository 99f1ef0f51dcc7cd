//! The agent's own process: what it was started with, and what is left of it when it dies. None of it has a meaning
//! here.

use crate::error::Result;

pub fn leave_no_core() {}

/// There is no process 1.
pub fn run_as_child_of_process_one() -> Result<()> {
    Ok(())
}

pub fn default_signals() {}

pub fn hold_hangup() {}

/// There is no such limit.
pub fn raise_open_files_limit() {}

/// A child inherits the handles that it is given, and no others.
pub fn keep_from_children() {}
