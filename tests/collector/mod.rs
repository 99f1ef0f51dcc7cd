//! The agent with a real collector: what the stand-in only claims, and telemetry that goes in at one end and out at the
//! other.

mod bootstrap;
mod check;
mod full;
mod idle;
mod killed;
mod live;
mod outside;
mod policy;
mod refusal;
mod rollback;
mod shipped;
mod stop;
mod tls;
mod values;
mod written;

use std::fs;

use serde_json::{Value, json};

use crate::operation::{is_running, message, settled, wait_running, yaml};
use crate::support::agent::{Agent, Builder};
use crate::support::api::{Api, Request};
use crate::support::bin;
use crate::support::otlp::{self, OtlpSink};
use crate::support::process::free_port;

/// Everything around an agent: the API that it asks, where its collector listens, and where telemetry ends up.
struct Site {
    api: Api,
    sink: OtlpSink,
    /// The collector's OTLP/HTTP receiver.
    otlp: u16,
    /// The collector's health check.
    health: u16,
}

impl Site {
    fn new() -> Site {
        Site::with(Api::plain())
    }

    fn with(api: Api) -> Site {
        Site { api, sink: OtlpSink::start(), otlp: free_port(), health: free_port() }
    }

    /// OTLP in, OTLP out to the sink. Without a health check: on a host that is busy enough a collector may take longer
    /// to start than a test's probation.
    fn config(&self) -> Value {
        self.config_to(&self.sink)
    }

    fn config_to(&self, sink: &OtlpSink) -> Value {
        json!({
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": format!("127.0.0.1:{}", self.otlp)}}}},
            "exporters": {"otlp_http": sink.exporter()},
            "service": {
                "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["otlp_http"]}},
                // The collector's own metrics would open port 8888.
                "telemetry": {"metrics": {"level": "none"}},
            },
        })
    }

    /// `config` with one processor in the pipeline.
    fn config_with(&self, processor: &str, settings: Value) -> Value {
        let mut config = self.config();
        config["processors"] = json!({processor: settings});
        config["service"]["pipelines"]["logs"]["processors"] = json!([processor]);
        config
    }

    /// The same with a health check.
    fn checked(&self, mut config: Value) -> Value {
        config["extensions"] = json!({"health_check": {"endpoint": format!("127.0.0.1:{}", self.health)}});
        config["service"]["extensions"] = json!(["health_check"]);
        config
    }

    /// An agent with the real collector that asks this site's API.
    fn builder(&self) -> Builder {
        Agent::builder().api(&self.api).collector(bin::collector())
    }

    /// The same with a probation that outlasts the start of a collector, for what fails, or is asked for its health, by
    /// then.
    fn patient(&self) -> Builder {
        self.builder().setting("min-uptime", "3s")
    }

    /// An agent whose collector runs `config` and has proved itself.
    #[track_caller]
    fn settled(&self) -> Agent {
        settled(self.builder(), &self.config())
    }

    /// Sends a log record to the collector, once that listens.
    #[track_caller]
    fn takes(&self, agent: &Agent, text: &str) {
        agent.wait_until("a collector that takes telemetry", || otlp::send_log(self.otlp, text).is_ok());
    }

    /// Sends a log record through the collector and returns it as it came out.
    #[track_caller]
    fn delivers(&self, agent: &Agent, text: &str) -> Value {
        self.delivers_to(agent, &self.sink, text)
    }

    #[track_caller]
    fn delivers_to(&self, agent: &Agent, sink: &OtlpSink, text: &str) -> Value {
        self.takes(agent, text);
        record(&sink.wait_for_text(text), text)
    }

    /// The status of the health check; `None` when nobody answers.
    fn health_status(&self) -> Option<u16> {
        let request = ureq::get(format!("http://127.0.0.1:{}/", self.health)).config().http_status_as_error(false);
        request.build().call().ok().map(|response| response.status().as_u16())
    }
}

/// The log record with this body out of an export.
#[track_caller]
fn record(export: &Request, text: &str) -> Value {
    let export = export.json();
    let items = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let scopes = items(&export, "resourceLogs").into_iter().flat_map(|resource| items(&resource, "scopeLogs"));
    let mut records = scopes.flat_map(|scope| items(&scope, "logRecords"));
    records
        .find(|record| record["body"]["stringValue"] == text)
        .unwrap_or_else(|| panic!("no record {text} in {export}"))
}

/// The last known good as a value; null when there is none.
fn last_known_good(agent: &Agent) -> Value {
    let text = fs::read_to_string(agent.state_dir().join("last-known-good.yaml"));
    text.map_or(Value::Null, |text| serde_yaml::from_str(&text).unwrap())
}
