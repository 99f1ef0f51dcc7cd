//! How long to wait before a collector that keeps failing is started again.
//!
//! It counts failures in a window of time: an exit now and then is followed by a start at once, a crash loop slows
//! down. What a failure is is the supervisor's business.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Jitter, Uptime};

/// Failures that are longer ago do not count.
pub const WINDOW: Duration = Duration::from_secs(10 * 60);
/// Delay after the second failure in the window.
const FIRST: Duration = Duration::from_secs(1);
/// No delay is longer, before jitter.
pub const CAP: Duration = Duration::from_secs(60);
/// More failures make no delay longer: 2^6 s is above the cap.
const MAX_COUNT: u32 = 8;
/// In either direction, so that a fleet does not restart in step.
pub const JITTER_PERCENT: u32 = 20;

/// None, 1 s, 2 s, 4 s … 60 s, each ±20 %.
#[derive(Debug)]
pub struct Backoff {
    /// The latest failures, oldest first.
    failed_at: VecDeque<Uptime>,
    jitter: Jitter,
}

impl Backoff {
    pub fn new(seed: u64) -> Backoff {
        Backoff { failed_at: VecDeque::new(), jitter: Jitter::new(seed) }
    }

    /// The delay after an unexpected exit; after the first one in the window there is none.
    pub fn after_exit(&mut self, now: Uptime) -> Duration {
        let count = self.count(now);
        self.delay(count)
    }

    /// The delay after a start or a roll back that could not be made, which would not succeed at once.
    pub fn after_failure(&mut self, now: Uptime) -> Duration {
        let count = self.count(now) + 1;
        self.delay(count)
    }

    /// Another config is active: what its predecessor did says nothing about it.
    pub fn reset(&mut self) {
        self.failed_at.clear();
    }

    /// Failures in the window, with the one that just happened.
    fn count(&mut self, now: Uptime) -> u32 {
        self.failed_at.retain(|at| now < *at + WINDOW);
        if self.failed_at.len() >= MAX_COUNT as usize {
            self.failed_at.pop_front();
        }
        self.failed_at.push_back(now);
        self.failed_at.len() as u32
    }

    fn delay(&mut self, count: u32) -> Duration {
        let delay = match count {
            0 | 1 => return Duration::ZERO,
            2.. => (FIRST * (1 << (count - 2).min(MAX_COUNT))).min(CAP),
        };
        self.jitter.spread(delay, JITTER_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_about(delay: Duration, base: f64) {
        assert!((base * 0.8..=base * 1.2).contains(&delay.as_secs_f64()), "{delay:?} for {base}");
    }

    /// A collector that dies seven seconds after each start.
    #[test]
    fn the_first_exit_costs_nothing_and_each_further_one_in_the_window_twice_as_much() {
        let mut backoff = Backoff::new(42);
        let mut now = Duration::from_secs(1000);
        for base in [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0] {
            now += Duration::from_secs(7);
            let delay = backoff.after_exit(now);
            assert_about(delay, base);
            now += delay;
        }
        // Ten minutes later all are out of the window.
        assert_eq!(backoff.after_exit(now + WINDOW), Duration::ZERO);
    }

    #[test]
    fn an_exit_now_and_then_is_followed_by_a_start_at_once() {
        let mut backoff = Backoff::new(42);
        for hour in 0..24 {
            assert_eq!(backoff.after_exit(Duration::from_secs(hour * 3600)), Duration::ZERO);
        }
        // Two in the window, for as long as it goes on.
        for count in 0..24 {
            let delay = backoff.after_exit(Duration::from_secs(100_000 + count * 599));
            assert_about(delay, if count == 0 { 0.0 } else { 1.0 });
        }
    }

    #[test]
    fn what_cannot_be_started_is_not_tried_again_at_once() {
        let mut backoff = Backoff::new(42);
        let mut now = Duration::ZERO;
        for base in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0] {
            let delay = backoff.after_failure(now);
            assert_about(delay, base);
            now += delay;
        }
        backoff.reset();
        assert_about(backoff.after_failure(now), 1.0);
        assert_about(backoff.after_exit(now), 1.0);
    }
}
