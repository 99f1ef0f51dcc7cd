//! A host without a config gets one over TLS.

use std::os::unix::fs::PermissionsExt;

use super::{Site, message, wait_proved, wait_running};
use crate::support::api::Api;
use crate::support::process;

#[test]
fn a_host_without_a_config_gets_one_over_tls_and_runs_it() {
    let site = Site::with(Api::tls());
    let agent = site.patient().spawn();
    let first = site.api.wait_for_request("the first report", |_| true);
    assert_eq!(first.json()["collector_status"], "Stopped");
    let version = first.json()["collector_version"].as_str().unwrap().to_string();
    let parts: Vec<_> = version.strip_prefix('v').unwrap().split('.').map(str::parse::<u32>).collect();
    assert!(parts.len() == 3 && parts.iter().all(Result::is_ok), "{version}");
    assert!(message(&first).contains("waiting for the API to send one"), "{}", message(&first));

    let config = site.checked(site.config());
    site.api.answer_config(config.clone());
    wait_running(&agent, 0);
    assert_eq!(site.health_status(), Some(200));
    wait_proved(&agent, &config, &config);
    let mode = std::fs::metadata(agent.config_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let report = site.api.wait_for_request("a resolved problem", |request| message(request).is_empty());
    assert_eq!(report.json()["collector_status"], "Running");
    let status = agent.status().unwrap();
    assert_eq!(
        (&status["collector"]["state"], &status["collector"]["pid"]),
        (&"running".into(), &agent.wait_collector().into())
    );
    site.delivers(&agent, "from a new host");
    assert_eq!(agent.stop(), 0);
    assert!(!process::port_answers(site.otlp) && !process::port_answers(site.health));
    assert_eq!(agent.processes(), [0; 0]);
}
