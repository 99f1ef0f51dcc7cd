//! Which configs may be put into effect by a hand-over, and whether a hand-over that failed speaks against its config.
//!
//! A collector that fails beside another one may fail because of that one: it could not have a port or a lock, or could
//! not be given connections at all. Such a config is not rejected. It is remembered, and applied by restart when it is
//! offered again. What a failure was is a fact of the event; nothing here reads a problem's words.

use crate::core::event::{Blame, ExitCause, PortHolder, RestartReason};

#[derive(Debug)]
pub(super) struct Activation<R> {
    /// The latest config that was ordered to be installed where a hand-over was possible.
    latest: Option<R>,
    /// The latest one to which a hand-over failed that may not have been its fault.
    restart_only: Option<R>,
}

impl<R> Default for Activation<R> {
    fn default() -> Activation<R> {
        Activation { latest: None, restart_only: None }
    }
}

impl<R: Clone + PartialEq> Activation<R> {
    /// A config is to be installed while a proved collector runs alone: whether it may be handed over to.
    pub(super) fn installs(&mut self, revision: R) -> Result<(), RestartReason> {
        let is_restart_only = self.restart_only.as_ref() == Some(&revision);
        self.latest = Some(revision);
        if is_restart_only { Err(RestartReason::HandOverFailed) } else { Ok(()) }
    }

    /// The hand-over to the latest config has failed.
    pub(super) fn failed(&mut self, blame: Blame) {
        if blame == Blame::HandOver {
            self.restart_only.clone_from(&self.latest);
        }
    }
}

/// What is to blame for the exit of a new collector beside the old one.
pub(super) fn blame_for_exit(cause: ExitCause, is_ready: bool) -> Blame {
    match cause {
        ExitCause::PortInUse(PortHolder::OtherCollector) | ExitCause::LockTimeout => Blame::HandOver,
        // Where that cannot be seen, it is as likely the other collector as any other process.
        ExitCause::PortInUse(PortHolder::Unknown) => Blame::HandOver,
        _ => blame_for_exit_alone(cause, is_ready),
    }
}

/// The same of one that was alone: no other collector can have been in its way.
///
/// What it named when it was ready it may have broken itself; a port that another process has it never had.
pub(super) fn blame_for_exit_alone(cause: ExitCause, is_ready: bool) -> Blame {
    match cause {
        ExitCause::PortInUse(PortHolder::OtherProcess) => Blame::Environment,
        ExitCause::Environment if !is_ready => Blame::Environment,
        _ if !is_ready => Blame::Start,
        ExitCause::PortInUse(_) | ExitCause::LockTimeout | ExitCause::Environment | ExitCause::Unrelated => {
            Blame::Config
        }
    }
}
