//! The image: what its Dockerfile builds, run in namespaces as an engine would, and the files that go with it.
//!
//! No engine is needed. `dockerfile` builds what the Dockerfile says, `container` runs its entrypoint with its
//! environment as process 1. What runs takes root, as engines do.

mod authorities;
mod config;
mod container;
mod dockerfile;
mod escape;
mod files;
mod image;
mod process_one;
mod volumes;

use serde_json::{Value, json};

use crate::operation::is_running;
use crate::support::temp_dir::TempDir;
use container::Container;

/// OTLP in, nothing out.
fn collector_config(port: u16) -> Value {
    json!({
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": format!("127.0.0.1:{port}")}}}},
        "exporters": {"nop": {}},
        "service": {
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["nop"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    })
}

#[track_caller]
fn wait_running(container: &Container) {
    container.wait_log("a collector that has proved itself", is_running);
}
