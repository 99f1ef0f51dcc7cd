//! `restart`: replaces the running collector, by hand-over where possible; so a new collector binary is taken up.

use super::reload::order;
use crate::control::Request;
use crate::error::Result;
use crate::settings::AgentPaths;

/// How it was done.
///
/// # Errors
/// 65 when the collector refuses the active config or it was rolled back, 69 when there is no config or the new
/// collector fails; else as of `order`.
pub fn run(agent: &AgentPaths) -> Result<String> {
    order(agent, Request::Restart)
}
