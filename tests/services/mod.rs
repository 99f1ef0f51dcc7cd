//! What runs the agent: service managers, and the kernel when memory is short.
//!
//! Service managers take root, and so do these tests: without it there is nothing to test.

mod handover;
mod machine;
mod memory;
mod scripts;
mod systemd;
