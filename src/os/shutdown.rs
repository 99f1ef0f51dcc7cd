//! The shutdown of the agent, seen from the poller: a stop waits for the step that the poller is at, and no other
//! begins.
//!
//! Else a stop could leave a candidate on the disk, or a helper process that runs on. A check alone (`--check`) has no
//! such end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A helper is killed and a write takes milliseconds; a disk that stalls is not waited for.
const LIMIT: Duration = Duration::from_secs(2);
/// Between two looks at whether a step has ended.
const TICK: Duration = Duration::from_millis(5);

static SHUTDOWN: Shutdown = Shutdown::new();

/// See `Shutdown::step`.
pub fn step() -> Step<'static> {
    SHUTDOWN.step()
}

/// See `Shutdown::begin`.
pub fn begin() {
    SHUTDOWN.begin();
}

struct Shutdown {
    has_begun: AtomicBool,
    steps: AtomicUsize,
}

/// Something that a stop waits for; it ends when this is dropped.
pub struct Step<'a>(&'a Shutdown);

impl Shutdown {
    const fn new() -> Shutdown {
        Shutdown { has_begun: AtomicBool::new(false), steps: AtomicUsize::new(0) }
    }

    /// Begins a step, of which none may contain another. Never returns when the agent ends.
    fn step(&self) -> Step<'_> {
        // In this order, and in the other one in `begin`: either the step is seen there, or the end is seen here.
        self.steps.fetch_add(1, Ordering::SeqCst);
        let step = Step(self);
        match step.is_shutting_down() {
            true => step.park_forever(),
            false => step,
        }
    }

    /// Says that the agent ends, and waits for the steps that have begun. For the supervisor, after its own last one.
    fn begin(&self) {
        self.has_begun.store(true, Ordering::SeqCst);
        let began_at = Instant::now();
        while self.steps.load(Ordering::SeqCst) > 0 && began_at.elapsed() < LIMIT {
            thread::sleep(TICK);
        }
    }
}

impl Step<'_> {
    /// Whether the agent waits for it.
    pub fn is_shutting_down(&self) -> bool {
        self.0.has_begun.load(Ordering::SeqCst)
    }

    /// Ends the step and everything that this thread would do: the agent ends.
    pub fn park_forever(self) -> ! {
        drop(self);
        loop {
            thread::park();
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.0.steps.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Long enough for a thread to do what it must not do.
    const MOMENT: Duration = Duration::from_millis(100);

    #[test]
    fn the_end_waits_for_a_step_and_none_begins_after_it() {
        // Threads that rest are never joined.
        let shutdown: &'static Shutdown = Box::leak(Box::new(Shutdown::new()));
        let step = shutdown.step();
        assert!(!step.is_shutting_down());
        let (declared, is_declared) = mpsc::channel();
        thread::spawn(move || {
            shutdown.begin();
            declared.send(()).unwrap();
        });
        while !step.is_shutting_down() {
            thread::yield_now();
        }
        assert!(is_declared.recv_timeout(MOMENT).is_err(), "it did not wait");
        let (began, has_begun) = mpsc::channel();
        let begin = move || {
            let _step = shutdown.step();
            began.send(()).unwrap();
        };
        thread::spawn(begin.clone());
        drop(step);
        is_declared.recv().unwrap();
        thread::spawn(begin);
        assert!(has_begun.recv_timeout(MOMENT).is_err(), "a step began after the end");
        // Who rests is not waited for.
        while shutdown.steps.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_step_that_does_not_end_is_not_waited_for_forever() {
        let shutdown = Shutdown::new();
        let _step = shutdown.step();
        let began_at = Instant::now();
        shutdown.begin();
        assert!(began_at.elapsed() >= LIMIT);
    }
}
