//! The decisions, without the doing: no clock, file, process, socket, thread, environment or log in here.
//!
//! In scope: what to do when the collector starts, proves itself, crashes, is to be replaced or stopped (`supervisor`),
//! the steps of an install that can be undone (`rollout`), which pods of a cluster get a new config (`canary`), what
//! its workloads tell of one (`workload`), how long to wait (`backoff`, `cadence`), what an API answer asks for
//! (`restart_requests`), which problem is reported (`problems`). Out of scope: how any of it is done; `agent` and
//! `cluster` do that. `core` imports nothing of the crate.

pub mod backoff;
pub mod cadence;
pub mod canary;
pub mod event;
pub mod late_exits;
pub mod problems;
pub mod restart_requests;
pub mod retries;
pub mod rollout;
pub mod supervisor;
pub mod workload;

use std::time::Duration;

/// Time since the agent's start, on a clock that never goes back. The caller passes it in.
pub type Uptime = Duration;

/// A small deterministic source of jitter (xorshift64*, Vigna 2014): the seed is the caller's, so tests can repeat a
/// run.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Jitter {
        // Zero is the one state that xorshift never leaves.
        Jitter(seed | 1)
    }

    /// `base` moved by up to `percent` % in either direction.
    pub fn spread(&mut self, base: Duration, percent: u32) -> Duration {
        let share = f64::from(percent) / 100.0;
        base.mul_f64(1.0 - share + 2.0 * share * self.fraction())
    }

    /// Any time up to `most`, but not none at all.
    pub fn anywhere(&mut self, most: Duration) -> Duration {
        most.mul_f64(1.0 - self.fraction())
    }

    /// Somewhere in `0.0..1.0`.
    pub fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The upper 53 bits fill an f64's mantissa exactly.
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_stays_in_its_bounds_and_uses_both_sides() {
        let mut jitter = Jitter::new(7);
        let base = Duration::from_secs(100);
        let spread: Vec<Duration> = (0..1000).map(|_| jitter.spread(base, 20)).collect();
        assert!(spread.iter().all(|d| (80.0..=120.0).contains(&d.as_secs_f64())));
        assert!(spread.iter().any(|d| d.as_secs_f64() < 85.0) && spread.iter().any(|d| d.as_secs_f64() > 115.0));
        assert_eq!(Jitter::new(0).spread(base, 0), base);
    }

    /// The first outputs of the published algorithm, worked out elsewhere. A slip in it would still look random, for a
    /// while.
    #[test]
    fn it_is_the_generator_that_it_says() {
        let mut jitter = Jitter::new(7);
        for output in
            [0xD1FB_AF7F_728D_2EAEu64, 0xEDA4_6C77_629D_A6AEu64, 0x16DF_9D6A_C76B_D322u64, 0x1B8D_7895_3576_722Eu64]
        {
            assert_eq!((jitter.fraction() * (1u64 << 53) as f64) as u64, output >> 11);
        }
    }
}
