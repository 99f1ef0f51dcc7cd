//! A new config's way to the pods of a cluster that ask for their configs themselves: one pod first, the canary, then
//! steps, then all. A pod that rejects it halts it for all.
//!
//! A `Group` is one workload's pods. `reported` takes what a pod says when it asks and gives its answer; `handle` takes
//! what happened besides. Both order what follows. The caller has the configs themselves, writes the `Record` and tells
//! when it is written. There is no timer: what passes with time is looked at when the next pod asks, since it matters
//! to nobody before.
//!
//! ```text
//!            a pod is named    proved           proved                 proved
//!   Canary(-) ────────▶ Canary(pod) ──▶ Step(25 %) ──▶ … ──▶ All ──▶ (stable)
//!      ▲                 │      │                │             │
//!      └─────────────────┘      └─── rejected ───┴─────────────┘
//!   it vanished, or did not take it
//! ```
//! Nobody is offered a candidate beyond what the record that is written allows, so an updater that is killed goes on
//! where it was and never reaches further. After a start, and after a time in which nobody asked, `Rules::forget_after`
//! passes before further pods are offered it: then all that live have said whether they have it.

mod group;
mod pod;
mod record;
mod stages;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::fmt::{self, Display};
use std::time::Duration;

pub use group::Group;
pub use record::{Candidate, Record, Rejection, Stage};

/// A pod by what is never used again: its UID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub String);

impl Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a pod says of itself when it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReport<R> {
    /// What its collector is started with; `None` without a config.
    pub active: Option<R>,
    /// What it rejected last.
    pub rejected: Option<R>,
    /// Its newest unresolved one.
    pub problem: Option<String>,
    /// `None` if it does not say: then nothing can be known of it, and it is offered nothing.
    pub state: Option<ConfigState>,
    pub is_running: bool,
    /// Of its agent, cut to seconds; `None` if it does not say.
    pub uptime: Option<Duration>,
}

/// How far a pod is with its config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigState {
    /// It has none.
    None,
    /// It was offered another, which is not applied yet.
    Pending,
    /// It was offered another, which it could not judge yet.
    Validating,
    /// It takes no other, by an operator's wish.
    Held,
    Probation,
    Unconfirmed,
    Confirmed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `None`: a pod has proved a config when it says that it is confirmed. Else when it has run it for so long, by its
    /// reports, since it was past its probation.
    pub canary_time: Option<Duration>,
    /// Shares of the pods in percent, ascending, between the canary and all. One of 100 or more is left out: it is all.
    pub steps: Vec<u8>,
    /// How often a pod asks.
    pub interval: Duration,
    /// For a pod, from the offer until it has the config and has proved it. One that has not even taken it by then is
    /// left out; one that was well before and is not now speaks against the config. Longer than it takes to prove it.
    pub pod_deadline: Duration,
}

impl Rules {
    /// A pod that has not asked for so long is gone: two questions may fail.
    pub fn forget_after(&self) -> Duration {
        self.interval * 3 + Duration::from_secs(60)
    }

    /// When nobody has asked for so long, the pods could not, and say nothing by it.
    fn silence(&self) -> Duration {
        self.interval * 2
    }
}

/// What happened, besides the pods' questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<R> {
    /// This config is to be everybody's. The one that is on its way already, or is everybody's, is nothing new; one
    /// that was rejected is not tried, and ends the way of another.
    Offered(R),
    /// Each collector is to be started anew, once.
    RestartAsked,
    /// The order of this number was carried out.
    Persisted(u64),
    /// The record was changed by others. It is ordered to be written as it is: an order that is on its way may be
    /// carried out after the change.
    Found(Record<R>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<R> {
    /// Write this, and the config of its `stable` as what new pods begin with, at once or not at all. Tried until it is
    /// written or the next such order comes.
    Persist { order: u64, record: Record<R> },
    /// The record that is ordered with this rejects its candidate.
    Rejected(Rejection<R>),
    /// The record that is ordered with this makes its candidate everybody's.
    Promoted(R),
}

/// The answer to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<R> {
    /// Another one than it has.
    pub config: Option<R>,
    /// What is offered is to be applied at once; without an offer, the collector is to be started anew.
    pub restart: bool,
}

/// How far a group is, for log, report and `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Pods that ask.
    pub pods: usize,
    /// Of them those whose reports say too little: their agent is older or `report-extended` is not set.
    pub silent: usize,
    /// Pods that were offered the candidate, and those of them that have proved it.
    pub holding: usize,
    pub proved: usize,
    /// Why the latest canary was replaced.
    pub obstacle: Option<String>,
}
