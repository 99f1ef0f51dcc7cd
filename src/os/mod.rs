//! What differs between operating systems, behind one facade; everything outside this room is the same on all of them.
//!
//! ```text
//!   error        what an error of the system means, and what an operator can do about it
//!   files        private files, replacing, identity, what another user may have planted, who may change a program
//!   lock         one agent per run directory
//!   stderr       standard error, written without waiting for its reader
//! ```
//! `unix` and `windows` offer the same names, and the facade takes them from `platform`, so that one which is missing on
//! either side does not compile. Windows answers "not supported on Windows yet" until it is written.

#[cfg(unix)]
pub mod unix;
#[cfg(windows)]
pub mod windows;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

pub mod files;
pub mod lock;
pub mod panic_hook;
pub mod shutdown;
pub mod wake_channel;

pub use platform::{error, stderr};
