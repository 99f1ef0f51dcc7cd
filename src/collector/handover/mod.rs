//! How two collectors share their ports for a while, so that one takes over from the other and no connection is lost.
//!
//! ```text
//!   supported   whether this kernel lets us, tried for real
//!   eligible    whether these two configs may run side by side, and whether there is memory for both
//!   binds       what a collector binds: each socket is made shareable before it is bound
//!   address     who else may have a socket's address
//!   look        looking into a collector's processes
//!   steering    which of the two gets the new connections
//!   program     what the collector must be run with
//! ```
//! It starts and stops nothing and waits for nothing: `supervise` calls it, `core` decides when. What no safe crate offers is in
//! `sys`.

mod address;
pub mod binds;
pub mod eligible;
pub mod memory;
mod remote_fd;
pub mod runs_with;
pub mod steering;
pub mod supported;

#[cfg(test)]
mod tests;
