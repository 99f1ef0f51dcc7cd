//! `dist/config.yaml`, the config of a new host, as it is shipped.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Site, wait_running, yaml};
use crate::support::agent::{Agent, Line};
use crate::support::{bin, process};

fn shipped() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/config.yaml")).unwrap()
}

/// Its ports are those that every collector has by default, so a test takes others, as a host may: with an overlay.
fn overlay(site: &Site) -> Value {
    let at = |port: u16| json!({"endpoint": format!("127.0.0.1:{port}")});
    json!({
        "extensions": {"health_check": at(site.health)},
        "receivers": {
            "otlp": {"protocols": {"grpc": at(process::free_port()), "http": at(site.otlp)}},
            "hostmetrics": {"collection_interval": "1s", "initial_delay": "100ms"},
        },
        "processors": {"batch": {"timeout": "50ms"}},
        "exporters": {"otlp_http": {"encoding": "json", "compression": "none"}},
    })
}

#[test]
fn it_is_valid_runs_and_sends_this_host_s_metrics() {
    let site = Site::new();
    // A number, where it stands alone.
    let builder = site.patient().setting("collector-endpoint", site.sink.endpoint()).setting("host-name", "0012");
    let builder = builder.config(shipped());
    let path = builder.dir().join("overlay.yaml");
    fs::write(&path, yaml(&overlay(&site))).unwrap();
    let agent = builder.setting("local-config", path.display().to_string()).spawn();
    wait_running(&agent, 0);
    assert_eq!(site.health_status(), Some(200));
    site.takes(&agent, "from a program");
    for text in ["from a program", "system.cpu.time", "system.filesystem.usage", "system.memory.usage"] {
        let export = site.sink.wait_for_text(text);
        assert_eq!(export.header("authorization"), Some("test-key"), "{text}");
        let host = r#"{"key":"host.name","value":{"stringValue":"0012"}}"#;
        assert!(String::from_utf8_lossy(&export.body).contains(host), "{text}");
    }
    // A warning may be about this host; none may be about the config, but for the name that older collectors know, too.
    let older = |msg: &str| msg.contains(r#""hostmetrics" alias is deprecated"#);
    let is_bad = |msg: &str| msg.contains("\terror\t") || msg.contains("deprecated") && !older(msg);
    let complaint = |line: &Line| line.is_collector() && is_bad(line.msg());
    let complaints: Vec<_> = agent.log().into_iter().filter(complaint).map(|line| line.text).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert_eq!(agent.stop(), 0);
    assert_eq!(fs::read_to_string(agent.config_file()).unwrap(), shipped());
}

#[test]
fn it_is_valid_as_it_is() {
    let agent = Agent::builder().config(shipped()).build();
    let mut validate = std::process::Command::new(bin::collector());
    validate.arg("validate").arg("--config").arg(agent.config_file());
    validate.env("KM_COLLECTOR_ENDPOINT", "https://otel.example.com:4318").env("KM_API_KEY", "key");
    let output = bin::output(validate);
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(0), "", ""));
}
