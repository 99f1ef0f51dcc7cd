//! When the next config check is due.
//!
//! One rule for every reason to check: the interval, the retry after a failure, an outcome that the server should learn
//! of, an operator who asks. It does not know what a check is.

use std::time::Duration;

use super::{Jitter, Uptime};

/// A failing API is asked at least this often.
pub const FAILURE_CAP: Duration = Duration::from_secs(15 * 60);
/// In either direction, so that a fleet does not ask in step.
pub const JITTER_PERCENT: u32 = 10;

/// What a check is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To learn of a new config.
    Poll,
    /// Only to report an outcome.
    Report,
}

#[derive(Debug)]
pub struct Cadence {
    /// `None` means only when asked.
    interval: Option<Duration>,
    /// The delay of the last failure; `None` while checks succeed.
    failing: Option<Duration>,
    next: Option<Uptime>,
    coming: Purpose,
    latest: Purpose,
    /// Of the check that brought the latest config.
    origin: Purpose,
    jitter: Jitter,
}

impl Cadence {
    /// The first check is due at once, or never by itself when there is no interval.
    pub fn new(interval: Option<Duration>, seed: u64) -> Cadence {
        Cadence {
            interval,
            failing: None,
            next: interval.map(|_| Uptime::ZERO),
            coming: Purpose::Poll,
            latest: Purpose::Poll,
            origin: Purpose::Poll,
            jitter: Jitter::new(seed),
        }
    }

    /// `None` means not before an operator asks.
    pub fn next(&self) -> Option<Uptime> {
        self.next
    }

    /// A check begins.
    pub fn began(&mut self) {
        self.latest = self.coming;
        self.coming = Purpose::Poll;
    }

    /// The check brought a config that will have an outcome.
    pub fn brought_config(&mut self) {
        self.origin = self.latest;
    }

    /// A check that began at `began_at` was answered, and is over at `now`. One that took longer than the interval,
    /// since the collector's own check hung, is not followed by the next at once, which could not report it yet.
    pub fn succeeded(&mut self, began_at: Uptime, now: Uptime) {
        self.failing = None;
        self.next = self.interval.map(|interval| {
            let pause = self.jitter.spread(interval, JITTER_PERCENT);
            if began_at + pause > now { began_at + pause } else { now + pause }
        });
    }

    /// A check failed at `now`: wait the interval, then twice as long each time, never less than the server asks for.
    pub fn failed(&mut self, now: Uptime, retry_after: Option<Duration>) {
        let Some(interval) = self.interval else {
            self.next = None;
            return;
        };
        let delay = match self.failing {
            None => interval,
            Some(last) => (last * 2).min(FAILURE_CAP).max(interval),
        };
        self.failing = Some(delay);
        let delay = self.jitter.spread(delay, JITTER_PERCENT);
        self.next = Some(now + delay.max(retry_after.unwrap_or_default()));
    }

    /// An operator asks for a check now.
    pub fn asked(&mut self, now: Uptime) {
        self.next = Some(now);
        self.coming = Purpose::Poll;
    }

    /// There is an outcome that the server should learn of now. Without an interval it is asked only when an operator
    /// asks. One extra check does not lead to another: configs that fail in turn, or one that cannot be installed,
    /// would keep host and server busy.
    pub fn concluded(&mut self, now: Uptime) {
        if self.next.is_some() && self.origin == Purpose::Poll {
            self.next = Some(now);
            self.coming = Purpose::Report;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn minutes(cadence: &Cadence, since: Uptime) -> f64 {
        (cadence.next().unwrap() - since).as_secs_f64() / 60.0
    }

    #[test]
    fn first_at_once_then_an_interval_apart_measured_from_the_beginning() {
        let mut cadence = Cadence::new(Some(MINUTE), 1);
        assert_eq!(cadence.next(), Some(Uptime::ZERO));
        cadence.succeeded(MINUTE, MINUTE + Duration::from_secs(50));
        assert!((0.9..=1.1).contains(&minutes(&cadence, MINUTE)));
    }

    #[test]
    fn a_check_that_took_longer_than_the_interval_is_followed_by_a_pause() {
        let mut cadence = Cadence::new(Some(MINUTE), 1);
        cadence.succeeded(MINUTE, MINUTE * 3);
        assert!((0.9..=1.1).contains(&minutes(&cadence, MINUTE * 3)));
        // One that took just as long likewise.
        let pause = Jitter::new(1).spread(MINUTE, JITTER_PERCENT);
        let mut cadence = Cadence::new(Some(MINUTE), 1);
        cadence.succeeded(MINUTE, MINUTE + pause);
        assert_eq!(cadence.next(), Some(MINUTE + pause * 2));
    }

    #[test]
    fn failures_double_up_to_the_cap_and_one_success_ends_them() {
        let mut cadence = Cadence::new(Some(MINUTE), 2);
        for base in [1.0, 2.0, 4.0, 8.0, 15.0, 15.0] {
            cadence.failed(MINUTE, None);
            let delay = minutes(&cadence, MINUTE);
            assert!((base * 0.9..=base * 1.1).contains(&delay), "{delay} for {base}");
        }
        cadence.succeeded(MINUTE, MINUTE);
        assert!(minutes(&cadence, MINUTE) <= 1.1);
        cadence.failed(MINUTE, None);
        assert!(minutes(&cadence, MINUTE) <= 1.1);
    }

    #[test]
    fn retry_after_is_a_lower_bound() {
        let mut cadence = Cadence::new(Some(MINUTE), 3);
        cadence.failed(MINUTE, Some(MINUTE * 30));
        assert_eq!(minutes(&cadence, MINUTE), 30.0);
        cadence.failed(MINUTE, Some(Duration::from_secs(1)));
        assert!(minutes(&cadence, MINUTE) >= 1.8);
    }

    #[test]
    fn an_interval_above_the_cap_is_kept() {
        let mut cadence = Cadence::new(Some(MINUTE * 60), 4);
        cadence.failed(MINUTE, None);
        cadence.failed(MINUTE, None);
        assert!(minutes(&cadence, MINUTE) >= 54.0);
    }

    #[test]
    fn an_outcome_is_reported_at_once_but_not_the_outcome_of_what_that_brought() {
        let mut cadence = Cadence::new(Some(MINUTE), 6);
        let mut check = |at: Uptime, brings_config: bool| {
            cadence.began();
            if brings_config {
                cadence.brought_config();
            }
            cadence.succeeded(at, at);
            cadence.concluded(at);
            cadence.next() == Some(at)
        };
        assert!(check(MINUTE, true));
        assert!(!check(MINUTE, true), "the extra check led to another one");
        assert!(check(MINUTE * 2, true), "an ordinary one");
        assert!(!check(MINUTE * 2, true));
        cadence.asked(MINUTE * 3);
        cadence.began();
        cadence.brought_config();
        cadence.concluded(MINUTE * 3);
        assert_eq!(cadence.next(), Some(MINUTE * 3), "an operator's check is an ordinary one");
    }

    #[test]
    fn without_an_interval_only_when_asked() {
        let mut cadence = Cadence::new(None, 5);
        assert_eq!(cadence.next(), None);
        cadence.concluded(MINUTE);
        assert_eq!(cadence.next(), None);
        cadence.asked(MINUTE);
        assert_eq!(cadence.next(), Some(MINUTE));
        cadence.failed(MINUTE, Some(MINUTE));
        assert_eq!(cadence.next(), None);
        cadence.asked(MINUTE);
        cadence.succeeded(MINUTE, MINUTE);
        assert_eq!(cadence.next(), None);
    }
}
