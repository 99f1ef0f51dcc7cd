//! The supervisor's thread waits for no disk while a collector lives, which may be waiting for it: whatever it decides
//! then is a rename, and the poller syncs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::scenario::{better, good};
use super::strace::{Thread, Trace};
use crate::operation::{wait_running, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::process;

/// It runs, and is not healthy.
fn unhealthy() -> Value {
    let mut config = good();
    config["name"] = json!("unhealthy");
    config["fake"] = json!({"health_status": 503});
    config["extensions"] = json!({"health_check": {"endpoint": format!("127.0.0.1:{}", process::free_port())}});
    config["service"]["extensions"] = json!(["health_check"]);
    config
}

fn next() -> Value {
    let mut config = good();
    config["name"] = json!("next");
    config
}

fn start(agent: &Agent, confirm_time: &str) {
    agent.spawn_command(agent.command(["start", "--confirm-time", confirm_time]));
}

/// An agent whose active config is unconfirmed, over a confirmed one.
fn unconfirmed(api: &Api, mode: &str) -> Agent {
    let builder = Agent::builder().api(api).setting("min-uptime", "300ms").setting("restart-mode", mode);
    let agent = builder.setting("log-level", "info").config(yaml(&good())).build();
    start(&agent, "0");
    agent.wait_log("a confirmed config", |line| line.msg() == "config confirmed");
    assert_eq!(agent.stop(), 0);
    let seen = agent.log().len();
    start(&agent, "1h");
    install(&agent, api, seen, &better(), "config promoted");
    agent
}

fn install(agent: &Agent, api: &Api, seen: usize, config: &Value, outcome: &str) {
    api.answer_config(config.clone());
    agent.wait_log_after(seen, outcome, |line| line.msg() == outcome);
    let is_settled = |status: &Value| status["collector"]["state"] == "running";
    agent.wait_status("the collector that stays", is_settled);
}

/// The calls that sync something, while a collector lived by what the thread itself has logged, and how many there were
/// in all.
fn syncs(trace: &Path) -> (Vec<String>, usize) {
    let text = fs::read_to_string(trace).unwrap();
    let (mut live, mut found, mut count) = (1, Vec::new(), 0);
    for line in text.lines() {
        let says = |words: &str| line.starts_with("write(2<") && line.contains(words);
        if says("collector started") {
            live += 1;
        } else if says("collector stopped") || says("collector exited unexpectedly") {
            live -= 1;
        } else if line.starts_with("fsync(") || line.starts_with("fdatasync(") {
            count += 1;
            found.extend((live > 0).then(|| line.to_string()));
        }
    }
    assert!((1..=2).contains(&live), "{live} collectors live\n{text}");
    (found, count)
}

#[test]
fn nothing_is_synced_on_its_thread_while_a_collector_lives() {
    // In the second directory no file can have two names.
    for (mode, rights) in [("restart", 0o755), ("restart", 0o1777), ("handover", 0o755), ("handover", 0o1777)] {
        let api = Api::plain();
        let agent = unconfirmed(&api, mode);
        fs::set_permissions(agent.config_file().parent().unwrap(), Permissions::from_mode(rights)).unwrap();
        let mut trace = Trace::attach(&agent, Thread::Supervisor, None);
        install(&agent, &api, agent.log().len(), &unhealthy(), "config rolled back");
        let restored = if mode == "restart" { good() } else { better() };
        assert_eq!(agent.config(), restored, "{mode} {rights:o}");
        let seen = agent.log().len();
        install(&agent, &api, seen, &next(), "config promoted");
        // What was decided is on disk when the check is answered.
        assert_eq!(agent.run(["--check"]).code, Some(0));
        // The negative control: that an unconfirmed config has crashed is on disk before it is started again.
        let seen = agent.log().len();
        process::signal(agent.wait_collector(), Signal::KILL);
        wait_running(&agent, seen);
        trace.detach(&agent);
        let (while_living, in_all) = syncs(trace.file());
        assert_eq!(while_living, Vec::<String>::new(), "{mode} {rights:o}");
        assert!(in_all > 0, "{mode} {rights:o}");
        assert_eq!(agent.stop(), 0);
    }
}
