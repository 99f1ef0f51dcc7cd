//! The resident agent: the supervisor thread, the poller thread, and the mailboxes between them.
//!
//! ```text
//!   supervise  owns the collector: wait → event → core → action
//!   poller     one config check after another, and all that may block for long
//!   check      one config check, step by step; `--check` uses it too
//!   check_outcome  what it found, and what follows from that
//!   mailbox    what the two threads tell each other
//!   reload     the settings are read again
//!   report     the report to a source about this host
//!   instance_id    which installation it is about
//! ```

pub mod check;
pub mod check_outcome;
mod conditions;
mod instance_id;
pub mod mailbox;
pub mod poller;
pub mod reload;
pub mod report;
pub mod supervise;

#[cfg(test)]
mod outgoing_tests;
