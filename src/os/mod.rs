//! What differs between operating systems, behind one facade; everything outside this room is the same on all of them.
//!
//! ```text
//!   wait          sleeping until something is ready: descriptors or handles
//!   event         a bell that ends a wait; `wake_channel` is a channel with one
//!   child         a child process: spawn, output, ask to end, kill, reap
//!   descendants   what children start and leave behind: found, ended, reaped
//!   orphans       processes that a killed agent left behind
//!   port_holder   who has a port that a collector wants
//!   process_id    which process it is, by more than its number
//!   control       the endpoint that the running agent listens at, and connections to it
//!   stream        TCP connections and a listener that never block
//!   service       the service manager
//!   restarter     who starts the agent again when it has ended
//!   signals       what asks the agent to stop or reload, among all that it waits for
//!   this_process  what the agent was started with, and what is left of it when it dies
//!   host          the host's name
//!   user          who runs a process, owns a file, is at the other end of a connection
//!   dir_watch     names that are removed from a directory
//!   error         what an error of the system means, and what an operator can do about it
//!   files         private files, replacing, identity, what another user may have planted, who may change a program
//!   lock          one agent per run directory
//!   stderr        standard error, written without waiting for its reader
//!   panic_hook    a panic ends the agent with a status of its own
//!   shutdown      a stop waits for the step that the poller is at
//!   wake_channel  a channel whose messages end a wait
//! ```
//! `unix` and `windows` offer the same names, and the facade takes them from `platform`, so that one which is missing
//! on either side does not compile. Windows answers "not supported on Windows yet" until it is written. What is waited
//! for only hints: after any wake everything is tried.

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

pub use platform::{
    child, control, descendants, dir_watch, error, event, host, orphans, port_holder, process_id, restarter, service,
    signals, stderr, stream, this_process, user, wait,
};
