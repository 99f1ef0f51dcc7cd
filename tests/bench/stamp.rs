//! A child for the benchmarks: tells when its `main` began, then waits for a signal to end it.
//!
//! It writes `<pid> <nanoseconds of CLOCK_MONOTONIC>` to the FIFO that STAMP_TO names. So that the agent takes it for a
//! collector it answers `--version`, and finds every config valid.

use std::fs::OpenOptions;
use std::io::Write;

use rustix::time::{ClockId, clock_gettime};

fn main() {
    let now = clock_gettime(ClockId::Monotonic);
    match std::env::args().nth(1).as_deref() {
        Some("--version") => return println!("stamp version 0.0.0"),
        Some("validate") => return,
        _ => {}
    }
    let line = format!("{} {}{:09}\n", std::process::id(), now.tv_sec, now.tv_nsec);
    let fifo = std::env::var_os("STAMP_TO").expect("STAMP_TO is not set");
    let written = OpenOptions::new().write(true).open(fifo).and_then(|mut fifo| fifo.write_all(line.as_bytes()));
    written.expect("cannot write to STAMP_TO");
    loop {
        std::thread::park();
    }
}
