//! The Unix side of `os`.

pub mod pid1;
pub mod sd_notify;
pub mod sys;
