//! What happens when the program itself is wrong: a panic ends it with its own exit status, never with 101.
//!
//! The release build does not unwind, so all of it happens in the panic hook. A panic of the main thread exits at once
//! and the kernel signals the collector (its parent-death signal). A panic of a worker is reported to the supervisor,
//! which stops the collector first.

use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::process;
use std::thread;

use crate::error::Exit;

/// For every mode.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        print_panic(panic);
        process::exit(Exit::Bug.code().into());
    }));
}

/// For the resident agent: `report` is called on a worker that panics, and that thread then never goes on. Call it on
/// the main thread.
pub fn report_worker_panic(report: impl Fn() -> bool + Send + Sync + 'static) {
    let main = thread::current().id();
    std::panic::set_hook(Box::new(move |panic| {
        print_panic(panic);
        if thread::current().id() == main || !report() {
            process::exit(Exit::Bug.code().into());
        }
        loop {
            thread::park();
        }
    }));
}

fn print_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or("no message");
    log::error!(place = place.as_str(), what = what; "this is a bug in kmagent: please report it");
    if log::max_level() == log::LevelFilter::Off {
        // No logger yet; and when standard error is closed there is nobody left to tell.
        let _ = writeln!(io::stderr(), "kmagent: this is a bug in kmagent: please report it: {place}: {what}");
    }
}
