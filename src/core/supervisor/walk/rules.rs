//! What holds whenever the shell goes to sleep.

use super::*;

impl World {
    /// Where what has proved itself last can be.
    pub(super) fn is_kept(&self) -> bool {
        let places = [self.config, self.last_known_good];
        self.newest_proved.is_none_or(|proved| places.contains(&Some(proved)))
    }

    /// How far away the next deadline may be, with somebody alive.
    fn longest(&self, phrase: StateName) -> Duration {
        match phrase {
            // Between two questions for its health.
            StateName::Starting => self.limits.min_uptime.max(backoff::CAP),
            StateName::HandingOver => self.limits.min_uptime.max(PROBE_TIMEOUT),
            StateName::Stopping | StateName::Running => self.limits.stop_timeout.max(SETTLE_DELAY),
            StateName::Stopped | StateName::Backoff => LONGEST_WAIT,
        }
    }

    pub(super) fn check(&mut self, due: bool) {
        let deadline = self.supervisor.deadline();
        let phrase = self.supervisor.phrase();
        assert!(self.open.len() <= 1, "more than one candidate is held: {:?}", self.open);
        if due {
            assert!(deadline.is_none_or(|at| at > self.now), "the deadline stays in the past: {deadline:?}");
        }
        assert!(self.is_kept(), "what has proved itself is lost: {:?}", self.newest_proved);
        let good = self.last_known_good;
        assert!(good.is_none_or(|good| self.proved.contains(&good)), "{good:?} has not proved itself");
        let furthest = self.now + self.longest(phrase);
        assert!(deadline.is_none_or(|at| at <= furthest), "{phrase:?} until {deadline:?}, it is {:?}", self.now);
        let stopping = self.stop_at.is_some();
        for living in &self.living {
            let leaving = self.supervisor.is_leaving(living.child);
            assert!(living.terminated_at.is_none() || leaving, "{living:?} is to stay after its SIGTERM");
            assert!(!leaving || stopping || living.withdrawn || living.outdated, "{living:?} is to end for no reason");
        }
        assert!(!self.awaits_verdict || !self.runs_alone(), "an install without a verdict");
        let killed = match self.living.as_slice() {
            [] if self.finished => {
                assert!(self.open.is_empty(), "a candidate is held after the end");
                assert_eq!((deadline, self.supervisor.serving()), (None, None), "not idle after the end");
                return;
            }
            [] => {
                assert!(!stopping, "stopped, and not finished");
                assert!(matches!(phrase, StateName::Stopped | StateName::Backoff), "{phrase:?} with no child");
                let limit = self.now + LONGEST_WAIT;
                assert!(deadline.is_some_and(|at| at <= limit), "nothing lives and nothing is due: {deadline:?}");
                assert_eq!(self.supervisor.serving(), None);
                return;
            }
            [living] => {
                assert!(self.hand_over.is_none(), "a hand-over with one: {:?}", self.hand_over);
                let leaving = stopping || living.terminated_at.is_some();
                assert!(!leaving || phrase == StateName::Stopping, "{phrase:?} after a SIGTERM or a stop request");
                assert_eq!(self.supervisor.serving(), Some(living.child));
                self.seen.extend((!self.open.is_empty()).then_some("held"));
                phrase == StateName::Running || living.killed
            }
            [old, new] => {
                let hand_over = self.hand_over.as_ref().expect("two live in a hand-over only");
                assert_eq!((hand_over.old, hand_over.new), (old.child, Some(new.child)));
                let expected = if hand_over.won.is_none() { StateName::HandingOver } else { StateName::Running };
                assert_eq!(phrase, if stopping { StateName::Stopping } else { expected });
                let leaving = [old, new].map(|living| self.supervisor.is_leaving(living.child));
                assert_eq!(leaving, [old, new].map(|living| stopping || living.withdrawn), "who is to end");
                let new_serves = hand_over.won.unwrap_or(new.serves_since.is_some());
                assert_eq!(self.supervisor.serving(), Some(if new_serves { new } else { old }.child));
                self.seen.extend((!self.open.is_empty()).then_some("held beside"));
                let ending = || [old, new].into_iter().filter(|living| stopping || living.withdrawn);
                ending().count() > 0 && ending().all(|living| living.killed)
            }
            [_, _, _, ..] => panic!("three live"),
        };
        assert_eq!(deadline.is_none(), killed, "{phrase:?} with deadline {deadline:?}");
        if let Some(stop_at) = self.stop_at.filter(|_| !self.finished) {
            let limit = stop_at + SETTLE_DELAY + self.limits.stop_timeout;
            assert!(self.now <= limit, "a stop that takes too long");
        }
    }
}
