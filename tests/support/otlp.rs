//! Telemetry in and out: sends OTLP/HTTP JSON to a collector, and records what one exports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::http::{Reply, Request, Server};
use super::wait::{DEADLINE, poll_for};

/// Sends one log record; the error is a refused connection or a status that is not 200.
pub fn send_log(port: u16, text: &str) -> Result<(), String> {
    let record = json!({"timeUnixNano": now(), "severityText": "INFO", "body": {"stringValue": text}});
    send(port, "v1/logs", json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}))
}

/// Sends one point of a gauge.
pub fn send_metric(port: u16, name: &str, value: f64) -> Result<(), String> {
    let point = json!({"timeUnixNano": now(), "asDouble": value});
    let metric = json!({"name": name, "gauge": {"dataPoints": [point]}});
    send(port, "v1/metrics", json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}))
}

/// Sends one span of a trace of its own.
pub fn send_span(port: u16, name: &str) -> Result<(), String> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("{:016x}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (trace, at) = (format!("{id}{id}"), now());
    let span = json!({"traceId": trace, "spanId": id, "name": name, "startTimeUnixNano": at, "endTimeUnixNano": at, "kind": 2});
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "test"}}]});
    send(port, "v1/traces", json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}))
}

fn send(port: u16, path: &str, body: Value) -> Result<(), String> {
    let request = ureq::post(format!("http://127.0.0.1:{port}/{path}")).header("Content-Type", "application/json");
    let request = request.config().timeout_global(Some(Duration::from_secs(5))).build();
    request.send(body.to_string()).map(|_| ()).map_err(|error| error.to_string())
}

fn now() -> String {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos().to_string()
}

/// Takes what an `otlphttp` exporter with `encoding: json` and `compression: none` sends, and remembers it.
pub struct OtlpSink {
    server: Server,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl OtlpSink {
    pub fn start() -> OtlpSink {
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let record = Arc::clone(&requests);
        let server = Server::start(0, None, move |request| {
            record.lock().unwrap().push(request);
            Reply::json(&json!({}))
        });
        OtlpSink { server: server.unwrap(), requests }
    }

    /// For the exporter's `endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.addr)
    }

    /// The exporter's whole config.
    pub fn exporter(&self) -> Value {
        json!({"endpoint": self.endpoint(), "encoding": "json", "compression": "none"})
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many of the export requests carry this text.
    pub fn count(&self, text: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| carries(request, text)).count()
    }

    /// The first export, past or future, that carries this text.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) -> Request {
        let found =
            poll_for(DEADLINE, || self.requests.lock().unwrap().iter().find(|request| carries(request, text)).cloned());
        found.unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for an export with {text:?}"))
    }
}

fn carries(request: &Request, text: &str) -> bool {
    String::from_utf8_lossy(&request.body).contains(text)
}
