//! `cluster`: the updater of a Kubernetes cluster.

use super::cli::Cli;
use super::{complain, environment, print};
use crate::error::{Error, Exit, Result};
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
pub fn run(cli: Cli) -> Result<Exit> {
    let _ = cli;
    Err(Error::new(Exit::Usage, "not yet"))
}
