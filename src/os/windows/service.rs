//! The service manager. It is not notified yet.

use std::time::Duration;

pub struct Notify;

impl Notify {
    pub fn from_env() -> Notify {
        Notify
    }

    pub fn ready(&self) {}

    pub fn status(&self, _text: &str) {}

    pub fn stopping(&self, _longest: Duration) {}

    pub fn watchdog(&self) {}

    pub fn watchdog_interval(&self) -> Option<Duration> {
        None
    }
}
