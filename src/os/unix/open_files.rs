//! The soft limit on open files (RLIMIT_NOFILE, getrlimit(2)): the agent's own is raised, its children's is not.
//!
//! A hand-over takes descriptors for what a collector listens on, and a soft limit is low (1024) for the sake of
//! programs that use select(2), which the agent does not. What it starts may, and Go raises its own.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What this process was started with; empty unless it has raised its own.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one. That it cannot be done is no failure.
pub fn raise_open_files_limit() {
    let inherited = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: inherited.maximum, maximum: inherited.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        let _ = INHERITED.set(inherited);
    }
}

/// Of the limits that a child is to have again: `None` when it has them.
pub(super) fn inherited() -> Option<Rlimit> {
    INHERITED.get().cloned()
}
