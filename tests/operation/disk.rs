//! A disk that is full or cannot be written: the collector stays, the error names path and remedy, and it heals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{message, named, quick, scripted, settled, strays, wait_good, wait_polls, wait_running, yaml};
use crate::support::api::Api;
use crate::support::{generations, needs, process};

/// A small file system of its own, gone on drop. `None`, which it says, for who may not mount.
struct Mount(PathBuf);

impl Mount {
    fn small(at: &Path) -> Option<Mount> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Mount(at.to_path_buf())),
            refused => {
                needs::that(false, "no small disk can be mounted, which root may");
                eprintln!("mount: {refused:?}");
                None
            }
        }
    }

    fn fill(&self) {
        // Until not a byte fits: the error is the point.
        let _ = fs::write(self.ballast(), vec![0; 1 << 20]);
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn remount(&self, mode: &str) {
        let options = format!("remount,{mode}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_under_the_config_keeps_the_collector_and_heals() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let Some(disk) = Mount::small(&builder.dir().join("disk")) else { return };
    let config = builder.dir().join("disk/config.yaml");
    fs::write(&config, yaml(&named("a"))).unwrap();
    let agent = builder.setting("config", config.display().to_string()).spawn();
    wait_running(&agent, 0);
    let pid = agent.wait_collector();
    disk.fill();
    api.answer_config(named("b"));
    let report = api.wait_for_request("the problem", |request| message(request).contains("free some space"));
    assert!(message(&report).contains("disk/"), "no path: {}", message(&report));
    wait_polls(&agent, &api, 3);
    let complaints = || agent.count_log(|line| line.level() == "error");
    assert_eq!(complaints(), 1, "said at every poll");
    assert_eq!((agent.wait_collector(), agent.starts()), (pid, 1));
    assert!(!agent.state_dir().join("rejected.json").exists(), "the disk's fault was laid on the config");

    let seen = api.requests().len();
    disk.free();
    agent.wait_start(2);
    api.wait_for_request_after(seen, "a resolved problem", |request| message(request).is_empty());
    assert!(fs::read_to_string(&config).unwrap().contains("name: b"));
    assert_eq!(fs::read_dir(agent.dir().join("disk")).unwrap().count(), 1, "unfinished files are left");
}

#[test]
fn a_read_only_state_directory_is_reported_and_heals() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let Some(disk) = Mount::small(&builder.dir().join("state")) else { return };
    disk.remount("ro");
    let agent = settled(builder, &named("a"));
    let report = api.wait_for_request("the problem", |request| message(request).contains("remount"));
    assert!(message(&report).contains("state/"), "no path: {}", message(&report));
    assert_eq!(report.json()["collector_status"], "Running");
    // Each check tries again, under another name.
    wait_polls(&agent, &api, 3);
    assert_eq!(agent.count_log(|line| line.msg() == "cannot write state; will retry"), 1, "said at every attempt");
    let seen = api.requests().len();
    disk.remount("rw");
    let log = agent.log().len();
    process::signal(agent.wait_collector(), rustix::process::Signal::KILL);
    wait_running(&agent, log);
    wait_good(&agent, &named("a"));
    api.wait_for_request_after(seen, "a resolved problem", |request| message(request).is_empty());
}

#[test]
fn a_state_directory_that_cannot_be_made_is_no_end() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let blocked = builder.dir().join("blocked");
    fs::write(&blocked, "a file where a directory should be").unwrap();
    let state = blocked.join("state");
    let agent = settled(builder.setting("state-dir", state.display().to_string()), &named("a"));
    api.wait_for_request("the problem", |request| message(request).contains("blocked/state"));
    // What is refused is remembered at least by this agent.
    api.answer_config(scripted("bad", json!({"validate": "fail"})));
    api.wait_for_request("the refusal", |request| message(request).contains("scripted to refuse"));
    wait_polls(&agent, &api, 2);
    assert_eq!(agent.records_of("validate").len(), 1);
    // Nor is the one config that has proved itself overwritten while it cannot be kept, however often it is tried.
    let seen = api.requests().len();
    api.answer_config(named("b"));
    api.wait_for_request_after(seen, "the obstacle", |request| message(request).contains("the only one that works"));
    let tries = agent.records_of("validate").len();
    wait_polls(&agent, &api, 3);
    assert!(agent.records_of("validate").len() <= tries + 4, "tried again and again without a pause");
    assert_eq!((agent.config(), agent.starts()), (named("a"), 1));

    fs::remove_file(&blocked).unwrap();
    fs::create_dir_all(&state).unwrap();
    agent.wait_until("the new config, kept", || generations::proved(&state).contains("name: b"));
    api.wait_for_request_after(seen, "a resolved problem", |request| message(request).is_empty());
    // Stopped first, since after its answer that check writes what it could not remember before.
    assert_eq!((agent.stop(), strays(&agent)), (0, Vec::new()));
}

#[test]
fn a_config_directory_that_becomes_read_only_is_reported_and_heals() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let Some(disk) = Mount::small(&builder.dir().join("disk")) else { return };
    let config = builder.dir().join("disk/config.yaml");
    fs::write(&config, yaml(&named("a"))).unwrap();
    let agent = builder.setting("config", config.display().to_string()).spawn();
    wait_running(&agent, 0);
    let pid = agent.wait_collector();
    disk.remount("ro");
    api.answer_config(named("b"));
    let report = api.wait_for_request("the problem", |request| message(request).contains("remount"));
    assert!(message(&report).contains("disk/"), "no path: {}", message(&report));
    assert_eq!((report.json()["collector_status"].as_str(), agent.wait_collector()), (Some("Running"), pid));
    // A crash needs no disk.
    process::signal(pid, rustix::process::Signal::KILL);
    agent.wait_start(2);
    assert!(fs::read_to_string(&config).unwrap().contains("name: a"));

    let seen = api.requests().len();
    disk.remount("rw");
    agent.wait_start(3);
    api.wait_for_request_after(seen, "a resolved problem", |request| message(request).is_empty());
    assert!(fs::read_to_string(&config).unwrap().contains("name: b"));
}

#[test]
fn a_full_state_directory_is_reported_and_heals() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let Some(disk) = Mount::small(&builder.dir().join("state")) else { return };
    let agent = settled(builder, &named("a"));
    wait_good(&agent, &named("a"));
    let pid = agent.wait_collector();
    disk.fill();
    // What has proved itself cannot be kept, so what comes next may not replace it.
    api.answer_config(named("b"));
    let report = api.wait_for_request("the problem", |request| message(request).contains("free some space"));
    assert!(message(&report).contains("state/"), "no path: {}", message(&report));
    assert_eq!(report.json()["collector_status"], "Running");
    assert_ne!(agent.wait_collector(), pid, "the new config does run");
    process::signal(agent.wait_collector(), rustix::process::Signal::KILL);
    agent.wait_start(3);

    let seen = api.requests().len();
    disk.free();
    wait_good(&agent, &named("b"));
    api.wait_for_request_after(seen, "a resolved problem", |request| message(request).is_empty());
    // Stopped first, since after its answer that check writes what it could not remember before.
    assert_eq!((agent.stop(), strays(&agent)), (0, Vec::new()));
}

/// Nothing is written there that needs room.
#[test]
fn a_full_run_directory_is_no_obstacle() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let Some(disk) = Mount::small(&builder.dir().join("run")) else { return };
    disk.fill();
    let agent = settled(builder, &named("a"));
    api.answer_config(named("b"));
    wait_good(&agent, &named("b"));
    assert_eq!(agent.status().unwrap()["last_error_message"], "");
    assert_eq!(agent.stop(), 0);
    agent.spawn();
    wait_running(&agent, agent.log().len());
}

#[test]
fn a_config_that_is_a_link_stays_one_whatever_becomes_of_its_target() {
    for mode in ["restart", "handover"] {
        let api = Api::plain();
        let agent = quick().api(&api).setting("restart-mode", mode).config(yaml(&named("a"))).build();
        let (link, real) = (agent.config_file(), agent.dir().join("real/config.yaml"));
        fs::create_dir(agent.dir().join("real")).unwrap();
        fs::rename(&link, &real).unwrap();
        std::os::unix::fs::symlink("../real/config.yaml", &link).unwrap();
        agent.spawn();
        wait_running(&agent, 0);
        let is_link = || fs::read_link(&link).is_ok_and(|target| target == Path::new("../real/config.yaml"));
        api.answer_config(named("b"));
        wait_good(&agent, &named("b"));
        assert!(is_link() && fs::read_to_string(&real).unwrap().contains("name: b"), "{mode}");
        api.answer_config(scripted("bad", json!({"start": {"exit": 3}})));
        api.wait_for_request("the roll back", |request| message(request).contains("exited with status 3"));
        wait_good(&agent, &named("b"));
        assert!(is_link() && fs::read_to_string(&real).unwrap().contains("name: b"), "{mode}");
        assert!(agent.rejected().contains("bad"), "{mode}");
        assert_eq!((strays(&agent), agent.stop()), (Vec::new(), 0));
        assert_eq!(fs::read_dir(agent.dir().join("real")).unwrap().count(), 1, "unfinished files are left");
    }
}
