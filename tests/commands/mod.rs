//! The man page's COMMANDS: what an operator or a script types, and what comes back.

mod control_socket;
pub mod help;
mod impostor;
mod secrets;
mod status;
mod stop;
