//! A config of megabytes costs the supervisor's thread no more than a small one, whatever becomes of it: it reads none
//! while a collector lives, whose output, bind(2) and exit wait for it as `status` does.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{settled, wait_running};
use crate::support::agent::{Agent, Line};
use crate::support::api::Api;
use crate::support::process;

/// Of the supervisor's thread, in proc_pid_schedstat's first field.
fn processor_time(agent: &Agent) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", agent.pid())).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn config(name: &str, components: usize) -> Value {
    let receiver = |number| (format!("otlp/{number}"), json!({"protocols": {"grpc": {"endpoint": "localhost:1"}}}));
    let mut receivers: serde_json::Map<String, Value> = (0..components).map(receiver).collect();
    receivers.insert("otlp".to_string(), json!({}));
    let pipelines = json!({"logs": {"receivers": ["otlp"], "exporters": ["nop"]}});
    json!({"fake": {}, "name": name, "receivers": receivers, "exporters": {"nop": {}},
        "service": {"pipelines": pipelines}})
}

/// It runs, and is not healthy.
fn unhealthy(components: usize) -> Value {
    let mut config = config("unhealthy", components);
    config["fake"] = json!({"health_status": 503});
    config["extensions"] = json!({"health_check": {"endpoint": format!("127.0.0.1:{}", process::free_port())}});
    config["service"]["extensions"] = json!(["health_check"]);
    config
}

fn says(words: &str) -> impl Fn(&Line) -> bool {
    move |line| line.msg() == words
}

/// What the supervisor spends on an install with its probe and promotion, a crash, a restart, a roll back and the
/// answers to `status` meanwhile.
fn cost(mode: &str, components: usize) -> Duration {
    let api = Api::plain();
    let builder = Agent::builder().api(&api).setting("max-config-size", "32MiB").setting("restart-mode", mode);
    let agent = settled(builder.setting("min-uptime", "500ms"), &config("first", components));
    let before = processor_time(&agent);
    let install = |config: Value, outcome: &str| {
        let seen = agent.log().len();
        api.answer_config(config);
        agent.wait_log_after(seen, outcome, says(outcome));
        wait_running(&agent, seen);
        // As often with each config: what asks until something has happened asks more often of the slower one.
        assert_eq!(agent.status().unwrap()["collector"]["state"], "running");
    };
    install(config("second", components), "config promoted");
    let seen = agent.log().len();
    process::signal(agent.wait_collector(), Signal::KILL);
    wait_running(&agent, seen);
    assert!(agent.run(["restart"]).says().starts_with("collector restarted, by "));
    install(unhealthy(components), "config rolled back");
    assert_eq!(agent.config()["name"], "second");
    processor_time(&agent) - before
}

#[test]
fn it_costs_the_supervisor_no_more_than_a_small_one() {
    // 2 MiB; the debug build reads a tenth as fast.
    let components = if std::env::var_os("KMAGENT_BIN").is_none() { 10_000 } else { 20_000 };
    for mode in ["restart", "handover"] {
        let costs = [0, components].map(|components| cost(mode, components));
        assert!(costs[1] < costs[0] * 3, "{mode}: {costs:?}");
    }
}
