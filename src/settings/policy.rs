//! The policy: what a setting names, or what is found beside the settings file.
//!
//! It reads the policy file; what the rules mean is for `config::policy`. A file that cannot be read, or has anything
//! wrong with it, is a problem: it never means a lesser policy. A start with the last good settings goes on, with a
//! policy that refuses whatever is offered.

use std::path::{Path, PathBuf};

use super::precedence::{Layers, ResolvedValue};
use super::{file, parse, table};
use crate::config::policy::Policy;
use crate::config::yaml;
use crate::os::files::Usage;

/// How each problem of the policy file begins.
pub const CANNOT_READ_POLICY: &str = "cannot read the policy";
/// As for the settings.
const MAX_BYTES: u64 = 64 * 1024;

/// The policy that holds, and the file for more rules, whether it exists or not.
pub fn choose(from: &mut Layers<'_>) -> (Policy, PathBuf) {
    let beside = from.beside_settings_file("policy.yaml");
    if from.is_policy_lost() {
        let cause = "the bad settings file does not say beyond doubt which policy holds";
        return or_problem(from, beside, Err(cause.to_string()));
    }
    let policy = match from.winner("policy", path_or_none) {
        Some(ResolvedValue { value: None, text, origin }) => {
            from.row("policy", &text, &origin.to_string());
            Ok(Policy::none())
        }
        Some(ResolvedValue { value: Some(path), origin, .. }) => {
            from.row("policy", &path.display().to_string(), &origin.to_string());
            if !from.may_use("policy", &path, Usage::Read) {
                return (Policy::refusing(), path);
            }
            let missing = || Err("it does not exist: write it, or fix policy".to_string());
            let policy = read(&path).and_then(|policy| policy.map_or_else(missing, Ok));
            return or_problem(from, path, policy);
        }
        None => match read(&beside) {
            Ok(None) => {
                let meaning = table::find("policy").and_then(|setting| setting.fallback.meaning());
                from.row("policy", &format!("({})", meaning.unwrap_or_default()), "default");
                Ok(Policy::default())
            }
            found => {
                from.row("policy", &beside.display().to_string(), "default");
                found.map(Option::unwrap_or_default)
            }
        },
    };
    or_problem(from, beside, policy)
}

fn path_or_none(text: &str) -> Result<Option<PathBuf>, String> {
    if text == "none" { Ok(None) } else { parse::path(text).map(Some) }
}

/// `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Policy>, String> {
    let Some((text, others)) = file::read_to_obey(path, MAX_BYTES)? else { return Ok(None) };
    if let Some(others) = others {
        return Err(format!("root does not obey it, as another user can change it: {}", others.reason));
    }
    let rules = yaml::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    Policy::parse(&rules).map(Some)
}

/// A failure becomes a problem, and no agent starts, but for one that has started with these settings before.
fn or_problem(from: &mut Layers<'_>, path: PathBuf, policy: Result<Policy, String>) -> (Policy, PathBuf) {
    let policy = policy.unwrap_or_else(|cause| {
        let problem = format!("{CANNOT_READ_POLICY}: {}: {cause}", path.display());
        if from.is_last_good() {
            from.warnings.push(format!("{problem}; refusing each new config until that is fixed"));
        } else {
            from.problem(problem);
        }
        Policy::refusing()
    });
    (policy, path)
}
