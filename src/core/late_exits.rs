//! Exits of collectors that had passed their probation: one is over when the next collector has passed its own. That
//! says little of one that did so before, and died all the same, and again.

use super::Uptime;
use super::backoff::WINDOW;

#[derive(Debug, Default)]
pub struct LateExits {
    /// The latest, and the one before.
    at: [Option<Uptime>; 2],
}

impl LateExits {
    pub fn exited(&mut self, now: Uptime) {
        self.at = [Some(now), self.at[0]];
    }

    /// Until when they are a problem with a collector that has proved itself again; `None` if they are none.
    pub fn problem_until(&self, now: Uptime) -> Option<Uptime> {
        let [latest, earlier] = self.at.map(|at| at.map(|at| at + WINDOW));
        latest.filter(|_| earlier.is_some_and(|until| now < until))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_in_the_window_are_a_problem_for_as_long_as_it_is() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let mut exits = LateExits::default();
        assert_eq!(exits.problem_until(minutes(0)), None);
        exits.exited(minutes(1));
        assert_eq!(exits.problem_until(minutes(2)), None, "one is over");
        exits.exited(minutes(5));
        assert_eq!(exits.problem_until(minutes(6)), Some(minutes(15)));
        assert_eq!(exits.problem_until(minutes(11)), None, "the first is too long ago");
        exits.exited(minutes(12));
        assert_eq!(exits.problem_until(minutes(13)), Some(minutes(22)));
    }
}
