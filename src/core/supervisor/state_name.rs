//! The words for the collector's state, as logs and `status` show them (DESIGN.md, "States"). They stand here alone.

use super::{State, Supervisor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    Stopped,
    Starting,
    Running,
    HandingOver,
    Stopping,
    Backoff,
}

impl StateName {
    pub const ALL: [StateName; 6] = [
        StateName::Stopped,
        StateName::Starting,
        StateName::Running,
        StateName::HandingOver,
        StateName::Stopping,
        StateName::Backoff,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            StateName::Stopped => "stopped",
            StateName::Starting => "starting",
            StateName::Running => "running",
            StateName::HandingOver => "handing-over",
            StateName::Stopping => "stopping",
            StateName::Backoff => "backoff",
        }
    }

    /// The API knows a collector as running or stopped; one that is starting or being replaced counts as running.
    pub fn counts_as_running(self) -> bool {
        match self {
            StateName::Starting | StateName::Running | StateName::HandingOver | StateName::Stopping => true,
            StateName::Stopped | StateName::Backoff => false,
        }
    }
}

impl<C: super::Candidate> Supervisor<C> {
    pub fn state_name(&self) -> StateName {
        match &self.state {
            State::Stopped { .. } | State::Finished => StateName::Stopped,
            State::Launching | State::Starting { .. } => StateName::Starting,
            State::Running { .. } | State::Draining { .. } => StateName::Running,
            State::HandoverStarting { .. } | State::HandoverProbation { .. } | State::HandoverRollback { .. } => {
                StateName::HandingOver
            }
            State::Stopping { .. } | State::StoppingBoth { .. } => StateName::Stopping,
            State::RollingBack { .. } | State::Backoff { .. } => StateName::Backoff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StateName;

    /// The words are an interface.
    #[test]
    fn every_state_name_has_a_word_and_counts_as_running_or_not() {
        let words = StateName::ALL.map(|name| (name.as_str(), name.counts_as_running()));
        assert_eq!(
            words,
            [
                ("stopped", false),
                ("starting", true),
                ("running", true),
                ("handing-over", true),
                ("stopping", true),
                ("backoff", false),
            ]
        );
    }
}
