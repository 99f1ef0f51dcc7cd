//! What a group has to remember beyond its process, and the text of a stage, as it is written down.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::PodId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<R> {
    /// The config that has proved itself; `None` before there was any.
    pub stable: Option<R>,
    pub candidate: Option<Candidate<R>>,
    /// The latest.
    pub rejected: Option<Rejection<R>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<R> {
    pub revision: R,
    pub stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection<R> {
    pub revision: R,
    /// A sentence that names the pod.
    pub reason: String,
}

/// Who may be offered a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Canary {
        /// `None`: nobody is named yet.
        pod: Option<PodId>,
        /// Canaries that vanished with it, one after another.
        vanished: u32,
    },
    /// So many pods, which were this share of those that lived when the step began.
    Step {
        percent: u8,
        pods: usize,
    },
    All,
}

impl<R> Default for Record<R> {
    fn default() -> Record<R> {
        Record { stable: None, candidate: None, rejected: None }
    }
}

impl<R: PartialEq> Record<R> {
    /// Without what contradicts itself, as a record can that others have changed.
    pub(super) fn consistent(mut self) -> Record<R> {
        let rejected = self.rejected.as_ref().map(|rejection| &rejection.revision);
        let is_idle = |it: &Candidate<R>| Some(&it.revision) == self.stable.as_ref() || Some(&it.revision) == rejected;
        if self.candidate.as_ref().is_some_and(is_idle) {
            self.candidate = None;
        }
        self
    }
}

/// `canary`, `canary POD`, `canary POD after 2 vanished`, `step 25% of 3 pods`, `all`.
impl Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Stage::Canary { pod, vanished } => {
                f.write_str("canary")?;
                if let Some(pod) = pod {
                    write!(f, " {pod}")?;
                }
                if *vanished > 0 {
                    write!(f, " after {vanished} vanished")?;
                }
                Ok(())
            }
            Stage::Step { percent, pods } => write!(f, "step {percent}% of {pods} pods"),
            Stage::All => f.write_str("all"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAStage;

impl FromStr for Stage {
    type Err = NotAStage;

    fn from_str(text: &str) -> Result<Stage, NotAStage> {
        let pod = |name: &str| Some(PodId(name.to_string()));
        let count = |text: &str| text.parse().map_err(|_| NotAStage);
        match text.split(' ').collect::<Vec<&str>>()[..] {
            ["canary"] => Ok(Stage::Canary { pod: None, vanished: 0 }),
            ["canary", "after", vanished, "vanished"] => Ok(Stage::Canary { pod: None, vanished: count(vanished)? }),
            ["canary", name] => Ok(Stage::Canary { pod: pod(name), vanished: 0 }),
            ["canary", name, "after", vanished, "vanished"] => {
                Ok(Stage::Canary { pod: pod(name), vanished: count(vanished)? })
            }
            ["step", percent, "of", pods, "pods"] => {
                let percent = percent.strip_suffix('%').and_then(|percent| percent.parse().ok()).ok_or(NotAStage)?;
                Ok(Stage::Step { percent, pods: pods.parse().map_err(|_| NotAStage)? })
            }
            ["all"] => Ok(Stage::All),
            _ => Err(NotAStage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_read_as_it_is_written() {
        let canary = |pod: Option<&str>, vanished| Stage::Canary { pod: pod.map(|pod| PodId(pod.into())), vanished };
        for (stage, text) in [
            (canary(None, 0), "canary"),
            (canary(None, 2), "canary after 2 vanished"),
            (canary(Some("0b1f-6d"), 0), "canary 0b1f-6d"),
            (canary(Some("0b1f-6d"), 1), "canary 0b1f-6d after 1 vanished"),
            (Stage::Step { percent: 25, pods: 3 }, "step 25% of 3 pods"),
            (Stage::All, "all"),
        ] {
            assert_eq!((stage.to_string().as_str(), text.parse()), (text, Ok(stage)));
        }
        for text in ["", "canary ", "canary a b", "step 25 of 3 pods", "step 256% of 3 pods", "all of them", "All"] {
            assert!(text.parse::<Stage>().is_err() || text == "canary ", "{text}");
        }
    }

    #[test]
    fn a_record_with_a_candidate_that_is_stable_or_rejected_has_none() {
        let record = |stable, rejected: Option<u32>| Record {
            stable,
            candidate: Some(Candidate { revision: 2, stage: Stage::All }),
            rejected: rejected.map(|revision| Rejection { revision, reason: String::new() }),
        };
        assert!(record(Some(1), Some(3)).consistent().candidate.is_some());
        assert!(record(Some(2), None).consistent().candidate.is_none());
        assert!(record(Some(1), Some(2)).consistent().candidate.is_none());
    }
}
