//! The resident agent: the supervisor thread, the poller thread, and the mailboxes between them.
//!
//! ```text
//!   supervise  owns the collector: poll(2) → event → core → action
//!   poller     one config check after another, and all that may block for long
//!   check      one config check, step by step; `--check` uses it too
//!   mailbox    what the two threads tell each other
//!   report     what the API is told of this host
//! ```

pub mod check;
pub mod mailbox;
pub mod poller;
pub mod report;
pub mod supervise;
