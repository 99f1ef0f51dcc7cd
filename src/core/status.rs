//! What the agent knows of its collector and of the latest config, and which problem it reports.
//!
//! A problem stays until the thing that it was about works: the collector's until one has proved itself, the config's until
//! another config is in force. The newest one is reported. Times are Unix seconds.

use super::event::Problem;
use super::supervisor::Phrase;

/// What went wrong, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub problem: Problem,
    pub at: u64,
}

/// The unresolved problems, one of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// It crashed, is not healthy, or cannot be started.
    pub collector: Option<Noted>,
    /// A config was refused, rolled back or could not be installed.
    pub config: Option<Noted>,
    /// The agent's own files: the last known good or the rejected revision could not be kept.
    pub state: Option<Noted>,
    /// A restart that the API asks for cannot be dared.
    pub restart: Option<Noted>,
    /// The collector lives and is not let run.
    pub suspended: Option<Noted>,
}

impl Problems {
    pub fn newest(&self) -> Option<&Noted> {
        let all = [&self.state, &self.restart, &self.collector, &self.suspended, &self.config];
        all.into_iter().flatten().max_by_key(|noted| noted.at)
    }
}

/// The API knows a collector as running or stopped; one that is starting or being replaced counts as running.
pub fn counts_as_running(phrase: Phrase) -> bool {
    match phrase {
        Phrase::Starting | Phrase::Running | Phrase::HandingOver | Phrase::Stopping => true,
        Phrase::Stopped | Phrase::Backoff => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_problem_is_reported_and_the_config_s_when_they_are_as_old() {
        let noted = |problem: &str, at| Some(Noted { problem: problem.into(), at });
        let mut problems = Problems::default();
        assert_eq!(problems.newest(), None);
        problems.config = noted("config", 10);
        problems.collector = noted("collector", 20);
        assert_eq!(problems.newest().unwrap().problem, "collector");
        problems.config = noted("config", 20);
        assert_eq!(problems.newest().unwrap().problem, "config");
        problems.state = noted("state", 30);
        assert_eq!(problems.newest().unwrap().problem, "state");
    }

    #[test]
    fn a_collector_that_is_on_its_way_counts_as_running() {
        use Phrase::*;
        for phrase in [Starting, Running, HandingOver, Stopping] {
            assert!(counts_as_running(phrase), "{phrase:?}");
        }
        assert!(!counts_as_running(Stopped) && !counts_as_running(Backoff));
    }
}
