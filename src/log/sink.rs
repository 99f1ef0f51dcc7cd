//! Writes whole lines to an output whose reader may be slow, gone, or suspended, without blocking the writer.
//!
//! Before every write it asks whether the output is writable, and it writes at most `PIPE_BUF` bytes, which a pipe that
//! is writable takes without blocking (pipe(7)); files always take it. The total time spent waiting is rationed. A line
//! that does not get out in time is dropped and counted, and the count is written before the next line that does.

use std::io;
use std::time::{Duration, Instant};

use crate::os::stderr::Stderr;

/// `PIPE_BUF` on Linux.
const CHUNK: usize = 4096;

/// Longest total wait. It is earned back at a tenth of the time that passes, so that a slow but living reader costs the
/// writer at most every tenth second.
const PATIENCE: Duration = Duration::from_millis(200);
const EARNING_DIVISOR: u32 = 10;

pub struct Sink {
    output: Stderr,
    /// The reader did not keep up within the patience that was left; no more waiting until a line gets out.
    is_stalled: bool,
    patience: Duration,
    /// When `patience` was last brought up to date.
    earned_at: Instant,
    /// The last thing written is a part of a line, without a newline.
    is_torn: bool,
    /// Lines lost since the last report of it.
    dropped: u64,
}

impl Sink {
    pub fn new(output: Stderr) -> Sink {
        Sink { output, is_stalled: false, patience: PATIENCE, earned_at: Instant::now(), is_torn: false, dropped: 0 }
    }

    /// Writes `line`, which ends with a newline, or counts it as dropped. `report` renders the line that tells of
    /// dropped ones.
    pub fn write(&mut self, line: &str, report: impl FnOnce(u64) -> String) {
        if self.dropped > 0 && self.put(&report(self.dropped)) {
            self.dropped = 0;
        }
        // With its report still unwritten, a later line would hide the gap.
        if self.dropped > 0 || !self.put(line) {
            self.dropped += 1;
        }
    }

    /// Whether all of `line` was written.
    fn put(&mut self, line: &str) -> bool {
        if self.is_torn && self.put_chunk(b"\n").is_none() {
            return false;
        }
        self.is_torn = false;
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let Some(written) = self.put_chunk(&rest[..rest.len().min(CHUNK)]) else { return false };
            rest = &rest[written..];
            self.is_torn = !rest.is_empty();
        }
        self.is_stalled = false;
        true
    }

    /// How much was written; `None` when it cannot be, for want of a reader (EPIPE), of room on the disk, or of time.
    fn put_chunk(&mut self, chunk: &[u8]) -> Option<usize> {
        loop {
            if !self.is_writable() {
                return None;
            }
            match self.output.write(chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Of a non-blocking descriptor that polls writable and yet is not: to ask again would spin.
                Err(_) | Ok(0) => return None,
                Ok(written) => return Some(written),
            }
        }
    }

    /// Waits for the reader as long as it has credit.
    fn is_writable(&mut self) -> bool {
        if self.output.is_writable(Duration::ZERO) {
            return true;
        }
        if self.is_stalled {
            return false;
        }
        let started_at = Instant::now();
        let patience = self.credit(started_at);
        let is_writable = self.output.is_writable(patience);
        self.earned_at = Instant::now();
        self.patience = patience.saturating_sub(self.earned_at.duration_since(started_at));
        self.is_stalled = !is_writable;
        is_writable
    }

    /// The longest wait that is due at `now`.
    fn credit(&self, now: Instant) -> Duration {
        let earned = now.duration_since(self.earned_at) / EARNING_DIVISOR;
        self.patience.saturating_add(earned).min(PATIENCE)
    }
}

#[cfg(test)]
#[cfg(unix)]
#[path = "sink_tests.rs"]
mod tests;
