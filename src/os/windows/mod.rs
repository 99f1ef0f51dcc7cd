//! The Windows side of `os`: the same names as `unix`, each of which answers that it is not supported yet.

pub mod error;
pub mod files;
pub mod stderr;

use std::io;

/// What every function that can fail answers until it is written.
pub fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not supported on Windows yet")
}
