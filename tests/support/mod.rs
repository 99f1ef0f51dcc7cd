//! What the tests stand on: the agent's harness, servers for it to talk to, and eyes for what happened.

// Each test uses a part of it.
#![allow(dead_code)]

pub mod agent;
pub mod api;
pub mod bin;
pub mod generations;
pub mod http;
pub mod machine;
pub mod needs;
pub mod otlp;
pub mod process;
pub mod source;
pub mod temp_dir;
pub mod wait;
