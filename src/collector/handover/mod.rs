//! How two collectors share their ports for a while, so that one takes over from the other and no connection is lost.
//!
//! ```text
//!   eligible       whether these two configs may run side by side, and whether there is memory for both
//!   addresses      what a config listens on, as far as it says so
//!   components     what is known of the collector's components: which must not run twice
//!   memory         how much there is
//!   godebug        what the collector must be run with
//!   listener       what clients reach a collector at
//! ```
//! and, on Linux alone:
//! ```text
//!   health_target  where the new one's health check is asked, and not the old one's
//!   supported      whether this kernel lets us, tried for real
//!   privileges     whether this program may be watched
//!   binds          what a collector binds: each socket is made shareable before it is bound
//!   address        who else may have a socket's address
//!   remote_fd      looking into a collector's processes
//!   unnamed_sockets  the files of Unix sockets that it binds
//!   strays         its processes that no signal to its group reaches
//!   steering       which of the two gets the new connections
//!   widened        what only the old one gets, since it listens on a more specific address
//! ```
//! Everywhere else `unavailable` stands in for these. It starts and stops nothing and waits for nothing: `agent` calls
//! it, `core` decides when. What no safe crate offers is in `os::unix::sys`.

pub mod addresses;
mod components;
pub mod eligible;
pub mod godebug;
pub mod listener;
pub mod memory;

#[cfg(target_os = "linux")]
mod address;
#[cfg(target_os = "linux")]
pub mod binds;
#[cfg(target_os = "linux")]
pub mod health_target;
#[cfg(target_os = "linux")]
pub mod privileges;
#[cfg(target_os = "linux")]
mod remote_fd;
#[cfg(target_os = "linux")]
pub mod steering;
#[cfg(target_os = "linux")]
mod strays;
#[cfg(target_os = "linux")]
pub mod supported;
#[cfg(target_os = "linux")]
mod unnamed_sockets;
#[cfg(target_os = "linux")]
pub mod widened;

#[cfg(not(target_os = "linux"))]
mod unavailable;
#[cfg(not(target_os = "linux"))]
pub use unavailable::{binds, health_target, privileges, steering, supported, widened};

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
