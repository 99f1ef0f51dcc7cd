//! The one place in the suite that sleeps: everything that a test waits for is a condition with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take unless the caller knows better: well past anything that a loaded two-core host needs.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `probe` returns something; panics with `what` once `timeout` has passed.
#[track_caller]
pub fn wait_for<T>(what: &str, timeout: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match poll_for(timeout, probe) {
        Some(found) => found,
        None => panic!("waited {timeout:?} in vain: {what}"),
    }
}

/// `wait_for` with the usual deadline and a plain condition.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, DEADLINE, || condition().then_some(()));
}

/// How many times slower than usual this machine is, by `KM_TEST_SLOWNESS`: an emulated one is. Deadlines get that much
/// longer.
pub fn slowness() -> u32 {
    std::env::var("KM_TEST_SLOWNESS").map_or(1, |number| number.parse().expect("KM_TEST_SLOWNESS is no number"))
}

/// `None` when `timeout` passed without `probe` returning something.
pub fn poll_for<T>(timeout: Duration, probe: impl FnMut() -> Option<T>) -> Option<T> {
    poll_until(Instant::now() + timeout * slowness(), probe)
}

/// Between two looks, unless a look takes longer.
const PAUSE: Duration = Duration::from_millis(5);

/// A look may start a process or read all of /proc: it is followed by a pause of twice its own time, so that who waits
/// leaves most of a processor to what is waited for.
fn poll_until<T>(give_up_at: Instant, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        let looked_at = Instant::now();
        if let Some(found) = probe() {
            return Some(found);
        }
        let now = Instant::now();
        if now >= give_up_at {
            return None;
        }
        thread::sleep(PAUSE.max(2 * (now - looked_at)).min(give_up_at - now));
    }
}

/// Asserts that `condition` holds all through `span`: for what must *not* happen.
#[track_caller]
pub fn holds_for(what: &str, span: Duration, mut condition: impl FnMut() -> bool) {
    if poll_until(Instant::now() + span, || (!condition()).then_some(())).is_some() {
        panic!("should have held for {span:?}: {what}");
    }
}
