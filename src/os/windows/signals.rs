//! What asks the agent to stop or to reload. Nothing does yet: there are no signals.

use std::io;

use super::unsupported;
use super::wait::Waitable;

#[derive(Debug)]
pub enum Signals {}

#[derive(Debug, Default)]
pub struct Arrived {
    pub stop: bool,
    pub reload: bool,
}

impl Signals {
    pub fn watch() -> io::Result<Signals> {
        Err(unsupported())
    }

    pub fn waitable(&self) -> Waitable<'_> {
        match *self {}
    }

    pub fn take(&self) -> Arrived {
        match *self {}
    }
}
