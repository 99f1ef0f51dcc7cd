//! The Windows side of `os`: the same signatures, and nothing behind them yet.
//!
//! What could fail answers that it is not supported yet; what has no meaning here does nothing; what cannot come to be has no value.

use std::io;

pub mod child;
pub mod control;
pub mod error;
pub mod event;
pub mod host;
pub mod orphans;
pub mod service;
pub mod stream;
pub mod this_process;
pub mod wait;

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not supported on Windows yet")
}
