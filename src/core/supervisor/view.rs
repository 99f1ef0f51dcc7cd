//! What the shell may ask of the state, of collectors: it changes nothing.

use super::{HandoverStage, Next, ProbationStage, State, Supervisor};
use crate::core::Uptime;
use crate::core::event::{Candidate, ChildId};

/// When a restart of the collector would take place that is asked for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartTime {
    /// At once; with a collector that runs alone and has proved itself, which may be handed over from.
    Now {
        runs: bool,
    },
    /// A start is under way.
    Underway,
    /// When it is known what becomes of the collector that was started last.
    Later,
    Never,
}

impl<C: Candidate> Supervisor<C> {
    pub fn restart_time(&self) -> RestartTime {
        match &self.state {
            State::Running { .. } => RestartTime::Now { runs: true },
            State::Stopped { .. }
            | State::Backoff { .. }
            | State::Starting { stage: ProbationStage::Failed { .. }, .. } => RestartTime::Now { runs: false },
            State::Launching | State::RollingBack { .. } | State::Stopping { next: Next::Start, .. } => {
                RestartTime::Underway
            }
            State::Starting { .. }
            | State::HandoverStarting { .. }
            | State::HandoverProbation { .. }
            | State::HandoverRollback { .. }
            | State::Draining { .. } => RestartTime::Later,
            State::Stopping { next: Next::Finish, .. } | State::StoppingBoth { .. } | State::Finished => {
                RestartTime::Never
            }
        }
    }

    /// The collector that new connections go to; `None` when none lives.
    pub fn serving(&self) -> Option<ChildId> {
        match &self.state {
            State::Starting { start, .. } => Some(start.child),
            State::Running { child, .. } => Some(*child),
            State::Stopping { terminating, .. } | State::StoppingBoth { first: terminating, .. } => {
                Some(terminating.child)
            }
            State::HandoverStarting { old } | State::HandoverRollback { old, .. } => Some(old.child),
            State::HandoverProbation {
                old,
                stage: HandoverStage::NotReady { .. } | HandoverStage::Gathering { .. },
                ..
            } => Some(old.child),
            State::HandoverProbation {
                start,
                stage: HandoverStage::Waiting { .. } | HandoverStage::Probing { .. },
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

    /// When the active config is confirmed, if its collector goes on until then; `None` if it is, or has not proved
    /// itself, or none of it runs.
    pub fn confirmed_at(&self) -> Option<Uptime> {
        match self.state {
            State::Running { .. } | State::Draining { .. } => self.confirmation.until(),
            _ => None,
        }
    }

    /// The collector that is expected to say that it is ready; `None` when none is.
    pub fn awaited(&self) -> Option<ChildId> {
        match &self.state {
            State::Starting { start, stage: ProbationStage::NotReady { .. } }
            | State::HandoverProbation { start, stage: HandoverStage::NotReady { .. }, .. } => Some(start.child),
            _ => None,
        }
    }

    /// Whether this collector is to end, so that its exit is expected.
    pub fn is_terminating(&self, child: ChildId) -> bool {
        match &self.state {
            State::Stopping { terminating, .. } | State::Draining { terminating, .. } => terminating.child == child,
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
}
