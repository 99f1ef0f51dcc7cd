//! What the agent knows of its collector and of the latest config, and which problem it reports.
//!
//! A problem stays until the thing that it was about works: the collector's until one has proved itself, the config's until
//! another config is in force. The newest one is reported. Times are Unix seconds.

use super::event::Problem;
use super::supervisor::StateName;

/// What went wrong, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedProblem {
    pub problem: Problem,
    pub at: u64,
}

/// The unresolved problems, one of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// It crashed, is not healthy, or cannot be started.
    pub collector: Option<TimedProblem>,
    /// A config was refused, rolled back or could not be installed.
    pub config: Option<TimedProblem>,
    /// The agent's own files: the last known good or the rejected revision could not be kept.
    pub state: Option<TimedProblem>,
    /// A restart that the API asks for cannot be dared.
    pub restart: Option<TimedProblem>,
    /// The collector lives and is not let run.
    pub suspended: Option<TimedProblem>,
}

impl Problems {
    pub fn newest(&self) -> Option<&TimedProblem> {
        let all = [&self.state, &self.restart, &self.collector, &self.suspended, &self.config];
        all.into_iter().flatten().max_by_key(|noted| noted.at)
    }
}

/// The API knows a collector as running or stopped; one that is starting or being replaced counts as running.
pub fn counts_as_running(phrase: StateName) -> bool {
    match phrase {
        StateName::Starting | StateName::Running | StateName::HandingOver | StateName::Stopping => true,
        StateName::Stopped | StateName::Backoff => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_problem_is_reported_and_the_config_s_when_they_are_as_old() {
        let noted = |problem: &str, at| Some(TimedProblem { problem: problem.into(), at });
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
        use StateName::*;
        for phrase in [Starting, Running, HandingOver, Stopping] {
            assert!(counts_as_running(phrase), "{phrase:?}");
        }
        assert!(!counts_as_running(Stopped) && !counts_as_running(Backoff));
    }
}
