//! YAML in and out: `parse` takes a config file within bounds, `render` writes a config that people can read.
//!
//! Pure: no file is touched here.

mod parse;
mod render;

pub use parse::{nesting, parse};
pub use render::{Unproven, render, render_proven};
