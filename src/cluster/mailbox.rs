//! The mailboxes of the two threads: what each sends to the other. A closed channel means stop.

use std::sync::Arc;
use std::time::Duration;

use super::config::GroupConfig;
use super::config_map::Found;
use super::news::News;
use crate::config::value::Revision;
use crate::control::GroupStatus;
use crate::core::canary::Record;
use crate::log::Masked;
use crate::settings::cluster::Workload;
use crate::source::kloudmate::cluster::Extended;

/// To the main thread.
#[derive(Debug)]
pub enum ClusterEvent {
    /// What a group's ConfigMap says: at the start, or since others have changed it.
    Found(Workload, Box<Found>),
    /// A `Write` of this number is done.
    Written(Workload, u64),
    /// A check of the API ended.
    Checked(Checked),
    /// How a workload is, which is rolled out, and whether the API offers what was rejected.
    RolledOut(Box<GroupStatus>, bool),
    /// What is wrong at the API server; `None` when all is well again.
    Trouble(Workload, Option<Masked>),
    /// The updater panicked, which is our own bug.
    UpdaterEnded,
}

#[derive(Debug)]
pub struct Checked {
    pub result: Result<Answer, Masked>,
    pub next_check_in: Option<Duration>,
}

/// What the API asks for.
#[derive(Debug, Default)]
pub struct Answer {
    pub restart: bool,
    pub offers: Vec<(Workload, Result<Arc<GroupConfig>, Refused>)>,
}

/// An offer that no collector can run, or no ConfigMap hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub revision: Revision,
    /// Why, in a sentence.
    pub problem: String,
}

/// To the updater thread.
#[derive(Debug)]
pub enum UpdaterCommand {
    Write(Write),
    /// What the next report says.
    Report(Report),
    /// The ConfigMaps are to be looked at.
    Read,
    /// A check of the API now.
    CheckNow,
    Stop,
}

/// A record that is to be written before anything comes of it.
#[derive(Clone, Debug)]
pub struct Write {
    pub workload: Workload,
    pub order: u64,
    pub record: Record<Revision>,
    /// Those that the record names, as far as they are known.
    pub configs: Vec<Arc<GroupConfig>>,
    /// What is told once it is written.
    pub news: Vec<News>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub collector_version: String,
    pub is_running: bool,
    pub extended: Extended,
}
