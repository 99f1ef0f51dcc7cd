//! Generations: the configs that were active, numbered, each with where it came from and how it ended, and the newest
//! rejected one.
//!
//! This is the list and what follows from it: which one is the active config, which one a roll back goes to, which
//! ones are kept. It reads and writes nothing; `files` does. Who uses the list is `Store`.

pub(super) mod files;
pub(super) mod list;
mod unread;

use serde::{Deserialize, Serialize};

use crate::config::value::Revision;
use crate::log::Masked;
use crate::os::files::FileId;

/// How many generations are kept, and how many bytes they may have together. What a roll back needs is kept besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub count: usize,
    pub bytes: u64,
}

/// A config that was active, or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Counts up; what it is called and what its file is named.
    pub number: u64,
    /// `None` of a config that is no YAML, or has not been parsed yet.
    pub revision: Option<Revision>,
    pub source: Origin,
    /// Unix seconds.
    pub installed_at: u64,
    pub standing: Standing,
    /// Which file it was when it was the active config.
    #[serde(skip)]
    pub(in crate::store) file: Option<FileId>,
    /// Its content is the active config's alone so far.
    #[serde(skip)]
    pub(in crate::store) is_unkept: bool,
    /// Whether it has a revision was found out, if it has none.
    #[serde(skip)]
    pub(in crate::store) is_parsed: bool,
}

/// Where a config came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Api,
    /// An operator wrote it.
    Hand,
    /// The one that is installed where there is none.
    Default,
    /// An earlier version of the agent kept it.
    Before,
}

/// How a config stands, or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// No verdict yet: on probation if it is active, else never installed.
    Pending {
        /// The boot of the host in which it was tried last; `None` if the agent has ended in good order since.
        boot: Option<String>,
        /// Starts of the agent that have found it so.
        starts: u32,
    },
    /// It passed its probation, and has not run for `confirm-time` yet.
    Unconfirmed {
        /// Unexpected exits since.
        exits: u32,
        /// Starts of the agent since.
        starts: u32,
    },
    Confirmed,
    /// It failed.
    RolledBack {
        problem: Masked,
    },
    /// It was never active.
    Refused {
        problem: Masked,
    },
    /// Another took its place before it had a verdict.
    Replaced,
}

/// What is known of the active config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The generation that it is; `None` of what cannot be read.
    pub generation: Option<u64>,
    pub level: TrustLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustLevel {
    Confirmed,
    Unconfirmed {
        exits: u32,
        has_fallback: bool,
    },
    /// It has not proved itself, and there is another to go back to.
    OnProbation,
    /// It has not proved itself, and there is nothing to go back to.
    NoFallback,
}

/// Why the active config is to be rolled back before its collector is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartProblem {
    /// Its exits were enough for a roll back, which an end of the agent has prevented.
    Exits(u32),
    /// The host was booted anew while it was on probation.
    Booted,
    /// So many agents have ended while it was on probation.
    Starts(u32),
}

impl Generation {
    /// It passed a probation, and has not failed since.
    pub fn is_proved(&self) -> bool {
        matches!(self.standing, Standing::Unconfirmed { .. } | Standing::Confirmed)
    }

    pub fn is_confirmed(&self) -> bool {
        self.standing == Standing::Confirmed
    }

    /// It was refused, or rolled back.
    pub fn is_rejected(&self) -> bool {
        matches!(self.standing, Standing::RolledBack { .. } | Standing::Refused { .. })
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.standing, Standing::Pending { .. })
    }
}
