//! What differs between operating systems, and what stands on it.

pub mod lock;
pub mod panic_hook;
pub mod shutdown;
pub mod unix;
pub mod wake_channel;
