//! What an error of Windows means, and what an operator can do about it; nothing is said yet.

use std::io;

/// About the directory that an agent cannot run without.
pub const REMEDY_FOR_RUN_DIR: &str = "run as Administrator, or choose another with the setting `run-dir`";

/// Whether it is the system that has no handle, buffer or memory left, whatever it was asked for.
pub fn is_out_of_resources(_error: &io::Error) -> bool {
    false
}

/// What an operator can do about a file that cannot be read.
pub fn remedy_for_read(_error: &io::Error) -> &'static str {
    ""
}

/// What an operator can do about a file that cannot be written.
pub fn remedy_for_write(_error: &io::Error) -> &'static str {
    ""
}

/// The same whatever was asked for.
pub fn remedy_for_shortage(_error: &io::Error) -> &'static str {
    ""
}

/// What an operator can do about a program that cannot be executed.
pub fn remedy_for_spawn(_error: &io::Error) -> &'static str {
    ""
}
