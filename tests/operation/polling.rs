//! When the API is asked, and what is reported to it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{named, quick, settled, wait_asked, wait_good, wait_polls};
use crate::support::api::{Api, Reply, Request};
use crate::support::{machine, needs};

fn gaps(requests: &[Request]) -> Vec<f64> {
    requests.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect()
}

fn keys(request: &Request) -> BTreeSet<String> {
    request.json().as_object().unwrap().keys().cloned().collect()
}

const NINE: [&str; 9] = [
    "agent_status",
    "agent_version",
    "architecture",
    "collector_status",
    "collector_version",
    "hostname",
    "is_docker",
    "last_error_message",
    "platform",
];

#[test]
fn polls_are_an_interval_apart_with_jitter() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    wait_asked(&agent, &api, 7);
    let gaps = gaps(&api.requests());
    // The first anywhere in the interval, then 0.9 to 1.1 s, seen through a host that is loaded.
    assert!(gaps[0] < 1.7 && gaps[1..].iter().all(|gap| (0.8..1.8).contains(gap)), "{gaps:?}");
    let rounded: BTreeSet<i64> = gaps.iter().map(|gap| (gap * 200.0) as i64).collect();
    assert!(rounded.len() > 1, "no jitter: {gaps:?}");
}

#[test]
fn polls_neither_overlap_nor_pile_up() {
    let api = Api::plain();
    api.reply_once(Reply::Hang);
    let agent = settled(quick().api(&api).setting("poll-timeout", "3s"), &named("a"));
    wait_asked(&agent, &api, 3);
    let gaps = gaps(&api.requests());
    assert!(gaps[0] >= 2.9, "another poll began while the first one hung: {gaps:?}");
    assert!(gaps[1] >= 0.8, "missed polls are made up for: {gaps:?}");
}

/// cloud-init names a host after the services have started.
#[test]
fn a_host_that_is_renamed_is_reported_with_its_new_name() {
    if !needs::root() {
        return;
    }
    for (setting, expected) in [(None, "renamed-7"), (Some("edge-7"), "edge-7")] {
        let api = Api::plain();
        let builder = quick().api(&api).setting("config-check-interval", 0).config("fake: {}");
        let agent = setting.iter().fold(builder, |builder, name| builder.setting("host-name", *name)).build();
        let start = agent.command(["start"]);
        let mut alone = Command::new("unshare");
        alone.args(["--uts", "--"]).arg(start.get_program()).args(start.get_args()).current_dir(agent.dir());
        alone.env_clear().envs(start.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let pid = agent.spawn_command(alone);
        agent.wait_start(1);
        assert_eq!(agent.run(["--check"]).code, Some(0));
        let mut rename = Command::new("nsenter");
        rename.arg(format!("--uts=/proc/{pid}/ns/uts")).args(["hostname", "renamed-7"]);
        assert!(rename.status().unwrap().success());
        assert_eq!(agent.run(["--check"]).code, Some(0));
        assert_eq!(api.requests().last().unwrap().json()["hostname"], expected);
        assert_eq!(agent.stop(), 0);
    }
}

#[test]
fn a_report_has_nine_keys_and_the_headers_of_the_contract() {
    let api = Api::plain();
    let builder = quick().setting("api-key", "Some Key: verbatim==").setting("host-name", "edge-7").api(&api);
    let _agent = settled(builder, &named("a"));
    let request = api.wait_for_request("a report", |_| true);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/agents/config-check"));
    let agent = concat!("kmagent/", env!("CARGO_PKG_VERSION"));
    for (name, value) in
        [("content-type", "application/json"), ("authorization", "Some Key: verbatim=="), ("user-agent", agent)]
    {
        let values: Vec<&str> = request
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(values, [value]);
    }
    assert_eq!(keys(&request), NINE.map(str::to_string).into());
    let expected = json!({
        "agent_status": "Running", "agent_version": env!("CARGO_PKG_VERSION"), "architecture": machine::goarch(),
        "collector_status": "Running", "collector_version": "v0.165.0", "hostname": "edge-7", "is_docker": false,
        "last_error_message": "", "platform": "linux",
    });
    assert_eq!(request.json(), expected);
}

#[test]
fn without_a_key_there_is_no_authorization() {
    let api = Api::plain();
    let builder = quick().setting("update-endpoint", api.url()).setting("docker-mode", true);
    let _agent = settled(builder, &named("a"));
    let request = api.wait_for_request("a report", |_| true);
    assert_eq!(request.header("authorization"), None);
    assert_eq!((&request.json()["platform"], &request.json()["is_docker"]), (&json!("docker"), &json!(true)));
}

#[test]
fn an_extended_report_has_six_keys_more() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("report-extended", true), &named("a"));
    let extra =
        ["instance_id", "config_revision", "rejected_revision", "config_state", "collector_restarts", "uptime_seconds"];
    let first = api.wait_for_request("a report", |_| true);
    assert_eq!(keys(&first), NINE.iter().chain(&extra).map(|key| key.to_string()).collect());
    let first = first.json();
    assert_eq!((&first["rejected_revision"], &first["collector_restarts"]), (&Value::Null, &json!(0)));
    assert_eq!(first["config_revision"].as_str().unwrap(), agent.status().unwrap()["config"]["revision"]);

    api.answer_config(super::scripted("bad", json!({"validate": "fail"})));
    let refused = api.wait_for_request("a rejected revision", |request| !request.json()["rejected_revision"].is_null());
    assert_eq!(refused.json()["config_revision"], first["config_revision"]);
    api.answer_config(named("b"));
    wait_good(&agent, &named("b"));
    let later = api.wait_for_request("a restart", |request| request.json()["collector_restarts"] == 1);
    assert_ne!(later.json()["config_revision"], first["config_revision"]);
    assert_eq!((&later.json()["instance_id"], agent.stop()), (&first["instance_id"], 0));
    // Kept for the next agent, and its uptime is its own.
    let asked = api.requests().len();
    agent.spawn();
    let next = api.wait_for_request_after(asked, "a report of the next agent", |_| true).json();
    assert_eq!((&next["instance_id"], &next["uptime_seconds"]), (&first["instance_id"], &json!(0)));
}

/// What an offer has become of: the nine keys do not say whether it was taken.
#[test]
fn an_extended_report_says_how_far_a_config_is() {
    let api = Api::plain();
    let builder = quick().api(&api).setting("report-extended", true).setting("confirm-time", "3s");
    let agent = builder.setting("validate-timeout", "1s").spawn();
    let mut seen = 0;
    let mut wait_state = |state: &str| {
        let request = api.wait_for_request_after(seen, state, |request| request.json()["config_state"] == state);
        seen = api.requests().len();
        request.json()
    };
    assert_eq!(wait_state("none")["config_revision"], Value::Null);
    let timed_out = super::scripted("a", json!({"validate": "hang"}));
    api.answer_config(timed_out);
    assert!(wait_state("validating")["last_error_message"].as_str().unwrap().contains("validate"));
    api.answer_config(super::scripted("b", json!({"ready_after_ms": 3000})));
    let first = wait_state("probation");
    assert!(first["config_revision"].is_string(), "{first}");
    assert_eq!(wait_state("unconfirmed")["config_revision"], first["config_revision"]);
    assert_eq!(wait_state("confirmed")["config_revision"], first["config_revision"]);
    api.answer(json!({"config": named("c")}));
    assert_eq!(wait_state("pending")["config_revision"], first["config_revision"]);
    api.answer_config(super::scripted("bad", json!({"validate": "fail"})));
    let refused = api.wait_for_request("a refusal", |request| !request.json()["rejected_revision"].is_null());
    assert_eq!(refused.json()["config_state"], "confirmed", "of the active config, since the other one is decided");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_setting_names_the_instance() {
    let api = Api::plain();
    let builder = quick().api(&api).setting("report-extended", true).setting("instance-id", "a-pod");
    let agent = settled(builder, &named("a"));
    assert_eq!(api.wait_for_request("a report", |_| true).json()["instance_id"], "a-pod");
    assert!(!agent.state_dir().join("instance-id.json").exists(), "none was made");
    let settings = fs::read_to_string(agent.settings_file()).unwrap();
    fs::write(agent.settings_file(), settings.replace("a-pod", "another")).unwrap();
    assert_eq!(agent.run(["reload"]).says(), "settings reloaded, changed: instance-id\n");
    api.wait_for_request("the other one", |request| request.json()["instance_id"] == "another");
}

#[test]
fn an_unchanged_poll_writes_nothing() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    api.answer(json!({"restart_required": true, "config": named("a")}));
    agent.wait_start(2);
    wait_polls(&agent, &api, 2);
    let files = || {
        let all = [agent.dir().join("etc"), agent.state_dir()]
            .map(|dir| fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()));
        all.into_iter().flatten().map(|path| (super::identity(&path), path)).collect::<Vec<_>>()
    };
    let directories = || [super::identity(&agent.dir().join("etc")), super::identity(&agent.state_dir())];
    let before = (files(), directories());
    wait_polls(&agent, &api, 3);
    assert_eq!((files(), directories()), before);
}

/// A cloned disk image is another instance; whatever else is done to the machine, and in a container, it is the same.
#[test]
fn an_instance_id_belongs_to_one_machine() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let agent = quick().api(&api).setting("report-extended", true).config("fake: {}").build();
    let reported = |machine_id: &str, mark: &str| {
        // All of this host, with an /etc of its own and without what may say that it is a container.
        let script = "root=$PWD/root; mkdir -p $root; mount -t tmpfs none $root && cd $root && mkdir etc && \
            for dir in /*; do [ $dir = /etc ] || [ ! -d $dir ] || [ -L $dir ] || \
                { mkdir .$dir && mount --rbind $dir .$dir; }; [ ! -L $dir ] || cp -P $dir .; done && \
            [ -z \"$ID\" ] || echo \"$ID\" >etc/machine-id; [ -z \"$MARK\" ] || >.$MARK; \
            PATH=$PATH:/usr/sbin:/sbin exec chroot . \"$0\" \"$@\"";
        let start = agent.command(["start"]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script]).arg(start.get_program()).args(start.get_args());
        command.env_clear().envs(start.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("ID", machine_id).env("MARK", mark).current_dir(agent.dir());
        let asked = api.requests().len();
        agent.spawn_command(command);
        let report = api.wait_for_request_after(asked, "a report", |_| true).json();
        assert_eq!(agent.stop(), 0);
        report["instance_id"].as_str().unwrap().to_string()
    };
    let (one, two) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    // An older agent has bound it to no machine.
    fs::create_dir(agent.state_dir()).unwrap();
    let first = "d59e431804a731fb2f3caacf5312eb8f";
    fs::write(agent.state_dir().join("instance-id.json"), format!("\"{first}\"\n")).unwrap();
    assert_eq!([reported(one, ""), reported(one, "")], [first, first]);
    for (machine_id, mark) in [("", ""), ("uninitialized", ""), (two, "/.dockerenv")] {
        assert_eq!(reported(machine_id, mark), first, "{machine_id} {mark}");
    }
    let clone = reported(two, "");
    assert_ne!(clone, first);
    assert_eq!(reported(two, ""), clone);
    let files =
        fs::read_dir(agent.state_dir()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        assert!(!text.contains(one) && !text.contains(two), "the machine's own id is kept: {text}");
    }
}
