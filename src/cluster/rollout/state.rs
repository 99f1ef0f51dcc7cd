//! What a rollout writes into the ConfigMap, so that one that was killed is finished or undone.
//!
//! The new config, the one that it replaces, and these annotations come in one patch, which the API server takes as a
//! whole or not at all.

use crate::cluster::kubernetes::{ConfigMap, ConfigMapPatch};
use crate::config::value::Revision;
use crate::config::yaml;
use crate::core::event::Problem;

/// The revision of the config that has proved itself last.
const STABLE: &str = "kmagent.kloudmate.com/stable";
/// The revision of the config that is being tried.
const CANDIDATE: &str = "kmagent.kloudmate.com/candidate";
/// The stage of a candidate that is in place and has not proved itself.
pub const ROLLING_OUT: &str = "rolling-out";
/// How far that has come.
const STAGE: &str = "kmagent.kloudmate.com/stage";
/// The revision that was tried last and failed, and why.
const REJECTED: &str = "kmagent.kloudmate.com/rejected";
const REJECTED_REASON: &str = "kmagent.kloudmate.com/rejected-reason";
/// The value of the template's `restartedAt` that the rollout sets, and the one before it, if there was one.
const RESTARTED_AT: &str = "kmagent.kloudmate.com/restarted-at";
const RESTARTED_AT_BEFORE: &str = "kmagent.kloudmate.com/restarted-at-before";

/// Bytes of a ConfigMap's data (Kubernetes' documentation, "ConfigMaps").
const MAX_DATA: usize = 1024 * 1024;

/// Bytes of the reason in the annotation.
const MAX_REASON: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The candidate is in place, and is being observed.
    RollingOut,
    /// What it had replaced is in place again, and is being restored.
    RollingBack,
}

/// Of an unfinished rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub candidate: Revision,
    pub stage: Stage,
    pub restarted_at: String,
    pub restarted_at_before: Option<String>,
    /// Why it is rolled back.
    pub problem: Option<Problem>,
}

/// A config that was tried and failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub revision: Revision,
    pub problem: Problem,
}

impl State {
    /// `None` when no rollout is unfinished.
    pub fn of(config_map: &ConfigMap) -> Option<State> {
        let annotation = |name: &str| config_map.metadata.annotations.get(name);
        let stage = match annotation(STAGE)?.as_str() {
            ROLLING_OUT => Stage::RollingOut,
            "rolling-back" => Stage::RollingBack,
            _ => return None,
        };
        Some(State {
            candidate: annotation(CANDIDATE)?.parse().ok()?,
            stage,
            restarted_at: annotation(RESTARTED_AT)?.clone(),
            restarted_at_before: annotation(RESTARTED_AT_BEFORE).cloned(),
            problem: annotation(REJECTED_REASON).filter(|_| stage == Stage::RollingBack).cloned(),
        })
    }

    fn write(&self, patch: ConfigMapPatch) -> ConfigMapPatch {
        let stage = match self.stage {
            Stage::RollingOut => ROLLING_OUT,
            Stage::RollingBack => "rolling-back",
        };
        patch
            .annotation(CANDIDATE, Some(self.candidate.to_string()))
            .annotation(STAGE, Some(stage.to_owned()))
            .annotation(RESTARTED_AT, Some(self.restarted_at.clone()))
            .annotation(RESTARTED_AT_BEFORE, self.restarted_at_before.clone())
    }
}

impl Rejection {
    /// The last one.
    pub fn of(config_map: &ConfigMap) -> Option<Rejection> {
        let annotation = |name: &str| config_map.metadata.annotations.get(name);
        let problem = annotation(REJECTED_REASON).cloned().unwrap_or_default();
        Some(Rejection { revision: annotation(REJECTED)?.parse().ok()?, problem })
    }

    pub fn write(&self, patch: ConfigMapPatch) -> ConfigMapPatch {
        let mut problem = self.problem.clone();
        problem.truncate(problem.floor_char_boundary(MAX_REASON));
        patch.annotation(REJECTED, Some(self.revision.to_string())).annotation(REJECTED_REASON, Some(problem))
    }
}

/// The revision of what is under `key`; `None` if there is nothing, or nothing that is a config.
pub fn revision_of(config_map: &ConfigMap, key: &str) -> Option<Revision> {
    let text = config_map.data.get(key)?;
    yaml::parse(text.as_bytes()).ok().map(|value| value.revision())
}

/// Where the config is that a candidate replaces.
pub fn previous_key(key: &str) -> String {
    format!("{key}.previous")
}

/// Where a relay has a candidate (`cluster::config_map`).
fn candidate_key(key: &str) -> String {
    format!("{key}.candidate")
}

/// Puts a candidate in place, and keeps what it replaces. One that a relay had is given up.
pub fn install(config_map: &ConfigMap, key: &str, text: &str, state: &State) -> ConfigMapPatch {
    let patch = ConfigMapPatch::of(config_map).data(key, Some(text.to_owned()));
    state.write(patch.data(previous_key(key), config_map.data.get(key).cloned()).data(candidate_key(key), None))
}

/// Puts what was replaced in place again, unless somebody else has changed it meanwhile.
pub fn undo(config_map: &ConfigMap, key: &str, state: &State) -> ConfigMapPatch {
    let mut patch = ConfigMapPatch::of(config_map);
    if revision_of(config_map, key).as_ref() == Some(&state.candidate) {
        patch = patch.data(key, config_map.data.get(&previous_key(key)).cloned());
    }
    state.write(patch.data(previous_key(key), None))
}

/// Removes what only an unfinished rollout has.
pub fn end(patch: ConfigMapPatch, key: &str) -> ConfigMapPatch {
    let patch = patch.data(previous_key(key), None);
    [CANDIDATE, STAGE, RESTARTED_AT, RESTARTED_AT_BEFORE]
        .into_iter()
        .fold(patch, |patch, it| patch.annotation(it, None))
}

/// Whether the ConfigMap has room for a candidate beside what it replaces.
///
/// # Errors
/// It has not.
pub fn has_room(config_map: &ConfigMap, key: &str, text: &str) -> Result<(), Problem> {
    let previous = config_map.data.get(key).map_or(0, String::len);
    let own = [key.to_owned(), previous_key(key), candidate_key(key)];
    let others = config_map.data.iter().filter(|(name, _)| !own.contains(name));
    let others = others.map(|(_, value)| value.len()).sum::<usize>();
    // Three bytes are four digits of base64.
    let binary = config_map.binary_data.values().map(|value| value.len() / 4 * 3).sum::<usize>();
    let needed = text.len() + previous + others + binary;
    if needed <= MAX_DATA {
        return Ok(());
    }
    Err(format!(
        "it has {} bytes; with the config that it replaces and what else is in ConfigMap {} that is {needed} of at most \
         {MAX_DATA}",
        text.len(),
        config_map.metadata.name
    ))
}

/// What is in place has proved itself, whatever was thought of it before.
pub fn prove(config_map: &ConfigMap, patch: ConfigMapPatch, revision: &Revision) -> ConfigMapPatch {
    let patch = patch.annotation(STABLE, Some(revision.to_string()));
    match Rejection::of(config_map).is_some_and(|it| it.revision == *revision) {
        true => [REJECTED, REJECTED_REASON].into_iter().fold(patch, |patch, it| patch.annotation(it, None)),
        false => patch,
    }
}
