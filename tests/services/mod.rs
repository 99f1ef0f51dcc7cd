//! What runs the agent: service managers, and the kernel when memory is short.

mod memory;
