//! Standard error on Windows; nothing is written yet.

use std::io;
use std::time::Duration;

use super::unsupported;

/// Where the log goes.
pub struct Stderr;

pub fn open() -> Stderr {
    Stderr
}

pub fn is_journal() -> bool {
    false
}

impl Stderr {
    /// An error condition counts as writable: the write reports it.
    pub fn is_writable(&self, _timeout: Duration) -> bool {
        true
    }

    pub fn write(&self, _bytes: &[u8]) -> io::Result<usize> {
        Err(unsupported())
    }
}
