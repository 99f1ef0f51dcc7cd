//! When the next config check is due.
//!
//! One rule for every reason to check: the interval, the retry after a failure, an outcome that the server should learn
//! of, an operator who asks. It does not know what a check is.
//!
//! What many agents do at the same moment, namely start and obey a `Retry-After`, is followed by a pause that ends
//! anywhere in the interval: jitter alone would leave a fleet in step for hours.

use std::time::Duration;

use super::{Jitter, Uptime};

/// A failing API is asked at least this often.
pub const FAILURE_CAP: Duration = Duration::from_secs(15 * 60);
/// In either direction, so that a fleet that does not ask in step never begins to.
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
    /// No check has ended since the start.
    is_first: bool,
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
            is_first: true,
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
            let pause = self.pause(interval, interval, Duration::ZERO);
            if began_at + pause > now { began_at + pause } else { now + pause }
        });
    }

    /// A check failed at `now`: wait the interval, then twice as long each time, never less than the server asks for.
    /// It may ask all agents for the same: they come back spread over an interval.
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
        self.next = Some(now + self.pause(interval, delay, retry_after.unwrap_or_default()));
    }

    /// About `usual`, and not less than `least`. What many agents may do at once, the first check after a start and the
    /// first one after the time that a server names, is spread over an interval.
    fn pause(&mut self, interval: Duration, usual: Duration, least: Duration) -> Duration {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let pause = self.jitter.spread(usual, JITTER_PERCENT);
        if is_first || pause < least { least + self.jitter.anywhere(interval) } else { pause }
    }

    /// The settings are others. A check is due now if none was to come or the latest one failed; otherwise when it was
    /// due, or within the new interval: a fleet may be reloaded at once.
    pub fn reconfigured(&mut self, interval: Option<Duration>, now: Uptime) {
        let is_new = self.interval != interval;
        self.interval = interval;
        self.next = match (interval, self.next) {
            (None, _) => None,
            (Some(interval), Some(next)) if self.failing.is_none() => {
                Some(if is_new { next.min(now + self.jitter.anywhere(interval)) } else { next })
            }
            (Some(_), _) => Some(now),
        };
        self.failing = None;
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

    /// One that has made its first check.
    fn started(seed: u64) -> Cadence {
        let mut cadence = Cadence::new(Some(MINUTE), seed);
        cadence.succeeded(Uptime::ZERO, Uptime::ZERO);
        cadence
    }

    fn minutes(cadence: &Cadence, since: Uptime) -> f64 {
        (cadence.next().unwrap() - since).as_secs_f64() / 60.0
    }

    #[test]
    fn first_at_once_then_an_interval_apart_measured_from_the_beginning() {
        let mut cadence = Cadence::new(Some(MINUTE), 1);
        assert_eq!(cadence.next(), Some(Uptime::ZERO));
        cadence.succeeded(Uptime::ZERO, Uptime::ZERO);
        cadence.succeeded(MINUTE, MINUTE + Duration::from_secs(50));
        assert!((0.9..=1.1).contains(&minutes(&cadence, MINUTE)));
    }

    #[test]
    fn the_first_pause_ends_anywhere_in_the_interval() {
        for fails in [false, true] {
            let pauses: Vec<f64> = (0..1000)
                .map(|number| {
                    let mut cadence = Cadence::new(Some(MINUTE), seed(number));
                    if fails {
                        cadence.failed(MINUTE, None)
                    } else {
                        cadence.succeeded(MINUTE, MINUTE)
                    }
                    minutes(&cadence, MINUTE)
                })
                .collect();
            assert!(pauses.iter().all(|pause| *pause > 0.0 && *pause <= 1.0));
            for tenth in 0..10 {
                let count = pauses.iter().filter(|pause| (**pause * 10.0) as u32 == tenth).count();
                assert!((70..=130).contains(&count), "{count} in tenth {tenth}");
            }
        }
    }

    /// As `cmd::start` makes one, for hosts of one image that boot within a second: the same pid, times close together.
    fn seed(number: u64) -> u64 {
        (1_795_356_277_000_000_000 + number * 100_000) ^ (312 << 32)
    }

    const FLEET: u64 = 10_000;
    /// Parts of an interval in which requests are counted.
    const PARTS: usize = 12;

    /// How often a fleet that starts together asks in each part of an interval, as a multiple of the mean rate;
    /// `answer` says what comes at a time: an answer, or no answer and how long to stay away.
    fn rates(intervals: usize, answer: impl Fn(Uptime) -> Result<(), Option<Duration>>) -> Vec<f64> {
        let mut counts = vec![0; intervals * PARTS];
        for number in 0..FLEET {
            let mut cadence = Cadence::new(Some(MINUTE), seed(number));
            while let Some(now) = cadence.next() {
                let part = (now.as_secs_f64() / MINUTE.as_secs_f64() * PARTS as f64) as usize;
                let Some(count) = counts.get_mut(part) else { break };
                *count += 1;
                cadence.began();
                match answer(now) {
                    Ok(()) => cadence.succeeded(now, now),
                    Err(retry_after) => cadence.failed(now, retry_after),
                }
            }
        }
        counts.iter().map(|count| f64::from(*count) / (FLEET as f64 / PARTS as f64)).collect()
    }

    /// The most that the API is to be asked once it has been asked by all at once, as a multiple of the mean rate.
    const MOST: f64 = 1.5;

    #[track_caller]
    fn assert_spread(rates: &[f64], from_interval: usize) {
        let most = rates[from_interval * PARTS..].iter().copied().fold(0.0, f64::max);
        assert!(most <= MOST, "{most} times the mean rate: {rates:.2?}");
    }

    #[test]
    fn a_fleet_that_starts_together_does_not_stay_together() {
        let rates = rates(20, |_| Ok(()));
        assert!(rates[0] >= PARTS as f64, "each asks at once");
        assert_spread(&rates, 1);
        assert!(rates[PARTS * 2..].iter().all(|rate| *rate > 0.7), "{rates:.2?}");
    }

    /// The API is down when they start, or keeps all of them away for the same time.
    #[test]
    fn a_fleet_that_cannot_begin_does_not_come_back_together() {
        for minutes_down in [1, 3, 10, 30] {
            assert_spread(&rates(90, |now| if now < MINUTE * minutes_down { Err(None) } else { Ok(()) }), 1);
        }
        for retry_after in [10, 45, 120, 3600] {
            let busy = Err(Some(Duration::from_secs(retry_after)));
            assert_spread(&rates(90, |now| if now < MINUTE / 2 { busy } else { Ok(()) }), 1);
        }
    }

    /// An outage hits each at its own time, and those come back at times of their own. (A pause anywhere in the
    /// interval after it would ask twice as often as usual of an API that has just recovered.)
    #[test]
    fn a_fleet_comes_back_from_an_outage_as_it_went() {
        for seconds in [30, 60, 150, 300, 1200] {
            let outage = MINUTE * 10..MINUTE * 10 + Duration::from_secs(seconds);
            assert_spread(&rates(100, |now| if outage.contains(&now) { Err(None) } else { Ok(()) }), 1);
        }
        // The server names the same time to all of them.
        let until = |now| (MINUTE * 15).saturating_sub(now);
        let busy = |now| (MINUTE * 10..MINUTE * 11).contains(&now);
        assert_spread(&rates(60, |now| if busy(now) { Err(Some(until(now))) } else { Ok(()) }), 1);
    }

    #[test]
    fn a_check_that_took_longer_than_the_interval_is_followed_by_a_pause() {
        let mut cadence = started(1);
        cadence.succeeded(MINUTE, MINUTE * 3);
        assert!((0.9..=1.1).contains(&minutes(&cadence, MINUTE * 3)));
        // One that took just as long likewise.
        let mut jitter = Jitter::new(1);
        jitter.spread(MINUTE, JITTER_PERCENT);
        jitter.anywhere(MINUTE);
        let pause = jitter.spread(MINUTE, JITTER_PERCENT);
        let mut cadence = started(1);
        cadence.succeeded(MINUTE, MINUTE + pause);
        assert_eq!(cadence.next(), Some(MINUTE + pause * 2));
    }

    #[test]
    fn failures_double_up_to_the_cap_and_one_success_ends_them() {
        let mut cadence = started(2);
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
        let mut cadence = started(3);
        cadence.failed(MINUTE, Some(MINUTE * 30));
        let delay = minutes(&cadence, MINUTE);
        assert!(delay > 30.0 && delay <= 31.0, "{delay}");
        cadence.failed(MINUTE, Some(Duration::from_secs(1)));
        assert!(minutes(&cadence, MINUTE) >= 1.8);
    }

    #[test]
    fn an_interval_above_the_cap_is_kept() {
        let mut cadence = Cadence::new(Some(MINUTE * 60), 4);
        cadence.succeeded(Uptime::ZERO, Uptime::ZERO);
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
