//! A host without a config, and an agent without an API.

use rustix::process::Signal;
use serde_json::json;

use super::{holds_polls, message, named, quick, scripted, settled, wait_polls, wait_running, yaml};
use crate::support::api::Api;
use crate::support::process;

#[test]
fn without_a_config_it_is_stopped_and_says_why_until_one_arrives() {
    let api = Api::plain();
    let agent = quick().api(&api).spawn();
    let first = api.wait_for_request("the first report", |_| true);
    assert_eq!(first.json()["collector_status"], "Stopped");
    assert!(message(&first).contains("waiting for the API to send one"), "{}", message(&first));
    let status = agent.wait_status("stopped", |status| status["collector"]["state"] == "stopped");
    assert!(status["last_error_message"].as_str().unwrap().contains("etc/config.yaml"), "{status}");
    assert_eq!(agent.count_log(|line| line.msg() == "collector not started" && line.level() == "warn"), 1);
    assert_eq!(agent.starts(), 0);

    api.answer_config(named("first"));
    agent.wait_start(1);
    wait_running(&agent, 0);
    assert_eq!(agent.config(), named("first"));
    let report = api.wait_for_request("a resolved problem", |request| message(request).is_empty());
    assert_eq!(report.json()["collector_status"], "Running");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_config_put_there_by_hand_is_noticed_by_a_check_in_local_mode() {
    let agent = quick().spawn();
    agent.wait_log("local mode", |line| line.msg().starts_with("local mode"));
    let status = agent.wait_status("stopped", |status| status["collector"]["state"] == "stopped");
    assert!(status["last_error_message"].as_str().unwrap().contains("put one there"), "{status}");
    std::fs::write(agent.config_file(), yaml(&named("by hand"))).unwrap();
    agent.run(["--check"]);
    agent.wait_start(1);
    wait_running(&agent, 0);
}

#[test]
fn a_config_put_there_by_hand_is_noticed_by_a_check_with_an_api() {
    let api = Api::plain();
    let agent = quick().api(&api).spawn();
    agent.wait_status("stopped", |status| status["collector"]["state"] == "stopped");
    std::fs::write(agent.config_file(), yaml(&named("by hand"))).unwrap();
    assert_eq!(agent.run(["--check"]).code, Some(0));
    agent.wait_start(1);
    wait_running(&agent, 0);
}

#[test]
fn local_mode_supervises_and_never_asks() {
    // No key and no endpoint: the derived endpoint would be one on the internet.
    let agent = settled(quick(), &named("local"));
    assert_eq!(agent.count_log(|line| line.msg().starts_with("local mode")), 1);
    let status = agent.status().unwrap();
    assert_eq!(status["polling"]["endpoint"], json!(null));
    assert!(!status["polling"]["local_because"].as_str().unwrap().is_empty());
    process::signal(agent.wait_collector(), Signal::KILL);
    agent.wait_start(2);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn an_interval_of_zero_asks_only_when_a_person_does() {
    let api = Api::plain();
    api.answer_config(named("sent"));
    let agent = settled(quick().api(&api).setting("config-check-interval", "0"), &named("local"));
    holds_polls(&api, 0);
    let output = agent.run(["--check"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.starts_with("installed config"), "{output:?}");
    assert_eq!((api.requests().len(), agent.config()), (1, named("sent")));
}

#[test]
fn a_first_config_that_the_collector_refuses_leaves_none() {
    let api = Api::plain();
    api.answer_config(scripted("bad", json!({"validate": "fail"})));
    let agent = quick().api(&api).spawn();
    api.wait_for_request("the refusal", |request| message(request).contains("scripted to refuse"));
    wait_polls(&agent, &api, 1);
    assert!(!agent.config_file().exists());
    assert_eq!(agent.starts(), 0);
    api.answer_config(named("good"));
    wait_running(&agent, 0);
}

/// As a pod has them: a directory of links, with nothing in it until a config came from afar, then a default.
#[test]
fn a_start_without_a_config_takes_the_first_seed_that_has_one() {
    let builder = quick();
    let seed = |name: &str| builder.dir().join(name);
    for dir in ["latest", "latest/..then", "latest/..now"] {
        std::fs::create_dir(seed(dir)).unwrap();
    }
    std::os::unix::fs::symlink("..then", seed("latest/..data")).unwrap();
    std::os::unix::fs::symlink("..data/config.yaml", seed("latest/config.yaml")).unwrap();
    std::fs::write(seed("blank.yaml"), "\n").unwrap();
    std::fs::write(seed("default.yaml"), yaml(&named("default"))).unwrap();
    let seeds =
        ["latest/config.yaml", "blank.yaml", "latest", "default.yaml"].map(|name| seed(name).display().to_string());
    let agent = builder.setting("seed-config", seeds.to_vec()).spawn();
    wait_running(&agent, 0);
    assert_eq!(agent.config(), named("default"));
    let unreadable = agent.log().into_iter().find(|line| line.msg() == "cannot install the default config").unwrap();
    assert!(unreadable.field("error").contains("cannot read the default config: "), "{unreadable:?}");
    let line = agent.wait_log("the seed", |line| line.msg() == "no config found; installed the default one");
    assert_eq!(line.field("seed"), seeds[3]);

    // The config of the host stays, whatever the seeds are by then.
    assert_eq!(agent.stop(), 0);
    std::fs::write(agent.dir().join("latest/..now/config.yaml"), yaml(&named("latest"))).unwrap();
    std::fs::remove_file(agent.dir().join("latest/..data")).unwrap();
    std::os::unix::fs::symlink("..now", agent.dir().join("latest/..data")).unwrap();
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    assert_eq!((agent.config(), agent.stop()), (named("default"), 0));
    // Nor is one taken while there is a config to go back to.
    std::fs::remove_file(agent.config_file()).unwrap();
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    assert_eq!((agent.config(), agent.stop()), (named("default"), 0));

    // A new pod.
    std::fs::remove_file(agent.config_file()).unwrap();
    std::fs::remove_dir_all(agent.state_dir()).unwrap();
    let log = agent.log().len();
    let mut command = agent.command(["start"]);
    command.env("KM_SEED_CONFIG", format!("{} {}", seeds[0], seeds[3]));
    agent.spawn_command(command);
    wait_running(&agent, log);
    assert_eq!(agent.config(), named("latest"));
}
