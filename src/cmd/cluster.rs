//! `cluster`: the updater of a Kubernetes cluster.

use super::cli::Cli;
use super::{complain, environment, print};
#[cfg(unix)]
use super::{log_to_stderr, warn};
use crate::error::{Exit, Result};
#[cfg(unix)]
use crate::os::this_process;
use crate::settings;

/// # Errors
/// Settings that the updater cannot use.
pub fn print_settings(cli: &Cli) -> Result<Exit> {
    let (resolved, _) = settings::resolve_cluster(&cli.flags, &environment)?;
    for warning in &resolved.warnings {
        complain(&format!("warning: {warning}"));
    }
    print(&settings::print::render(&resolved.rows))
}

/// # Errors
/// Something that the updater needs is refused to it.
#[cfg(unix)]
pub fn run(cli: &Cli) -> Result<Exit> {
    this_process::hold_hangup();
    this_process::run_as_child_of_process_one()?;
    this_process::raise_open_files_limit();
    this_process::keep_from_children();
    let (resolved, cluster) = settings::resolve_cluster(&cli.flags, &environment)?;
    log_to_stderr(resolved.settings.log_level, &resolved.settings);
    warn(&resolved.warnings);
    crate::cluster::run(&resolved.settings, &cluster, super::start::seed())
}

/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn run(_: &Cli) -> Result<Exit> {
    Err(crate::error::Error::new(Exit::Usage, "cluster runs in a pod of Linux, not on this system"))
}
