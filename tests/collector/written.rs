//! Configs that people write, which the collector reads by go-yaml's rules: the agent reads the same in them.

use std::fs;

use super::Site;

/// A config of this site in block style, whose health check is where only a reader of merge keys finds it.
fn merged(site: &Site) -> String {
    let (otlp, health, sink) = (site.otlp, site.health, site.sink.exporter());
    format!(
        "receivers:
  otlp: {{protocols: {{http: {{endpoint: \"127.0.0.1:{otlp}\"}}}}}}
exporters:
  otlp_http: {sink}
extensions:
  health_check: &base
    endpoint: 127.0.0.1:{health}
  health_check/merged:
    <<: *base
    path: /merged
service:
  extensions: [health_check/merged]
  pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_http]}}}}
  telemetry:
    metrics: {{level: none}}
    resource: {{1.50: a, 404: b}}
"
    )
}

#[test]
fn whatever_form_of_yaml_the_collector_takes() {
    for form in ["plain UTF-8", "a byte order mark", "UTF-16", "two documents"] {
        let site = Site::new();
        let text = merged(&site);
        let bytes: Vec<u8> = match form {
            "plain UTF-8" => text.into_bytes(),
            "a byte order mark" => format!("\u{feff}{text}").into_bytes(),
            "UTF-16" => [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect(),
            _ => format!("{text}---\nextensions: {{health_check/merged: [}}\n").into_bytes(),
        };
        let agent = site.patient().build();
        fs::write(agent.config_file(), &bytes).unwrap();
        agent.spawn();
        agent.wait_log(&format!("{form}: promoted"), |line| line.msg() == "config promoted");
        assert!(fs::read(agent.state_dir().join("generations/1.yaml")).is_ok_and(|kept| kept == bytes), "{form}");
        site.delivers(&agent, form);
        let status = agent.status().unwrap();
        assert!(status["config"]["revision"].is_string(), "{form}: {status}");
    }
}
