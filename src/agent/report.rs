//! What the API is told of this host, its agent and its collector (DESIGN.md, "The API").

use std::time::{Duration, SystemTime};

use crate::agent::mailbox::Snapshot;
use crate::core::problems::TimedProblem;
use crate::log::utc::Utc;
use crate::settings::Settings;
use crate::source::kloudmate::{self, Extended, Report, Status};
use crate::store::record::Rejected;

/// Bytes of `last_error_message` at most (DESIGN.md, "The API").
const MESSAGE_LIMIT: usize = 4096;

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Host {
    hostname: String,
    is_docker: bool,
}

impl Host {
    pub fn new(settings: &Settings) -> Host {
        Host { hostname: settings.host_name.clone(), is_docker: settings.docker_mode }
    }
}

pub fn build(host: &Host, known: &Snapshot, collector_version: String, extended: Option<Extended>) -> Report {
    Report {
        agent_status: Status::Running,
        agent_version: env!("CARGO_PKG_VERSION").to_string(),
        architecture: kloudmate::architecture().to_string(),
        collector_status: known.collector_status,
        collector_version,
        hostname: host.hostname.clone(),
        is_docker: host.is_docker,
        last_error_message: known.problem.as_ref().map(message).unwrap_or_default(),
        platform: kloudmate::platform(host.is_docker).to_string(),
        extended,
    }
}

impl From<&Rejected> for TimedProblem {
    fn from(rejected: &Rejected) -> TimedProblem {
        let problem = format!("config {} is rejected: {}", rejected.revision.short(), rejected.problem);
        TimedProblem { problem, at: rejected.at }
    }
}

/// The problem with its time in front, cut to what the API takes.
pub fn message(noted: &TimedProblem) -> String {
    let mut text = format!("{}: {}", Utc::from(SystemTime::UNIX_EPOCH + Duration::from_secs(noted.at)), noted.problem);
    if text.len() > MESSAGE_LIMIT {
        text.truncate(text.floor_char_boundary(MESSAGE_LIMIT));
    }
    text
}

/// 128 random bits in hexadecimal.
pub fn new_instance_id() -> String {
    let mut bytes = [0u8; 16];
    // It fails only where the kernel has no randomness at all; an id of zeros is one that a person will notice.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_when_and_is_cut_between_characters() {
        let noted = |problem: String| TimedProblem { problem, at: 1_795_356_277 };
        assert_eq!(message(&noted("it broke".into())), "2026-11-22T14:04:37.000Z: it broke");
        let long = message(&noted("é".repeat(4000)));
        assert!(long.len() <= MESSAGE_LIMIT && long.len() > MESSAGE_LIMIT - 2);
    }

    #[test]
    fn a_rejected_config_is_a_problem_with_its_name_and_time() {
        let revision = crate::config::value::Value::Null.revision();
        let problem = format!("config {} is rejected: boom", revision.short());
        let rejected = Rejected { revision, problem: "boom".into(), at: 7, resolved: false, collector: None };
        assert_eq!(TimedProblem::from(&rejected), TimedProblem { problem, at: 7 });
    }

    #[test]
    fn instance_ids_differ() {
        assert_eq!(new_instance_id().len(), 32);
        assert_ne!(new_instance_id(), new_instance_id());
    }
}
