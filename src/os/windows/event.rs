//! A bell that one thread rings and another one waits for.

use std::io;

use super::unsupported;
use super::wait::Waitable;

#[derive(Debug)]
pub enum Event {}

impl Event {
    pub fn new() -> io::Result<Event> {
        Err(unsupported())
    }

    /// Wakes who waits, now or later.
    pub fn ring(&self) {
        match *self {}
    }

    /// As if nobody had rung.
    pub fn clear(&self) {
        match *self {}
    }

    pub fn waitable(&self) -> Waitable<'_> {
        match *self {}
    }
}
