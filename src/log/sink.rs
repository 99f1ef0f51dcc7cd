//! Writes whole lines to a descriptor whose reader may be slow, gone, or stopped for good, without holding up the writer.
//!
//! Every write is preceded by poll(2) and is at most `PIPE_BUF` bytes long, which a pipe that polls writable takes without blocking
//! (pipe(7)); files always take it. The total time spent waiting is rationed. A line that does not get out in time is dropped and
//! counted, and the count is written before the next line that does. Never on stderr's own flags: they are shared with other processes.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// `PIPE_BUF` on Linux.
const CHUNK: usize = 4096;

/// Longest total wait. It is earned back at a tenth of the time that passes, so that a slow but living reader costs the writer at
/// most every tenth second.
const PATIENCE: Duration = Duration::from_millis(200);
const EARNING_DIVISOR: u32 = 10;

pub struct Sink<F> {
    fd: F,
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

impl<F: AsFd> Sink<F> {
    pub fn new(fd: F) -> Sink<F> {
        Sink { fd, is_stalled: false, patience: PATIENCE, earned_at: Instant::now(), is_torn: false, dropped: 0 }
    }

    /// Writes `line`, which ends with a newline, or counts it as dropped. `report` renders the line that tells of dropped ones.
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
            match rustix::io::write(&self.fd, chunk) {
                Err(Errno::INTR) => {}
                // Of a non-blocking descriptor that polls writable and yet is not: to ask again would spin.
                Err(_) | Ok(0) => return None,
                Ok(written) => return Some(written),
            }
        }
    }

    /// Waits for the reader as long as it has credit.
    fn is_writable(&mut self) -> bool {
        if self.poll(Duration::ZERO) {
            return true;
        }
        if self.is_stalled {
            return false;
        }
        let started_at = Instant::now();
        let patience = self.credit(started_at);
        let is_writable = self.poll(patience);
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

    /// An error condition counts as writable: the write reports it. A signal ends the wait early, which errs on the side of dropping.
    fn poll(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        matches!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(ready) if ready > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read};

    use super::*;

    fn report(count: u64) -> String {
        format!("dropped {count}\n")
    }

    /// A sink on a pipe that takes two chunks.
    fn small_pipe() -> (PipeReader, Sink<PipeWriter>) {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, 2 * CHUNK).unwrap();
        (reader, Sink::new(writer))
    }

    fn drain(reader: &mut PipeReader, amount: usize) -> String {
        let mut text = vec![0; amount];
        reader.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn full_line(c: char) -> String {
        c.to_string().repeat(CHUNK - 1) + "\n"
    }

    #[test]
    fn a_stopped_reader_costs_one_wait_and_is_told_how_much_it_missed() {
        let (mut reader, mut sink) = small_pipe();
        sink.write(&full_line('a'), report);
        sink.write(&full_line('b'), report);
        assert_eq!(sink.patience, PATIENCE, "a pipe with room made it wait");
        let started_at = Instant::now();
        sink.write("c\n", report);
        assert!(started_at.elapsed() >= PATIENCE, "{:?}", started_at.elapsed());
        let waited_until = sink.earned_at;
        for _ in 0..1000 {
            sink.write("d\n", report);
        }
        assert_eq!(sink.earned_at, waited_until, "it waited again");
        assert_eq!(drain(&mut reader, 2 * CHUNK), full_line('a') + &full_line('b'));
        sink.write("e\n", report);
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "dropped 1001\ne\n");
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_one() {
        let (mut reader, mut sink) = small_pipe();
        sink.write(&("x".repeat(3 * CHUNK) + "\n"), report);
        assert_eq!(drain(&mut reader, 2 * CHUNK), "x".repeat(2 * CHUNK));
        sink.write("next\n", report);
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "\ndropped 1\nnext\n");
    }

    #[test]
    fn a_slow_reader_loses_nothing() {
        let (mut reader, mut sink) = small_pipe();
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        let line = "y".repeat(16 * CHUNK) + "\n";
        sink.write(&line, report);
        drop(sink);
        assert!(reading.join().unwrap().unwrap() == line);
    }

    #[test]
    fn a_gone_reader_is_ignored() {
        let (reader, mut sink) = small_pipe();
        drop(reader);
        sink.write("a\n", report);
        sink.write("b\n", report);
        assert_eq!(sink.patience, PATIENCE, "it waited");
        assert_eq!(sink.dropped, 2);
    }

    #[test]
    fn a_slow_reader_earns_patience_back_at_a_tenth() {
        let (_reader, mut sink) = small_pipe();
        sink.write(&full_line('a'), report);
        sink.write(&full_line('b'), report);
        sink.write("c\n", report);
        assert_eq!(sink.patience, Duration::ZERO);
        for (seconds, milliseconds) in [(0, 0), (1, 100), (2, 200), (3600, 200)] {
            let later = sink.earned_at + Duration::from_secs(seconds);
            assert_eq!(sink.credit(later), Duration::from_millis(milliseconds));
        }
        // As if the reader had just woken up a second later, and had stalled again.
        sink.is_stalled = false;
        sink.earned_at -= Duration::from_secs(1);
        let started_at = Instant::now();
        sink.write("d\n", report);
        assert!(started_at.elapsed() >= Duration::from_millis(100), "{:?}", started_at.elapsed());
    }
}
