//! Where configs come from.

pub mod explain;
pub mod kloudmate;
pub mod parts;
pub mod proxy;
pub mod transport;
