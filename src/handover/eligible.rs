//! Whether two configs may run side by side (in the making).

use crate::handover::memory::Memory;
use crate::value::Value;

/// What the decision needs besides the configs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `None` when the kernel does not say.
    pub memory: Option<Memory>,
}

/// Whether collectors with these configs may overlap; each is given in the order of the `--config` arguments.
///
/// # Errors
/// Why not, in words.
pub fn may_overlap(old: &[&Value], new: &[&Value], facts: &Facts) -> Result<(), String> {
    let _ = (old, new, facts);
    Err("the rules are still to be written".to_string())
}
