//! kmagent: keeps an OpenTelemetry Collector alive and its configuration current.
#![allow(dead_code)]

mod error;
mod exit;
mod settings;
mod value;
mod yaml;

fn main() {}
