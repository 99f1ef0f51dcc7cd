//! What holds whenever the shell goes to sleep.

use super::*;

impl World {
    /// How far away the next deadline may be, with a collector alive.
    fn longest(&self, state_name: StateName) -> Duration {
        match state_name {
            // Between two questions for its health.
            StateName::Starting => self.limits.min_uptime.max(backoff::CAP).max(self.limits.start_timeout),
            StateName::HandingOver => self.limits.min_uptime.max(PROBE_TIMEOUT).max(self.limits.start_timeout),
            StateName::Running => self.limits.confirm_time.max(self.limits.stop_timeout).max(SETTLE_DELAY),
            StateName::Stopping => self.limits.stop_timeout.max(SETTLE_DELAY),
            StateName::Stopped | StateName::Backoff => LONGEST_WAIT,
        }
    }

    pub(super) fn check(&mut self, due: bool) {
        let deadline = self.supervisor.deadline();
        let state_name = self.supervisor.state_name();
        assert!(self.open.len() <= 1, "more than one candidate is queued: {:?}", self.open);
        if due {
            assert!(deadline.is_none_or(|at| at > self.now), "the deadline stays in the past: {deadline:?}");
        }
        // A confirmed config is never lost.
        if let Some(confirmed) = self.generations.newest_confirmed() {
            let places = [self.config, self.generations.fallback(self.config)];
            assert!(places.contains(&Some(confirmed)), "{confirmed} is neither active nor gone back to");
        }
        // What has crashed three times before it was confirmed does not stay active.
        let crashed = self.config.filter(|config| self.stuck != Some(*config));
        let crashed = crashed.and_then(|config| {
            self.generations.find(config).map(|known| known.exits >= MAX_EXITS && !known.is_confirmed)
        });
        let has_fallback = self.generations.fallback(self.config).is_some();
        let waits = state_name == StateName::Stopping || self.finished || self.hand_over.is_some();
        assert!(crashed != Some(true) || !has_fallback || waits, "what has crashed three times stays active");
        let furthest = self.now + self.longest(state_name);
        assert!(deadline.is_none_or(|at| at <= furthest), "{state_name:?} until {deadline:?}, it is {:?}", self.now);
        let stopping = self.stop_at.is_some();
        for live in &self.live {
            let terminating = self.supervisor.is_terminating(live.child);
            assert!(live.terminated_at.is_none() || terminating, "{live:?} is to stay after its SIGTERM");
            assert!(
                !terminating || stopping || live.lost_hand_over || live.is_outdated,
                "{live:?} is to end for no reason"
            );
        }
        assert!(!self.awaits_verdict || !self.runs_alone(), "an install without a verdict");
        let killed = match self.live.as_slice() {
            [] if self.finished => {
                assert!(self.open.is_empty(), "a candidate is queued after the end");
                assert_eq!((deadline, self.supervisor.serving()), (None, None), "not idle after the end");
                return;
            }
            [] => {
                assert!(!stopping, "stopped, and not finished");
                assert!(matches!(state_name, StateName::Stopped | StateName::Backoff), "{state_name:?} with no child");
                let limit = self.now + LONGEST_WAIT;
                assert!(deadline.is_some_and(|at| at <= limit), "nothing lives and nothing is due: {deadline:?}");
                assert_eq!(self.supervisor.serving(), None);
                return;
            }
            [live] => {
                assert!(self.hand_over.is_none(), "a hand-over with one: {:?}", self.hand_over);
                let terminating = stopping || live.terminated_at.is_some();
                assert!(
                    !terminating || state_name == StateName::Stopping,
                    "{state_name:?} after a SIGTERM or a stop request"
                );
                assert_eq!(self.supervisor.serving(), Some(live.child));
                self.seen.extend((!self.open.is_empty()).then_some("queued"));
                let is_unconfirmed =
                    self.config == Some(live.revision) && !self.generations.is_confirmed(live.revision);
                match state_name {
                    StateName::Running => !is_unconfirmed,
                    _ => live.killed,
                }
            }
            [old, new] => {
                let hand_over = self.hand_over.as_ref().expect("two live in a hand-over only");
                assert_eq!((hand_over.old, hand_over.new), (old.child, Some(new.child)));
                let expected = if hand_over.won.is_none() { StateName::HandingOver } else { StateName::Running };
                assert_eq!(state_name, if stopping { StateName::Stopping } else { expected });
                let terminating = [old, new].map(|live| self.supervisor.is_terminating(live.child));
                assert_eq!(terminating, [old, new].map(|live| stopping || live.lost_hand_over), "who is to end");
                let new_serves = hand_over.won.unwrap_or(new.serves_since.is_some());
                assert_eq!(self.supervisor.serving(), Some(if new_serves { new } else { old }.child));
                self.seen.extend((!self.open.is_empty()).then_some("queued in a hand-over"));
                let ending = || [old, new].into_iter().filter(|live| stopping || live.lost_hand_over);
                ending().count() > 0 && ending().all(|live| live.killed)
            }
            [_, _, _, ..] => panic!("three live"),
        };
        assert_eq!(deadline.is_none(), killed, "{state_name:?} with deadline {deadline:?}");
        if let Some(stop_at) = self.stop_at.filter(|_| !self.finished) {
            let limit = stop_at + SETTLE_DELAY + self.limits.stop_timeout;
            assert!(self.now <= limit, "a stop that takes too long");
        }
    }
}
