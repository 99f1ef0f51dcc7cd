//! What an operator can do about an error of Windows; nothing is said yet.

use std::io;

/// About the directory that an agent cannot run without.
pub const RUN_DIR: &str = "run as Administrator, or choose another with the setting `run-dir`";

/// Of a file that cannot be read.
pub fn read(_error: &io::Error) -> &'static str {
    ""
}

/// Of a file that cannot be written.
pub fn write(_error: &io::Error) -> &'static str {
    ""
}

/// Of a program that is there and cannot be executed.
pub fn execute(_error: &io::Error) -> &'static str {
    ""
}
