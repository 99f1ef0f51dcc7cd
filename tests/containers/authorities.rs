//! Whom the programs in the image trust: Mozilla's authorities, which both bring along, or a bundle that is mounted.

use serde_json::{Value, json};

use super::container::{Container, Run, Volumes};
use crate::support::api::Api;
use crate::support::needs;
use crate::support::process::free_port;

/// Where Go and everybody else looks first.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Takes OTLP and sends it over TLS to the port of the API, which records what arrives.
fn config(api: &Api, port: u16) -> Value {
    let mut config = super::collector_config(port);
    let to_api = json!({
        "endpoint": format!("https://127.0.0.1:{}", api.port()),
        "encoding": "json",
        "compression": "none",
        "retry_on_failure": {"initial_interval": "100ms"},
    });
    config["exporters"] = json!({"otlp_http": to_api});
    config["service"]["pipelines"]["logs"]["exporters"] = json!(["otlp_http"]);
    config
}

/// The agent and its collector, with one bundle for both, and what else is in the environment.
fn run(volumes: &Volumes, api: &Api, port: u16, env: &[(&str, &str)]) -> Container {
    api.answer_once(json!({"restart_required": true, "config": config(api, port)}));
    let run = Run::new(volumes).mount(api.ca_file().unwrap(), BUNDLE, "ro").env("KM_CA_FILE", BUNDLE);
    let run = run.env("KM_API_KEY", "key").env("KM_UPDATE_ENDPOINT", api.url()).env("KM_CONFIG_CHECK_INTERVAL", "168h");
    env.iter().fold(run, |run, (name, value)| run.env(name, *value)).start()
}

#[test]
fn a_bundle_is_for_the_agent_and_for_the_collector() {
    if !needs::root() {
        return;
    }
    let (volumes, api, port) = (Volumes::new(), Api::tls(), free_port());
    let container = run(&volumes, &api, port, &[]);
    container.takes(port, "over TLS");
    api.wait_for_request("telemetry", |request| String::from_utf8_lossy(&request.body).contains("over TLS"));
}

/// Go is set to use the authorities that were compiled in, which has no effect on a program that has none.
#[test]
fn the_collector_brings_authorities_along() {
    if !needs::root() {
        return;
    }
    let (volumes, api, port) = (Volumes::new(), Api::tls(), free_port());
    let container = run(&volumes, &api, port, &[("GODEBUG", "x509usefallbackroots=1")]);
    container.takes(port, "over TLS");
    container.wait_log("that it does not know the test's authority", |line| {
        line.is_collector() && line.msg().contains("certificate signed by unknown authority")
    });
}
