//! The Windows side of `os`: the same names as `unix`, and nothing behind them yet.
//!
//! What could fail answers that it is not supported yet; what has no meaning here does nothing; what cannot come to be
//! has no value.

pub mod child;
pub mod control;
pub mod descendants;
pub mod dir_watch;
pub mod error;
pub mod event;
pub mod files;
pub mod host;
pub mod orphans;
pub mod port_holder;
pub mod process_id;
pub mod restarter;
pub mod service;
pub mod signals;
pub mod stderr;
pub mod stream;
pub mod this_process;
pub mod user;
pub mod wait;

use std::io;

/// What every function that can fail answers until it is written.
pub fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not supported on Windows yet")
}
