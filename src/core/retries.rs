//! When a config is tried again that failed for something which is not its own fault, such as a port that another
//! process has, or a file that is missing, if nothing shows that this has changed. Each attempt may interrupt the
//! collector that runs.

use std::time::Duration;

/// After the first attempt.
const FIRST: Duration = Duration::from_secs(15 * 60);
const CAP: Duration = Duration::from_secs(24 * 60 * 60);

/// From this attempt, counted from 1, to the next: a quarter of an hour, twice as long each time, at most a day.
pub fn delay(attempt: u32) -> Duration {
    FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_comes_later_than_the_one_before() {
        let minutes = [1, 2, 3, 7, 8, u32::MAX].map(|attempt| delay(attempt).as_secs() / 60);
        assert_eq!(minutes, [15, 30, 60, 960, 1440, 1440]);
    }
}
