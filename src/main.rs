//! kmagent: keeps an OpenTelemetry Collector alive and its configuration current.

mod error;
mod exit;
mod settings;

fn main() {}
