//! Which process it is. Nothing asks yet: no child outlives its agent.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    pub started: u64,
}

impl ProcessId {
    pub fn of(_pid: u32) -> Option<ProcessId> {
        None
    }

    pub fn is_alive(self) -> bool {
        false
    }
}

pub fn boot() -> Option<String> {
    None
}
