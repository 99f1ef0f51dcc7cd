//! What a thread has cost so far, whatever else the processors do: for ratios between two pieces of work.

use std::time::Duration;

/// Of this thread's own.
pub fn spent() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// The least that `work` has cost in five times.
pub fn least(work: impl Fn()) -> Duration {
    let once = || {
        let before = spent();
        work();
        spent() - before
    };
    (0..5).map(|_| once()).min().unwrap_or_default()
}
