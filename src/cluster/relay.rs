//! The pods' questions, over HTTP. Takes the place of a room that is built beside this.

use std::time::Duration;

use super::fleet::Fleet;
use super::mailbox::UpdaterCommand;
use crate::core::Uptime;
use crate::error::{Error, Exit, Result};
use crate::os::wait::Waitable;
use crate::settings::cluster::RelaySettings;

#[derive(Debug)]
pub struct Relay;

impl Relay {
    pub fn bind(_: &RelaySettings) -> Result<Relay> {
        Err(Error::new(Exit::Usage, "the relay is not built yet"))
    }

    pub fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        std::iter::empty()
    }

    pub fn deadline(&self) -> Option<Duration> {
        None
    }

    pub fn turn(&mut self, _: Uptime, _: &mut dyn FnMut(())) {}
}

pub fn answer(_: &mut Fleet, _: Uptime, (): (), _: &mut Vec<UpdaterCommand>) {}
