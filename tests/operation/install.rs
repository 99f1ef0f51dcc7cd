//! A new config goes live.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::XattrFlags;
use serde_json::{Value, json};

use super::{
    holds_polls, identity, message, named, quick, scripted, settled, wait_no_strays, wait_polls, wait_running, yaml,
};
use crate::support::agent::Line;
use crate::support::api::Api;
use crate::support::{needs, process};

/// Two collectors with this config cannot live side by side.
fn holding_port(name: &str, port: u16) -> Value {
    let extensions = json!({"health_check": {"endpoint": format!("127.0.0.1:{port}")}});
    json!({
        "extensions": extensions, "service": {"extensions": ["health_check"]},
        "fake": {"drain_ms": 300}, "name": name,
    })
}

/// Its group bits are the list's mask, so without the list they would let the group in (acl(5)).
#[test]
fn a_config_keeps_its_access_list_and_its_attributes() {
    // A user by name may read, the group may not (linux/posix_acl_xattr.h: tag, permissions, id).
    let entries =
        [(0x01u16, 6u16, u32::MAX), (0x02, 4, 65534), (0x04, 0, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, !0)];
    let entry = |(tag, permissions, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let list: Vec<u8> = 2u32.to_le_bytes().into_iter().chain(entries.into_iter().flat_map(entry)).collect();
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("old"));
    let path = agent.config_file();
    let set = |name: &str, value: &[u8]| rustix::fs::setxattr(&path, name, value, XattrFlags::empty()).is_ok();
    let get = |name: &str| {
        let mut value = [0; 256];
        let length = rustix::fs::getxattr(&path, name, &mut value).ok()?;
        Some(value[..length].to_vec())
    };
    let is_set = set("system.posix_acl_access", &list) && set("user.origin", b"site");
    if !needs::that(is_set, "access lists on this file system") {
        return;
    }
    api.answer_config(named("new"));
    agent.wait_until("the new config", || agent.config() == named("new"));
    assert_eq!((get("system.posix_acl_access"), get("user.origin")), (Some(list), Some(b"site".to_vec())));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn the_old_collector_is_reaped_before_the_new_one_starts() {
    let api = Api::plain();
    let port = process::free_port();
    let agent = settled(quick().api(&api), &holding_port("old", port));
    let old = agent.wait_collector();
    let seen = agent.log().len();
    api.answer_config(holding_port("new", port));
    let new = agent.wait_start(2);
    assert!(!process::alive(old));
    wait_running(&agent, seen);
    assert_eq!((agent.collectors(), agent.config()), (vec![new], holding_port("new", port)));
    let log = agent.log();
    let position = |msg: &str| log.iter().rposition(|line| line.msg() == msg).unwrap();
    assert!(position("collector stopped") < position("collector started"));
    assert!(agent.count_log(|line| line.text.contains("Shutdown complete")) > 0, "the old one was not drained");
    wait_no_strays(&agent);
    agent.wait_until("the same, kept", || agent.proved() == std::fs::read_to_string(agent.config_file()).unwrap());
}

#[test]
fn an_outcome_is_reported_at_once_and_by_one_extra_poll() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("config-check-interval", "168h"), &named("a"));
    api.wait_for_request("the first poll", |_| true);
    api.answer_config(named("b"));
    let output = agent.run(["--check"]);
    assert_eq!((output.code, output.stdout.starts_with("installed config")), (Some(0), true), "{output:?}");
    holds_polls(&api, 3);
    assert_eq!(message(&api.requests()[2]), "");
    assert_eq!(agent.starts(), 2);
}

#[test]
fn readers_see_the_old_or_the_new_config_and_nothing_between() {
    let api = Api::plain();
    let bulk: Vec<String> = (0..1000).map(|number| format!("line {number} of some length to fill pages")).collect();
    let config = |name: &str| json!({"fake": {}, "name": name, "bulk": bulk, "end": name});
    let names = ["a", "b", "c"];
    let agent = settled(quick().api(&api), &config("a"));
    let mut old_file = File::open(agent.config_file()).unwrap();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen: Vec<String> = Vec::new();
            while !done.load(Ordering::Relaxed) {
                // A whole file begins with one of the names and ends with it. Never missing, either.
                let text = std::fs::read_to_string(agent.config_file()).unwrap();
                if seen.last() != Some(&text) {
                    seen.push(text);
                }
            }
            seen
        });
        for name in &names[1..] {
            let log = agent.log().len();
            api.answer_config(config(name));
            wait_running(&agent, log);
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    let configs: Vec<Value> = seen.iter().map(|text| serde_yaml::from_str(text).unwrap()).collect();
    assert_eq!(configs, names.map(config), "{} versions", configs.len());
    // Who had it open reads the old one to its end.
    let mut old = String::new();
    old_file.read_to_string(&mut old).unwrap();
    assert_eq!(old, seen[0]);
}

#[test]
fn the_same_content_is_neither_written_nor_started_again() {
    let api = Api::plain();
    let text = "# by hand\nname:   'a'\nfake: {}\nlist: [1, 2.5, 0x1F, true, ~, \"0755\"]\n";
    let agent = quick().api(&api).config(text).spawn();
    wait_running(&agent, 0);
    let before = identity(&agent.config_file());
    let same = json!({"list": [1, 2.5, 31, true, null, "0755"], "fake": {}, "name": "a"});
    api.answer(json!({"restart_required": false, "config": same}));
    wait_polls(&agent, &api, 3);
    assert_eq!(identity(&agent.config_file()), before);
    assert_eq!((agent.starts(), agent.records_of("validate").len()), (1, 0));
    assert_eq!(std::fs::read_to_string(agent.config_file()).unwrap(), text);
    // The control: it does write when one value differs in type alone.
    api.answer_config(json!({"list": [1, 2.5, 31, true, null, 755], "fake": {}, "name": "a"}));
    agent.wait_start(2);
    assert_ne!(identity(&agent.config_file()), before);
}

#[test]
fn a_config_that_is_not_to_be_used_yet_is_kept_off() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    api.answer(json!({"restart_required": false, "config": named("b")}));
    wait_polls(&agent, &api, 3);
    assert_eq!((agent.config(), agent.starts(), agent.records_of("validate").len()), (named("a"), 1, 0));
    api.answer_config(named("b"));
    agent.wait_start(2);
    assert_eq!(agent.config(), named("b"));
}

#[test]
fn configs_in_a_row_go_live_one_after_the_other() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    api.answer_config(named("c"));
    api.answer_once(json!({"restart_required": true, "config": named("b")}));
    agent.wait_start(3);
    let is_proof = |line: &Line| line.msg().starts_with("config promoted");
    agent.wait_until("three proofs", || agent.count_log(is_proof) == 3);
    let ran: Vec<Value> = agent.records_of("run").iter().map(|run| run["texts"][0].clone()).collect();
    assert_eq!(ran.len(), 3);
    for (text, name) in ran.iter().zip(["a", "b", "c"]) {
        assert_eq!(serde_yaml::from_str::<Value>(text.as_str().unwrap()).unwrap(), named(name));
    }
    assert_eq!(agent.config(), named("c"));
}

#[test]
fn a_config_that_arrives_during_a_probation_is_held_and_the_latest_one_wins() {
    let api = Api::plain();
    let builder = quick().api(&api).setting("min-uptime", "2500ms");
    api.answer_config(named("c"));
    api.answer_once(json!({"restart_required": true, "config": named("b")}));
    let agent = builder.config(yaml(&named("a"))).spawn();
    let validated = |name: &str| {
        let text = |record: &Value| record["texts"][0].as_str().unwrap_or_default().contains(&format!("name: {name}"));
        agent.records_of("validate").iter().any(text)
    };
    agent.wait_until("two candidates", || validated("b") && validated("c"));
    assert_eq!((agent.config(), agent.starts()), (named("a"), 1), "not held until the verdict");
    agent.wait_start(2);
    assert_eq!(agent.config(), named("c"));
    agent.wait_log("the first one's verdict", |line| line.msg().starts_with("config promoted"));
    wait_running(&agent, 0);
    wait_no_strays(&agent);
    assert_eq!(agent.starts(), 2);
}

#[test]
fn a_config_that_arrives_during_a_slow_stop_starts_next() {
    let api = Api::plain();
    let slow = scripted("a", json!({"drain_ms": 2500}));
    let agent = settled(quick().api(&api), &slow);
    api.answer_config(named("c"));
    api.answer_once(json!({"restart_required": true, "config": named("b")}));
    agent.wait_start(2);
    wait_running(&agent, agent.log().len());
    assert_eq!((agent.config(), agent.starts()), (named("c"), 2));
}
