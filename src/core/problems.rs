//! What the agent knows of its collector and of the latest config, and which problem it reports.
//!
//! A problem stays until the thing that it was about works: the collector's until one has proved itself (but see
//! `late_exits`), the config's until another config is active. The newest one is reported. Times are Unix seconds.

/// What went wrong, in a `T`, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedProblem<T> {
    pub problem: T,
    pub at: u64,
}

/// The unresolved problems, one of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems<T> {
    /// It crashed, is not healthy, or cannot be started.
    pub collector: Option<TimedProblem<T>>,
    /// It has proved itself, and its health check does not answer 200 any more.
    pub health: Option<TimedProblem<T>>,
    /// A config was refused, rolled back or could not be installed.
    pub config: Option<TimedProblem<T>>,
    /// The agent's own files: a generation, their list or the rejected revision could not be kept.
    pub state: Option<TimedProblem<T>>,
    /// `status`, `stop` and the next agent may not find this one, or its collector.
    pub run_dir: Option<TimedProblem<T>>,
    /// A restart that the API asks for cannot be dared.
    pub restart: Option<TimedProblem<T>>,
    /// The collector lives and is not let run.
    pub suspended: Option<TimedProblem<T>>,
    /// The settings are invalid, and the agent was started with the last good ones.
    pub settings: Option<TimedProblem<T>>,
}

impl<T> Default for Problems<T> {
    fn default() -> Problems<T> {
        Problems {
            collector: None,
            health: None,
            config: None,
            state: None,
            run_dir: None,
            restart: None,
            suspended: None,
            settings: None,
        }
    }
}

impl<T> Problems<T> {
    pub fn newest(&self) -> Option<&TimedProblem<T>> {
        let collector = [&self.collector, &self.health, &self.suspended];
        let own = [&self.settings, &self.run_dir, &self.state, &self.restart];
        let all = own.into_iter().chain(collector).chain([&self.config]);
        all.into_iter().flatten().max_by_key(|timed| timed.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_problem_is_reported_and_the_config_s_when_they_are_as_old() {
        let timed = |problem, at| Some(TimedProblem { problem, at });
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
