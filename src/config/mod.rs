//! A collector config as a value: read, render, compare, and look into. Pure: no file, clock, process, environment or log.

pub mod inspect;
pub mod value;
pub mod yaml;
