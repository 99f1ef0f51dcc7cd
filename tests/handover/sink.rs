//! `Sink`: where the collector's telemetry ends up, and the exact count of what arrived.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::support::http::{Reply, Server};

#[derive(Default)]
pub struct Arrived {
    /// How often each record came, by its number.
    items: HashMap<u64, u32>,
    /// How many records came by way of each config, by what its resource processor adds (`exported_config`).
    by_config: HashMap<String, u64>,
    strange: Vec<String>,
}

/// Takes what an exporter sends that is configured with `exporter`.
pub struct Sink {
    server: Server,
    arrived: Arc<Mutex<Arrived>>,
}

/// The resource attribute that tells by which config a record came.
pub const CONFIG: &str = "config";

impl Sink {
    pub fn start() -> Sink {
        let arrived: Arc<Mutex<Arrived>> = Arc::default();
        let all = Arc::clone(&arrived);
        let server = Server::start(0, None, move |request| {
            let export = request.json();
            all.lock().unwrap().add(&export);
            Reply::json(&json!({}))
        });
        Sink { server: server.unwrap(), arrived }
    }

    /// The `otlp_http` exporter's config.
    pub fn exporter(&self) -> Value {
        json!({"endpoint": format!("http://{}", self.server.addr), "encoding": "json", "compression": "none"})
    }

    pub fn came_by(&self, config: &str) -> bool {
        self.arrived().by_config.contains_key(config)
    }

    /// Those of `numbers` that have not arrived.
    pub fn missing(&self, numbers: impl Iterator<Item = u64>) -> Vec<u64> {
        let arrived = self.arrived();
        numbers.filter(|number| !arrived.items.contains_key(number)).collect()
    }

    /// Those that arrived more than once.
    pub fn repeated(&self) -> Vec<u64> {
        let arrived = self.arrived();
        arrived.items.iter().filter(|(_, count)| **count > 1).map(|(number, _)| *number).collect()
    }

    /// What came and has no number.
    pub fn strange(&self) -> Vec<String> {
        self.arrived().strange.clone()
    }

    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap()
    }
}

impl Arrived {
    fn add(&mut self, export: &Value) {
        let Some(resources) = export["resourceLogs"].as_array() else {
            return self.strange.push(export.to_string());
        };
        for resource in resources {
            let attributes = resource["resource"]["attributes"].as_array().into_iter().flatten();
            let config =
                attributes.filter(|pair| pair["key"] == CONFIG).find_map(|pair| pair["value"]["stringValue"].as_str());
            let config = config.unwrap_or_default().to_string();
            for scope in resource["scopeLogs"].as_array().into_iter().flatten() {
                for record in scope["logRecords"].as_array().into_iter().flatten() {
                    let body = record["body"]["stringValue"].as_str().unwrap_or_default();
                    match body.strip_prefix("item=").and_then(|number| number.parse().ok()) {
                        Some(number) => *self.items.entry(number).or_default() += 1,
                        None => self.strange.push(record.to_string()),
                    }
                    *self.by_config.entry(config.clone()).or_default() += 1;
                }
            }
        }
    }
}
