//! How soon a start may follow a failure, worked out apart from `backoff`.

use super::*;

#[derive(Default)]
pub(super) struct Delays {
    /// Exits, and starts and roll backs that could not be made, since another config became active.
    failed_at: Vec<Uptime>,
    /// No start before this.
    pub(super) not_before: Uptime,
}

impl Delays {
    fn in_window(&self, now: Uptime) -> usize {
        self.failed_at.iter().filter(|at| now < **at + Duration::from_secs(600)).count()
    }

    /// A collector exited unexpectedly and leaves none.
    pub(super) fn exited(&mut self, now: Uptime) {
        self.failed_at.push(now);
        self.wait(now, self.in_window(now));
    }

    pub(super) fn failed(&mut self, now: Uptime) {
        self.failed_at.push(now);
        self.wait(now, self.in_window(now) + 1);
    }

    fn wait(&mut self, now: Uptime, count: usize) {
        let seconds = [0, 1, 2, 4, 8, 16, 32, 60][(count - 1).min(7)];
        // Less the jitter.
        self.not_before = now + Duration::from_millis(800 * seconds);
    }

    pub(super) fn is_first(&self, now: Uptime) -> bool {
        self.failed_at.last() == Some(&now) && self.in_window(now) == 1
    }

    /// The latest exit is followed by a roll back instead.
    pub(super) fn take_back(&mut self, now: Uptime) {
        self.failed_at.pop_if(|at| *at == now);
        self.not_before = Uptime::ZERO;
    }

    pub(super) fn reset(&mut self) {
        *self = Delays::default();
    }
}
