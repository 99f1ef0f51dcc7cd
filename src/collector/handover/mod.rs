//! How two collectors share their ports for a while, so that one takes over from the other and no connection is lost.
//!
//! ```text
//!   supported   whether this kernel lets us, tried for real
//!   eligible    whether these two configs may run side by side, and whether there is memory for both
//!   components  what is known of the collector's components: which must not run twice
//!   binds       what a collector binds: each socket is made shareable before it is bound
//!   address     who else may have a socket's address
//!   remote_fd   looking into a collector's processes
//!   steering    which of the two gets the new connections
//!   runs_with   what the collector must be run with
//! ```
//! It starts and stops nothing and waits for nothing: `agent` calls it, `core` decides when. What no safe crate offers is in
//! `os::unix::sys`.

mod address;
pub mod binds;
mod components;
pub mod eligible;
pub mod memory;
mod remote_fd;
pub mod runs_with;
pub mod steering;
pub mod supported;

#[cfg(test)]
mod tests;
