//! A bell that one thread rings and another one waits for: an eventfd(2).

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::EventfdFlags;

use super::wait::Waitable;

#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    pub fn new() -> io::Result<Event> {
        Ok(Event(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes who waits, now or later.
    pub fn ring(&self) {
        // It fails only when the counter is full, and then the bell has not been heard yet.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// As if nobody had rung.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }

    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.0)
    }
}
