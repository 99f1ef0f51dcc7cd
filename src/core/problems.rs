//! What the agent knows of its collector and of the latest config, and which problem it reports.
//!
//! A problem stays until the thing that it was about works: the collector's until one has proved itself, the config's
//! until another config is active. The newest one is reported. Times are Unix seconds.

use super::event::Problem;

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
    /// The settings are invalid, and the agent was started with the last good ones.
    pub settings: Option<TimedProblem>,
}

impl Problems {
    pub fn newest(&self) -> Option<&TimedProblem> {
        let all = [&self.settings, &self.state, &self.restart, &self.collector, &self.suspended, &self.config];
        all.into_iter().flatten().max_by_key(|timed| timed.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_problem_is_reported_and_the_config_s_when_they_are_as_old() {
        let timed = |problem: &str, at| Some(TimedProblem { problem: problem.into(), at });
        let mut problems = Problems::default();
        assert_eq!(problems.newest(), None);
        problems.config = timed("config", 10);
        problems.collector = timed("collector", 20);
        assert_eq!(problems.newest().unwrap().problem, "collector");
        problems.config = timed("config", 20);
        assert_eq!(problems.newest().unwrap().problem, "config");
        problems.state = timed("state", 30);
        assert_eq!(problems.newest().unwrap().problem, "state");
    }
}
