//! What a test needs and a machine may lack: root, a kernel that can do it, a program. What is missing is always named.
//!
//! A line `skipped: TEST: REASON` goes into the file that `KM_SKIPPED` names, which `tests/run` shows in its summary;
//! without that variable it goes to stderr. Cargo says of such a test that it is ok, so no test may return early
//! without this. The unit tests in `src` use this file as a module of their own.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;

/// Whether that condition holds; says so if not: the caller then returns, or leaves a part out.
#[track_caller]
pub fn that(holds: bool, reason: &str) -> bool {
    if !holds {
        let line = format!("skipped: {}: {reason}\n", test());
        let file = std::env::var_os("KM_SKIPPED").and_then(|path| OpenOptions::new().append(true).open(path).ok());
        let _ = match file {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
    holds
}

#[track_caller]
pub fn root() -> bool {
    that(rustix::process::geteuid().is_root(), "it takes root")
}

/// The test harness calls the thread like the test, but for tests that run one at a time.
#[track_caller]
fn test() -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_string(),
        _ => Location::caller().to_string(),
    }
}
