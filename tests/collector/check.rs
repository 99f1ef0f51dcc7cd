//! `--check` without an agent: the real `validate` decides, and init's collector takes the config over by `on-change`.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use super::{Site, yaml};
use crate::support::agent::Agent;
use crate::support::{bin, process};

/// Reads the pid file of a collector that another supervisor runs.
fn pid(agent: &Agent) -> Option<u32> {
    fs::read_to_string(agent.dir().join("pid")).ok()?.trim().parse().ok()
}

/// An `on-change` that does what a service manager does: it ends the collector, starts another and looks whether it
/// stays.
fn restarting(site: &Site) -> Agent {
    let builder = site.builder().config(yaml(&site.config())).setting("log-level", "info");
    let script = r#"
        cd DIR
        if [ -e pid ]; then kill "$(cat pid)"; while kill -0 "$(cat pid)" 2>&-; do sleep 0.02; done; fi
        COLLECTOR --config etc/config.yaml >>collector.log 2>&1 </dev/null &
        echo $! >pid
        for try in $(seq 500); do
            kill -0 $! 2>&- || { tail -n 1 collector.log; exit 1; }
            ! tail -n 3 collector.log | grep -q "Everything is ready" || exit 0
            sleep 0.02
        done
        echo "not ready in time"
        exit 1
    "#;
    let dir = builder.dir().display().to_string();
    let script = script.replace("DIR", &dir).replace("COLLECTOR", &bin::collector().display().to_string());
    fs::write(builder.dir().join("restart"), &script).unwrap();
    builder.setting("on-change", format!("setsid sh {dir}/restart")).build()
}

#[test]
fn it_installs_what_is_valid_and_what_on_change_can_start() {
    let site = Site::new();
    let agent = restarting(&site);
    // In the agent's environment, so that what is left of it is found at the end.
    let (mut start, environment) = (Command::new("sh"), agent.command([""; 0]));
    start.arg(agent.dir().join("restart")).env_clear().stdin(Stdio::null());
    start.envs(environment.get_envs().filter_map(|(key, value)| Some((key, value?))));
    assert_eq!(bin::output(start).code, Some(0));
    let first = pid(&agent).unwrap();
    site.delivers(&agent, "as it was");

    // Nothing new: nothing is said and nothing is done.
    site.api.answer(json!({"restart_required": false, "config": site.config()}));
    let output = agent.run(["--check"]);
    assert_eq!((output.code, output.stdout.as_str(), pid(&agent)), (Some(0), "", Some(first)), "{output:?}");

    let tagged = |way: &str| {
        site.config_with("attributes", json!({"actions": [{"key": "way", "value": way, "action": "insert"}]}))
    };
    site.api.answer_config(tagged("first"));
    let output = agent.run(["--check"]);
    assert!(output.code == Some(0) && output.stdout.starts_with("installed config"), "{output:?}");
    let second = pid(&agent).unwrap();
    assert!(second != first && !process::alive(first));
    assert_eq!(site.delivers(&agent, "new")["attributes"][0]["value"]["stringValue"], "first");

    // Not valid: it never gets as far as `on-change`.
    let mut bad = tagged("bad");
    bad["service"]["pipelines"]["logs"]["exporters"] = json!(["otlp_http/missing"]);
    site.api.answer_config(bad);
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(65), "{output:?}");
    assert!(output.stderr.contains(r#"references exporter "otlp_http/missing" which is not configured"#), "{output:?}");
    assert_eq!((pid(&agent), agent.config()), (Some(second), tagged("first")));

    // Valid, and it cannot start: the former one is put back and started.
    let mut unstartable = tagged("unstartable");
    unstartable["receivers"]["otlp"]["protocols"]["grpc"] = json!({"endpoint": "192.0.2.1:4317"});
    site.api.answer_config(unstartable);
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(65), "{output:?}");
    assert!(output.stderr.contains("cannot assign requested address"), "{output:?}");
    assert_eq!(agent.config(), tagged("first"));
    assert_eq!(site.delivers(&agent, "again")["attributes"][0]["value"]["stringValue"], "first");
    process::signal(pid(&agent).unwrap(), Signal::TERM);
}
