//! The clock of a rollout, and its waits, which a message cuts short.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::mailbox::UpdaterCommand;
use super::rollout::{Pace, Stopped};
use crate::core::Uptime;

/// The mailbox is what a wait is cut short by.
pub struct Clock {
    pub clock: Instant,
    pub mailbox: Receiver<UpdaterCommand>,
    /// For a check of the API.
    pub is_asked: bool,
}

impl Pace for Clock {
    fn now(&self) -> Uptime {
        self.clock.elapsed()
    }

    fn pause(&mut self, duration: Duration) -> Result<(), Stopped> {
        let until = Instant::now() + duration;
        loop {
            match self.mailbox.recv_deadline(until) {
                Ok(UpdaterCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return Err(Stopped),
                Ok(UpdaterCommand::CheckNow) => self.is_asked = true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(()),
            }
        }
    }
}
