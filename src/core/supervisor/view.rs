//! What the shell may ask of the state, for the log, the status and the shutdown: it changes nothing.

use super::{State, Supervisor, Trial};
use crate::core::event::Child;

/// The states as the design names them, for logs and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phrase {
    Stopped,
    Starting,
    Running,
    HandingOver,
    Stopping,
    Backoff,
}

impl<C> Supervisor<C> {
    /// The collector that new connections go to; `None` when none lives.
    pub fn serving(&self) -> Option<Child> {
        match &self.state {
            State::Starting { start, .. } => Some(start.child),
            State::Running { child, .. } => Some(*child),
            State::Stopping { leaving, .. } | State::StoppingBoth { first: leaving, .. } => Some(leaving.child),
            State::Joining { old } | State::Retreating { old, .. } => Some(old.child),
            State::Beside { old, trial: Trial::Gathering { .. }, .. } => Some(old.child),
            State::Beside { start, trial: Trial::Waiting { .. } | Trial::Probing { .. }, .. } => Some(start.child),
            State::Parting { serving, .. } => Some(serving.child),
            State::Stopped { .. }
            | State::Launching
            | State::RollingBack { .. }
            | State::Backoff { .. }
            | State::Finished => None,
        }
    }

    /// Whether this collector is to end, so that its exit is no crash.
    pub fn is_leaving(&self, child: Child) -> bool {
        match &self.state {
            State::Stopping { leaving, .. } | State::Parting { leaving, .. } => leaving.child == child,
            State::StoppingBoth { first, second } => first.child == child || second.child == child,
            State::Stopped { .. }
            | State::Launching
            | State::Starting { .. }
            | State::Running { .. }
            | State::RollingBack { .. }
            | State::Backoff { .. }
            | State::Joining { .. }
            | State::Beside { .. }
            | State::Retreating { .. }
            | State::Finished => false,
        }
    }

    pub fn phrase(&self) -> Phrase {
        match &self.state {
            State::Stopped { .. } | State::Finished => Phrase::Stopped,
            State::Launching | State::Starting { .. } => Phrase::Starting,
            State::Running { .. } => Phrase::Running,
            State::Joining { .. } | State::Beside { .. } | State::Retreating { .. } => Phrase::HandingOver,
            State::Parting { .. } => Phrase::Running,
            State::Stopping { .. } | State::StoppingBoth { .. } => Phrase::Stopping,
            State::RollingBack { .. } | State::Backoff { .. } => Phrase::Backoff,
        }
    }
}

impl Phrase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phrase::Stopped => "stopped",
            Phrase::Starting => "starting",
            Phrase::Running => "running",
            Phrase::HandingOver => "handing-over",
            Phrase::Stopping => "stopping",
            Phrase::Backoff => "backoff",
        }
    }
}
