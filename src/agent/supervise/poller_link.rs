//! The supervisor's end of the two mailboxes between it and the poller. What the poller knows already is not sent
//! again.

use crate::agent::mailbox::{PollerCommand, Snapshot, SupervisorEvent};
use crate::os::wait::Waitable;
use crate::os::wake_channel::Receiver;

pub(super) struct PollerLink {
    events: Receiver<SupervisorEvent>,
    commands: crossbeam_channel::Sender<PollerCommand>,
    last_reported: Option<Snapshot>,
}

impl PollerLink {
    pub(super) fn new(
        events: Receiver<SupervisorEvent>,
        commands: crossbeam_channel::Sender<PollerCommand>,
    ) -> PollerLink {
        PollerLink { events, commands, last_reported: None }
    }

    pub(super) fn source(&self) -> Waitable<'_> {
        self.events.waitable()
    }

    /// What has arrived, and whether all senders are gone.
    pub(super) fn drain(&self) -> (Vec<SupervisorEvent>, bool) {
        self.events.drain()
    }

    pub(super) fn report(&mut self, snapshot: Snapshot) {
        if self.last_reported.as_ref() != Some(&snapshot) {
            self.last_reported = Some(snapshot.clone());
            self.send(PollerCommand::Changed(snapshot));
        }
    }

    /// A poller that is gone has said so in its own way.
    pub(super) fn send(&self, command: PollerCommand) {
        let _ = self.commands.send(command);
    }
}
