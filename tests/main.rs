//! The integration tests, one crate: a module per section of the man page, on top of `support`.
#![cfg(unix)]

mod budgets;
mod check;
mod collector;
mod commands;
mod completions;
mod containers;
mod demo_test;
mod design;
mod docs;
mod exit_status;
mod faults;
mod handover;
mod install;
mod kubernetes;
mod man;
mod operation;
mod rooms;
mod services;
mod settings;
mod soak;
mod support;
mod support_test;
mod text_width;
