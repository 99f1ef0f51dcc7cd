//! The proof of the hand-over: real clients, a real collector, changes of its config, and every record counted.
//!
//! With `KM_LONG=1` it is the long form: 200 changes and 42 bad configs, half an hour. With `KM_FULL` clients send
//! datagrams, too, which the small collector does not take.

mod bad_configs;
mod components;
mod confined;
mod conflicts;
mod control;
mod health_check;
pub mod load;
mod memory;
mod phases;
mod plain;
mod raw;
mod restart;
mod retried_by_restart;
mod seamless;
pub mod sink;
mod unsupported;
mod widened;
mod wrapped;
mod yama;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::wait::{poll_for, slowness, wait_until};
use crate::support::{bin, process};
use load::{Load, Mode, Report};
use sink::Sink;

/// The modes that hand over.
fn modes() -> [&'static str; 2] {
    ["handover", "auto"]
}

/// How many changes: the long form proves, the short one guards.
fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("KM_LONG").is_some_and(|value| value == "1") { long } else { short }
}

/// The collector with everything if there is one, else the small one.
fn collector() -> PathBuf {
    std::env::var_os("KM_FULL").map_or_else(bin::collector, PathBuf::from)
}

/// Whether it has the receiver syslog.
fn takes_datagrams() -> bool {
    std::env::var_os("KM_FULL").is_some()
}

/// An agent, its API, and where its telemetry ends up.
struct Scene {
    agent: Agent,
    api: Api,
    sink: Sink,
    ports: Ports,
    /// Every config is this one under another name.
    template: Value,
}

#[derive(Clone, Copy)]
pub struct Ports {
    pub grpc: u16,
    pub http: u16,
    pub health: u16,
    pub udp: u16,
}

/// What was seen while a change was on its way.
struct Change {
    /// Two collectors at once.
    overlap: bool,
}

impl Scene {
    /// With the real collector, and with a first config that has proved itself.
    #[track_caller]
    fn new(restart_mode: &str) -> Scene {
        Scene::built(restart_mode, |builder| builder, spawn)
    }

    /// The same, with further settings, and the agent started by `start`.
    #[track_caller]
    fn built(restart_mode: &str, settings: impl FnOnce(Builder) -> Builder, start: impl FnOnce(&Agent)) -> Scene {
        let (sink, ports) = (Sink::start(), Ports::free());
        let mut template = real_config(ports, &sink);
        if takes_datagrams() {
            template["receivers"]["syslog"] = json!({
                "protocol": "rfc5424",
                "udp": {"listen_address": format!("127.0.0.1:{}", ports.udp)},
                "operators": [{"type": "move", "from": "attributes.message", "to": "body"}],
            });
            template["service"]["pipelines"]["logs"]["receivers"] = json!(["otlp", "syslog"]);
        }
        // Long enough for a real collector to start, and be healthy, on a host that is busy with tests; and the agent's
        // own default to drain in, since what is killed loses what it holds.
        let min_uptime = format!("{}s", 3 * slowness());
        let patient = |builder: Builder| builder.setting("min-uptime", min_uptime).setting("stop-timeout", "30s");
        let with_collector = |builder: Builder| settings(patient(builder.collector(collector())));
        Scene::started(restart_mode, with_collector, start, sink, ports, template)
    }

    /// With the stand-in collector, which answers as OTLP over HTTP does and passes nothing on.
    #[track_caller]
    fn with_stand_in(restart_mode: &str, settings: impl FnOnce(Builder) -> Builder) -> Scene {
        Scene::with_stand_in_started(restart_mode, settings, spawn)
    }

    #[track_caller]
    fn with_stand_in_started(
        restart_mode: &str,
        settings: impl FnOnce(Builder) -> Builder,
        start: impl FnOnce(&Agent),
    ) -> Scene {
        let (sink, ports) = (Sink::start(), Ports::free());
        let mut template = real_config(ports, &sink);
        template["fake"] = json!({"serve_otlp": true});
        template["receivers"]["otlp"]["protocols"].as_object_mut().unwrap().remove("grpc");
        Scene::started(restart_mode, settings, start, sink, ports, template)
    }

    #[track_caller]
    fn started(
        restart_mode: &str,
        settings: impl FnOnce(Builder) -> Builder,
        start: impl FnOnce(&Agent),
        sink: Sink,
        ports: Ports,
        template: Value,
    ) -> Scene {
        let api = Api::plain();
        let first = serde_yaml::to_string(&named(&template, "first")).unwrap();
        let builder = Agent::builder().api(&api).setting("restart-mode", restart_mode).setting("log-level", "info");
        let agent = settings(builder.config(first)).build();
        start(&agent);
        let scene = Scene { agent, api, sink, ports, template };
        scene.agent.wait_until("a first config to be promoted", || scene.is_good("first"));
        scene.agent.wait_status("running", |status| status["collector"]["state"] == "running");
        scene
    }

    fn config(&self, name: &str) -> Value {
        named(&self.template, name)
    }

    /// The clients all at once, at what two cores can do with everything else.
    #[track_caller]
    fn load(&self) -> Vec<Load> {
        let Ports { grpc, http, udp, .. } = self.ports;
        let kept = [(Mode::Grpc, grpc, 100, 2), (Mode::Http, http, 100, 2)];
        let each = [(Mode::GrpcEach, grpc, 20, 2), (Mode::HttpEach, http, 50, 2), (Mode::New, http, 200, 4)];
        let datagrams = takes_datagrams().then_some((Mode::Udp, udp, 100, 1));
        Load::start_all(datagrams.into_iter().chain(kept).chain(each))
    }

    fn is_good(&self, name: &str) -> bool {
        self.agent.proved_config()["processors"]["resource"]["attributes"][0]["value"] == name
    }

    /// Pushes the config of that name and waits until it has proved itself and records came by way of it.
    #[track_caller]
    fn change(&self, name: &str) -> Change {
        let before = self.status()["config"]["revision"].clone();
        self.api.answer_config(self.config(name));
        let change = self.watch(&format!("verdict on the good config {name:?}"), || {
            self.is_good(name) && {
                let status = self.status();
                let settled = status["collector"]["state"] == "running" && status["last_error_message"] == "";
                settled && status["config"]["revision"] != before
            }
        });
        if self.template.get("fake").is_none() {
            wait_until("records by way of the new config", || self.sink.came_by(name));
        }
        change
    }

    /// Pushes a config and waits until it has been rejected for `reason`.
    #[track_caller]
    fn bad_change(&self, config: Value, reason: &str) -> Change {
        let before = self.status();
        self.api.answer_config(config);
        self.wait_rejected(&before, &[reason])
    }

    /// Waits until another config than `before` has been rejected, for one of `reasons`.
    #[track_caller]
    fn wait_rejected(&self, before: &Value, reasons: &[&str]) -> Change {
        let before = &before["config"];
        let change = self.watch(&format!("rejection for {reasons:?}"), || {
            let status = self.status();
            let rejected = status["config"]["rejected_revision"] != before["rejected_revision"];
            rejected && status["collector"]["state"] == "running"
        });
        let status = self.status();
        let reason = status["config"]["rejected_because"].as_str().unwrap_or_default();
        assert!(reasons.iter().any(|words| reason.contains(words)), "none of {reasons:?} in {status}");
        assert_eq!(status["config"]["revision"], before["revision"], "{status}");
        change
    }

    fn status(&self) -> Value {
        self.agent.status().unwrap_or_default()
    }

    /// Waits for a condition that costs something, and counts the collectors meanwhile.
    #[track_caller]
    fn watch(&self, what: &str, mut condition: impl FnMut() -> bool) -> Change {
        /// Rare enough not to disturb what is measured.
        const PACE: Duration = Duration::from_millis(50);
        let (mut asked_at, mut overlap) = (Instant::now(), false);
        let found = poll_for(Duration::from_secs(40), || {
            if asked_at.elapsed() < PACE {
                return None;
            }
            asked_at = Instant::now();
            overlap |= self.agent.collectors().len() > 1;
            condition().then_some(())
        });
        assert!(found.is_some(), "no {what}: {}", self.status());
        Change { overlap }
    }

    /// Ends the clients, then the agent, and checks that what was acknowledged came out, once, and what of the
    /// datagrams.
    #[track_caller]
    fn finish(self, title: &str, loads: Vec<Load>) -> Vec<Report> {
        let mut reports = counted(title, loads);
        for report in reports.iter_mut().filter(|report| report.mode == Some(Mode::Udp)) {
            let missing = || self.sink.missing(report.acknowledged_numbers());
            // What waits in its socket is lost when it stops.
            poll_for(Duration::from_secs(5), || missing().is_empty().then_some(()));
            report.lost = missing().len();
        }
        let acknowledged = || {
            let connected = reports.iter().filter(|report| report.mode != Some(Mode::Udp));
            connected.flat_map(Report::acknowledged_numbers)
        };
        // It drains what it holds.
        assert_eq!(self.agent.stop(), 0);
        poll_for(Duration::from_secs(5), || self.sink.missing(acknowledged()).is_empty().then_some(()));
        let (missing, repeated) = (self.sink.missing(acknowledged()), self.sink.repeated());
        assert!(missing.is_empty(), "acknowledged, but lost: {missing:?}");
        assert!(repeated.is_empty(), "came more than once: {repeated:?}");
        assert_eq!(self.sink.strange(), [""; 0]);
        reports
    }
}

impl Ports {
    pub fn free() -> Ports {
        Ports {
            grpc: process::free_port(),
            http: process::free_port(),
            health: process::free_port(),
            udp: process::free_port(),
        }
    }
}

fn spawn(agent: &Agent) {
    agent.spawn();
}

/// Ends the clients and prints what they saw.
#[track_caller]
pub fn counted(title: &str, loads: Vec<Load>) -> Vec<Report> {
    let reports: Vec<Report> = loads.into_iter().map(Load::stop).collect();
    let rows: Vec<String> = reports.iter().map(Report::rows).collect();
    // Past the capture of output: the numbers are the point.
    let _ = std::io::stderr().write_all(format!("\nhandover: {title}\n{}", rows.concat()).as_bytes());
    reports
}

pub fn named(template: &Value, name: &str) -> Value {
    let mut config = template.clone();
    config["processors"]["resource"]["attributes"][0]["value"] = json!(name);
    config
}

pub fn real_config(ports: Ports, sink: &Sink) -> Value {
    let local = |port: u16| json!({"endpoint": format!("127.0.0.1:{port}")});
    let pipeline = json!({"receivers": ["otlp"], "processors": ["resource", "batch"], "exporters": ["otlp_http"]});
    json!({
        "receivers": {"otlp": {"protocols": {"grpc": local(ports.grpc), "http": local(ports.http)}}},
        "processors": {
            "resource": {"attributes": [{"key": sink::CONFIG, "value": "", "action": "upsert"}]},
            // So that there is always something to drain.
            "batch": {"timeout": "100ms"},
        },
        "exporters": {"otlp_http": sink.exporter()},
        "extensions": {"health_check": local(ports.health)},
        "service": {
            "extensions": ["health_check"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"logs": pipeline},
        },
    })
}

/// Nothing refused, reset, or lost on the way in, in so many changes. Each of them closes each kept connection once.
#[track_caller]
pub fn assert_seamless(reports: &[Report], changes: usize) {
    for report in reports {
        assert!(report.stale <= u64::from(report.workers) * changes as u64, "{report:?}");
        let Report { refused, reset, other, lost, .. } = *report;
        assert_eq!((refused, reset, other, lost), (0, 0, 0, 0), "{report:?}");
        assert_eq!(report.sent, report.acknowledged, "{report:?}");
    }
}
