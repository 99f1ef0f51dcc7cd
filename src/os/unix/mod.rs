//! The Unix side of `os`.

pub mod error;
pub mod files;
pub mod pid1;
pub mod sd_notify;
pub mod stderr;
pub mod sys;
