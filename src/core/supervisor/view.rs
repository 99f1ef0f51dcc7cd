//! What the shell may ask of the state, for the log, the status and the shutdown: it changes nothing.

use super::{HandoverStage, State, Supervisor};
use crate::core::event::ChildId;

/// The words that log and status have for the states (DESIGN.md, "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    Stopped,
    Starting,
    Running,
    HandingOver,
    Stopping,
    Backoff,
}

impl<C> Supervisor<C> {
    /// The collector that new connections go to; `None` when none lives.
    pub fn serving(&self) -> Option<ChildId> {
        match &self.state {
            State::Starting { start, .. } => Some(start.child),
            State::Running { child, .. } => Some(*child),
            State::Stopping { leaving, .. } | State::StoppingBoth { first: leaving, .. } => Some(leaving.child),
            State::HandoverStarting { old } | State::HandoverRollback { old, .. } => Some(old.child),
            State::HandoverProbation { old, trial: HandoverStage::Gathering { .. }, .. } => Some(old.child),
            State::HandoverProbation {
                start,
                trial: HandoverStage::Waiting { .. } | HandoverStage::Probing { .. },
                ..
            } => Some(start.child),
            State::Draining { serving, .. } => Some(serving.child),
            State::Stopped { .. }
            | State::Launching
            | State::RollingBack { .. }
            | State::Backoff { .. }
            | State::Finished => None,
        }
    }

    /// Whether this collector is to end, so that its exit is no crash.
    pub fn is_leaving(&self, child: ChildId) -> bool {
        match &self.state {
            State::Stopping { leaving, .. } | State::Draining { leaving, .. } => leaving.child == child,
            State::StoppingBoth { first, second } => first.child == child || second.child == child,
            State::Stopped { .. }
            | State::Launching
            | State::Starting { .. }
            | State::Running { .. }
            | State::RollingBack { .. }
            | State::Backoff { .. }
            | State::HandoverStarting { .. }
            | State::HandoverProbation { .. }
            | State::HandoverRollback { .. }
            | State::Finished => false,
        }
    }

    pub fn phrase(&self) -> StateName {
        match &self.state {
            State::Stopped { .. } | State::Finished => StateName::Stopped,
            State::Launching | State::Starting { .. } => StateName::Starting,
            State::Running { .. } => StateName::Running,
            State::HandoverStarting { .. } | State::HandoverProbation { .. } | State::HandoverRollback { .. } => {
                StateName::HandingOver
            }
            State::Draining { .. } => StateName::Running,
            State::Stopping { .. } | State::StoppingBoth { .. } => StateName::Stopping,
            State::RollingBack { .. } | State::Backoff { .. } => StateName::Backoff,
        }
    }
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
}
