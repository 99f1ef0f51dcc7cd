//! The integration tests, one crate: a module per section of the man page, on top of `support`.

mod demo_test;
mod operation;
mod support;
mod support_test;
