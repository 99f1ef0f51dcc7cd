//! A group's ConfigMap: what of a group is written where.
//!
//! ```yaml
//! data:
//!   agent-daemonset.yaml: …            # the config that has proved itself; what new pods begin with
//!   agent-daemonset.yaml.candidate: …  # the one on its way, as long as there is one
//! metadata:
//!   annotations:
//!     kmagent.kloudmate.com/stable: 51b157f1…          # revision of the first
//!     kmagent.kloudmate.com/candidate: 12ab34cd…       # and of the second
//!     kmagent.kloudmate.com/stage: canary 0b1f6d4c-…   # how far that is
//!     kmagent.kloudmate.com/rejected: 78f5c854…
//!     kmagent.kloudmate.com/rejected-reason: …
//! ```
//! The keys are those of the original. What else is in the ConfigMap stays.

use std::sync::Arc;

use super::config::GroupConfig;
use super::kubernetes::{ConfigMap, ConfigMapPatch};
use super::rollout::{ROLLING_OUT, previous_key};
use crate::config::value::Revision;
use crate::core::canary::{Candidate, Record, Rejection, Stage};
use crate::error::Result;
use crate::settings::cluster::Workload;

const PREFIX: &str = "kmagent.kloudmate.com/";

/// Bytes of a ConfigMap that its configs may have: the API server takes 1 MiB of data, and the annotations besides.
pub const MAX_DATA: usize = 1024 * 1024 - 1024;

/// Bytes of a reason, of the 256 KiB of all annotations.
const MAX_REASON: usize = 4096;

/// What a ConfigMap says of its group.
#[derive(Debug, Default)]
pub struct Found {
    pub record: Record<Revision>,
    pub stable: Option<Arc<GroupConfig>>,
    pub candidate: Option<Arc<GroupConfig>>,
    /// Bytes of its data that are not the group's.
    pub others: usize,
    /// What of it cannot be used; a sentence for the log.
    pub problems: Vec<String>,
}

/// Of the config, in `data`.
pub fn key(workload: Workload) -> String {
    format!("agent-{}.yaml", workload.word())
}

fn candidate_key(workload: Workload) -> String {
    key(workload) + ".candidate"
}

fn annotation(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// A candidate without its config cannot be offered, so it is none: the API offers it again, and its canary begins
/// anew.
pub fn read(map: &ConfigMap, workload: Workload) -> Found {
    let mut found = Found::default();
    let mut config = |key: &str| -> Option<Arc<GroupConfig>> {
        let text = map.data.get(key).filter(|text| !text.trim().is_empty())?;
        let kept: Result<GroupConfig> = GroupConfig::kept(text);
        kept.map(Arc::new).map_err(|error| found.problems.push(format!("{key}: {error}"))).ok()
    };
    let said = |name: &str| map.metadata.annotations.get(&annotation(name));
    // Amid a rollout, which this takes the place of, what it had replaced is what has proved itself.
    let is_rolling_out = said("stage").is_some_and(|stage| stage == ROLLING_OUT);
    let stable_key = if is_rolling_out { previous_key(&key(workload)) } else { key(workload) };
    let (stable, candidate) = (config(&stable_key), config(&candidate_key(workload)));
    let own = [key(workload), candidate_key(workload), previous_key(&key(workload))];
    let others = map.data.iter().filter(|(name, _)| !own.contains(name)).map(|(_, text)| text.len());
    found.others = others.chain(map.binary_data.values().map(String::len)).sum();
    let revision = |name: &str| said(name).and_then(|text| text.parse::<Revision>().ok());
    found.record.stable = stable.as_ref().map(|config| config.revision.clone());
    if let (Some(own), Some(said)) = (&found.record.stable, revision("stable"))
        && *own != said
        && !is_rolling_out
    {
        found.problems.push(format!("{} was changed by hand: it is taken as the config in force", key(workload)));
    }
    found.record.candidate =
        candidate.as_ref().filter(|config| revision("candidate").as_ref() == Some(&config.revision)).map(|config| {
            // A stage that cannot be read is the first one.
            let stage =
                said("stage").and_then(|text| text.parse().ok()).unwrap_or(Stage::Canary { pod: None, vanished: 0 });
            Candidate { revision: config.revision.clone(), stage }
        });
    found.record.rejected = revision("rejected").map(|revision| {
        let reason = said("rejected-reason").cloned().unwrap_or_default();
        Rejection { revision, reason }
    });
    found.candidate = candidate.filter(|_| found.record.candidate.is_some());
    found.stable = stable;
    found
}

/// What makes `map` say so. Of a config that is not given the key stays as it is, of one that there is none it goes.
pub fn patch(
    map: &ConfigMap,
    workload: Workload,
    record: &Record<Revision>,
    configs: &[Arc<GroupConfig>],
) -> ConfigMapPatch {
    let text =
        |revision: &Revision| configs.iter().find(|config| config.revision == *revision).map(|it| it.yaml.clone());
    let candidate = record.candidate.as_ref();
    let rejected = record.rejected.as_ref();
    let mut patch = ConfigMapPatch::of(map)
        .data(candidate_key(workload), candidate.and_then(|candidate| text(&candidate.revision)))
        .annotation(annotation("stable"), record.stable.as_ref().map(ToString::to_string))
        .annotation(annotation("candidate"), candidate.map(|candidate| candidate.revision.to_string()))
        .annotation(annotation("stage"), candidate.map(|candidate| candidate.stage.to_string()))
        .annotation(annotation("rejected"), rejected.map(|rejection| rejection.revision.to_string()))
        .annotation(annotation("rejected-reason"), rejected.map(|rejection| cut(&rejection.reason).to_string()));
    if let Some(text) = record.stable.as_ref().and_then(text) {
        patch = patch.data(key(workload), Some(text));
    }
    // What a rollout has left, whose place this takes.
    if map.data.contains_key(&previous_key(&key(workload))) {
        patch = patch.data(previous_key(&key(workload)), None);
    }
    for name in ["restarted-at", "restarted-at-before"].map(annotation) {
        if map.metadata.annotations.contains_key(&name) {
            patch = patch.annotation(name, None);
        }
    }
    patch
}

fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::canary::PodId;

    fn config(text: &str) -> Arc<GroupConfig> {
        Arc::new(GroupConfig::kept(text).unwrap())
    }

    /// As the API server does it.
    fn apply(map: &mut ConfigMap, patch: ConfigMapPatch) {
        for (own, changes) in [(&mut map.data, patch.data), (&mut map.metadata.annotations, patch.annotations)] {
            for (key, value) in changes {
                match value {
                    Some(value) => _ = own.insert(key, value),
                    None => _ = own.remove(&key),
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (a, b) = (config("a: 1"), config("b: 2"));
        let configs = [a.clone(), b.clone()];
        let mut map = ConfigMap::default();
        map.data.insert("start.sh".into(), "of others".into());
        let stage = Stage::Canary { pod: Some(PodId("0b1f".into())), vanished: 1 };
        let rejected = Rejection { revision: config("c: 3").revision.clone(), reason: "pod x: it crashed".into() };
        let steps = [
            Record { stable: None, candidate: Some(Candidate { revision: a.revision.clone(), stage }), rejected: None },
            Record { stable: Some(a.revision.clone()), candidate: None, rejected: Some(rejected.clone()) },
            Record {
                stable: Some(a.revision.clone()),
                candidate: Some(Candidate { revision: b.revision.clone(), stage: Stage::All }),
                rejected: Some(rejected),
            },
            Record { stable: Some(b.revision.clone()), candidate: None, rejected: None },
        ];
        for workload in Workload::ALL {
            for record in &steps {
                let change = patch(&map, workload, record, &configs);
                apply(&mut map, change);
                let found = read(&map, workload);
                assert_eq!((&found.record, &found.problems[..]), (record, &[][..]));
                assert_eq!(found.stable.map(|config| config.revision.clone()), record.stable);
                assert_eq!(found.candidate.is_some(), record.candidate.is_some());
            }
            assert_eq!((map.data["start.sh"].as_str(), map.data.len()), ("of others", 2));
            assert_eq!(map.metadata.annotations.len(), 1, "of the stable one alone");
            map.data.remove(&key(workload));
        }
    }

    /// The cluster-mode was changed amid a rollout.
    #[test]
    fn amid_a_rollout_the_config_in_force_is_what_it_had_replaced() {
        let mut map = ConfigMap::default();
        map.data.insert("agent-daemonset.yaml".into(), "a: unproved".into());
        map.data.insert("agent-daemonset.yaml.previous".into(), "a: 1".into());
        map.data.insert("start.sh".into(), "12345".into());
        for (name, value) in [("stage", ROLLING_OUT), ("restarted-at", "now"), ("candidate", "ab")] {
            map.metadata.annotations.insert(annotation(name), value.into());
        }
        let found = read(&map, Workload::DaemonSet);
        assert_eq!(found.record.stable, Some(config("a: 1").revision.clone()));
        assert!(found.record.candidate.is_none() && found.problems.is_empty(), "{:?}", found.problems);
        assert_eq!(found.others, 5);
        let change = patch(&map, Workload::DaemonSet, &found.record, &[found.stable.unwrap()]);
        apply(&mut map, change);
        assert_eq!(map.data["agent-daemonset.yaml"], "a: 1");
        assert_eq!((map.data.len(), map.metadata.annotations.len()), (2, 1), "{:?}", map.metadata.annotations);
    }

    #[test]
    fn a_config_map_of_others_is_a_group_without_a_history() {
        let mut map = ConfigMap::default();
        assert_eq!(read(&map, Workload::DaemonSet).record, Record::default());
        map.data.insert("agent-daemonset.yaml".into(), "receivers: {otlp: {}}\n".into());
        let found = read(&map, Workload::DaemonSet);
        assert_eq!(found.record.stable, found.stable.map(|config| config.revision.clone()));
        assert!(found.record.candidate.is_none() && found.problems.is_empty());
        assert_eq!(read(&map, Workload::Deployment).record, Record::default(), "the key of the other one");
    }

    #[test]
    fn what_cannot_be_used_is_named_and_left_out() {
        let (a, b) = (config("a: 1"), config("b: 2"));
        let record = Record {
            stable: Some(a.revision.clone()),
            candidate: Some(Candidate { revision: b.revision.clone(), stage: Stage::All }),
            rejected: None,
        };
        let mut map = ConfigMap::default();
        let change = patch(&map, Workload::DaemonSet, &record, &[a, b]);
        apply(&mut map, change);
        let with = |key: &str, text: &str| {
            let mut map = map.clone();
            let own = if key.starts_with(PREFIX) { &mut map.metadata.annotations } else { &mut map.data };
            own.insert(key.into(), text.into());
            read(&map, Workload::DaemonSet)
        };
        let edited = with("agent-daemonset.yaml", "a: 2");
        assert_eq!(edited.record.stable, Some(config("a: 2").revision.clone()));
        assert!(edited.problems[0].contains("changed by hand"), "{:?}", edited.problems);
        let broken = with("agent-daemonset.yaml", "a: [");
        assert!(broken.record.stable.is_none() && broken.problems[0].contains("cannot be read"));
        for (key, text) in [("agent-daemonset.yaml.candidate", "b: 3"), ("kmagent.kloudmate.com/candidate", "nonsense")]
        {
            let found = with(key, text);
            assert!(found.record.candidate.is_none() && found.candidate.is_none(), "{key}");
        }
        let stage = with("kmagent.kloudmate.com/stage", "everywhere").record.candidate.unwrap().stage;
        assert_eq!(stage, Stage::Canary { pod: None, vanished: 0 }, "no further than is known");
    }
}
