//! What children start and leave behind. Nothing: it is in a job that ends with its agent.

use std::time::Duration;

use super::process_id::ProcessId;

#[derive(Clone, Copy, Debug)]
pub enum Which {
    All,
    Ranked(i32),
    Before(ProcessId),
}

pub fn rank_above(_rank: i32) -> Option<i32> {
    None
}

pub fn adopt(_adopts: bool) -> bool {
    false
}

pub fn end(_which: Which, _patience: Duration) -> bool {
    false
}
