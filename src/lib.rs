//! kmagent: keeps an OpenTelemetry Collector alive and its configuration current.
//!
//! The rooms, and who may import whom, are in DESIGN.md, "Rooms"; `tests/rooms.rs` holds the code to it. `main.rs` is
//! the program.

pub mod agent;
#[cfg(unix)]
pub mod cluster;
pub mod cmd;
pub mod collector;
pub mod config;
pub mod control;
pub mod core;
pub mod error;
pub mod log;
pub mod os;
pub mod settings;
pub mod source;
pub mod store;

#[cfg(test)]
#[cfg(unix)]
#[path = "../tests/support/needs.rs"]
mod needs;

#[cfg(test)]
#[cfg(unix)]
#[path = "../tests/support/thread_time.rs"]
mod thread_time;
