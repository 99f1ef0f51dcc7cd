//! The soak: thousands of changes and crashes, and an hour of real telemetry, and nothing that grows. FAULTS.md tells
//! of it.
//!
//! The quick form runs with all the other tests. With `KM_SOAK=1` it is the long one: 10,000 changes, 10,000 crashes
//! and an hour; `KM_SOAK_MINUTES` sets another length for the hour. What must not grow is in `gauge`, what the API
//! sends and what must be reported of it in `feed`.

mod feed;
mod gauge;
mod real;
mod stand_in;

use std::io::Write;
use std::thread;

fn is_long() -> bool {
    std::env::var_os("KM_SOAK").is_some_and(|value| value == "1")
}

/// Past the capture of output: the numbers are the point.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("soak: {line}\n").as_bytes());
}

/// Runs `one` with each number below `count`, all at once: they wait far more than they compute.
#[track_caller]
fn at_once(count: usize, one: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for number in 0..count {
            let one = &one;
            scope.spawn(move || one(number));
        }
    });
}
