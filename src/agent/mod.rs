//! The resident agent: the supervisor thread, the poller thread, and the mailboxes between them.
//!
//! ```text
//!   supervise  owns the collector: wait → event → core → action
//!   poller     one config check after another, and all that may block for long
//!   check      one config check, step by step; `--check` uses it too
//!   check_outcome  what it found, and what follows from that
//!   readings   what is known of the configs that it has read
//!   mailbox    what the two threads tell each other
//!   reload     the settings are read again
//!   violations what a check says of the policy
//!   report     the report to a source about this host
//!   instance_id    which installation it is about
//! ```

pub mod check;
pub mod check_outcome;
mod conditions;
mod instance_id;
pub mod mailbox;
pub mod poller;
mod readings;
pub mod reload;
pub mod report;
pub mod supervise;
mod violations;

#[cfg(test)]
mod outgoing_tests;
