//! What differs between operating systems, behind one facade, and what stands on it.
//!
//! ```text
//!   wait          sleeping until something is ready; `Waitable` is a descriptor or a handle
//!   event         a bell that wakes a wait; wake_channel is a channel with one
//!   child         a child process: spawn, output, ask to end, kill, reap
//!   orphans       processes that a killed agent left behind
//!   stream        a TCP connection that never blocks
//!   control       the endpoint on which a running agent listens, and connections to it
//!   service       the service manager
//!   this_process  what the agent's own process was started with, and what is left of it
//!   host          the host's name
//!   error         what an error of the system means
//! ```
//! `unix` and `windows` each have a module of every one of these names with the same signatures. What is waited for only hints:
//! after any wake everything is tried.

#[cfg(unix)]
pub mod unix;
#[cfg(windows)]
pub mod windows;

pub mod lock;
pub mod panic_hook;
pub mod shutdown;
pub mod wake_channel;

#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

pub use platform::{child, control, error, event, host, orphans, service, stream, this_process, wait};
