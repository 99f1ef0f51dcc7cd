//! The report to a source about this host, its agent and its collector: plain data, in no wire format.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::config::value::Revision;
use crate::core::problems::TimedProblem;
use crate::log::Masked;
use crate::log::utc::Utc;

/// Bytes of a problem's text at most (DESIGN.md, "The API").
const MESSAGE_LIMIT: usize = 4096;

#[derive(Clone, Debug)]
pub struct Report<'a> {
    pub host_name: String,
    pub is_docker: bool,
    /// The agent's.
    pub uptime: Duration,
    /// Of this installation; `None` unless the extended report is asked for.
    pub instance_id: Option<String>,
    /// One that is starting counts as running.
    pub is_collector_running: bool,
    /// `vX.Y.Z`, as the collector itself says; empty if it does not.
    pub collector_version: String,
    pub collector_restarts: u64,
    /// The newest unresolved one.
    pub problem: Option<&'a TimedProblem<Masked>>,
    /// The active config's revision; `None` without one.
    pub active: Option<Revision>,
    pub rejected: Option<&'a Revision>,
    pub config_state: ConfigState,
}

/// How far the config is that the source offered last; the active one's standing where nothing else is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigState {
    /// There is no config.
    None,
    /// An offered config is not to be applied yet, or waits to be.
    Pending,
    /// An offered config could not be judged yet, or failed for what is not its fault: it is tried again.
    Validating,
    /// The active config has to prove itself.
    Probation,
    /// It has proved itself and may still be rolled back.
    Unconfirmed,
    Confirmed,
}

/// A problem with its time in front, bounded: for a report, and for `status`, which shows what is reported.
pub fn message(timed: &TimedProblem<Masked>) -> Masked {
    let text = format!("{}: {}", Utc::from(SystemTime::UNIX_EPOCH + Duration::from_secs(timed.at)), timed.problem);
    Masked::new(&text).cut(MESSAGE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_when_and_is_cut_between_characters() {
        let timed = |problem: String| TimedProblem { problem: problem.into(), at: 1_795_356_277 };
        assert_eq!(&*message(&timed("it broke".into())), "2026-11-22T14:04:37.000Z: it broke");
        let long = message(&timed("é".repeat(4000)));
        assert!(long.len() <= MESSAGE_LIMIT && long.len() > MESSAGE_LIMIT - 2);
    }
}
