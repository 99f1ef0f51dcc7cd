//! The Unix side of `os`: Linux, as far as it has been built for.

pub mod child;
pub mod control;
pub mod descendants;
pub mod dir_watch;
pub mod error;
pub mod event;
pub mod files;
pub mod host;
mod open_files;
pub mod orphans;
mod pid1;
pub mod port_holder;
pub mod process_id;
pub mod restarter;
pub mod service;
pub mod signals;
pub mod stderr;
pub mod stream;
pub mod sys;
pub mod this_process;
pub mod user;
pub mod wait;
