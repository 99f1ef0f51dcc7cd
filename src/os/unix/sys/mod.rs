//! The one module with unsafe code: what no safe crate offers. Each block gives its reason.
//!
//! ```text
//!   before_exec    what a child does between fork and exec: its death signal, the filter on bind(2)
//!   inherited      descriptors and signals that the agent was started with
//!   peer           who is at the other end of a Unix socket
//!   pid1           a second process, and signals that are waited for, for process 1 of a container
//!   seccomp_bind   the notifications that the filter sends (seccomp_unotify(2))
//!   reuseport_bpf  which socket of a shared port gets the next connection (SO_ATTACH_REUSEPORT_CBPF, socket(7))
//!   seccomp_trial  a child that only tries the filter
//!   syn_filter     a listener that takes no new connections any more (SO_ATTACH_FILTER, socket(7))
//!   signals        signals as something to wait for, children that have ended
//! ```
//! It decides nothing and keeps nothing: the rest of `os::unix` and `collector::handover` do.
#![allow(unsafe_code)]

pub mod before_exec;
pub mod inherited;
pub mod peer;
pub mod pid1;
pub mod reuseport_bpf;
pub mod seccomp_bind;
pub mod seccomp_trial;
pub mod signals;
pub mod syn_filter;
