//! How long to wait before a collector that keeps failing is started again.
//!
//! It owns the delay alone; when a failure counts as one is the supervisor's business.

use std::time::Duration;

use super::Jitter;

/// Delay after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// No delay is longer, before jitter.
pub const CAP: Duration = Duration::from_secs(60);
/// In either direction, so that a fleet does not restart in step.
pub const JITTER_PERCENT: u32 = 20;

/// 1 s, 2 s, 4 s … 60 s, each ±20 %.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    jitter: Jitter,
}

impl Backoff {
    pub fn new(seed: u64) -> Backoff {
        Backoff { next: FIRST, jitter: Jitter::new(seed) }
    }

    /// The delay for the failure that just happened; the one after it will be twice as long.
    pub fn fail(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(CAP);
        self.jitter.spread(delay, JITTER_PERCENT)
    }

    /// The collector was up long enough: the next failure is a first one again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_within_jitter_and_starts_over_after_a_reset() {
        let mut backoff = Backoff::new(42);
        for base in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0] {
            let delay = backoff.fail().as_secs_f64();
            assert!((base * 0.8..=base * 1.2).contains(&delay), "{delay} for {base}");
        }
        backoff.reset();
        assert!(backoff.fail().as_secs_f64() <= 1.2);
    }
}
