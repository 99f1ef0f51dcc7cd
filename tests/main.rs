//! The integration tests, one crate: a module per section of the man page, on top of `support`.

mod budgets;
mod demo_test;
mod docs;
mod support;
mod support_test;
