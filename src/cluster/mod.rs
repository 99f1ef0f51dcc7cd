//! `kmagent cluster`: the collectors of a Kubernetes cluster, configured from afar (DESIGN.md, "Kubernetes").
//!
//! ```text
//!   kubernetes  the API server, as far as it is needed
//!   config      a config as the pods and the ConfigMaps have it
//!   config_map  what of a group is written where
//!   mailbox     what the two threads send each other
//!   fleet       the groups, on the thread that never blocks
//!   updater     all that may block, on the other
//! ```

mod config;
mod config_map;
mod fleet;
pub mod kubernetes;
mod mailbox;
pub mod rollout;
mod updater;
