//! What is no regular file where the agent expects one: a FIFO above all, which would be waited for without end.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use crate::support::agent::Agent;
use crate::support::api::Api;

const REMEDY: &str = "it is a FIFO: replace it with a regular file";

fn fifo(path: &Path) {
    let _ = std::fs::remove_file(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Settings, the two places of the key, the authorities and the lock: each command ends, and says which file it is.
#[test]
fn a_fifo_that_a_command_needs_ends_it_with_its_name() {
    let api = Api::plain();
    let all: &[&[&str]] = &[&["--print-settings"], &["--check"], &["--check", "--dry-run"], &["start"]];
    for (file, commands, exit) in [
        ("etc/agent.yaml", all, 78),
        ("etc/api-key", all, 78),
        ("etc/key-file", all, 78),
        ("etc/ca.pem", &all[1..], 78),
        ("run/lock", &[&["--check"], &["start"]], 73),
    ] {
        let builder = Agent::builder().setting("update-endpoint", api.url());
        let path = builder.dir().join(file).display().to_string();
        let builder = match file {
            "etc/key-file" => builder.setting("api-key-file", path.clone()),
            "etc/ca.pem" => builder.setting("api-key", "k").setting("ca-file", path.clone()),
            "run/lock" => builder.setting("api-key", "k"),
            _ => builder,
        };
        let agent = builder.config("fake: {}").build();
        fifo(&agent.dir().join(file));
        for command in commands {
            let output = agent.run(*command);
            assert_eq!(output.code, Some(exit), "{file}, {command:?}: {output:?}");
            assert!(output.stderr.contains(&format!("{path}: {REMEDY}")), "{file}, {command:?}: {output:?}");
        }
        if file == "etc/agent.yaml" {
            agent.run(["status"]).fails(78, REMEDY);
            agent.run(["stop"]).fails(78, REMEDY);
        }
    }
}

/// Configs and records: the agent starts, is there for its operator, and is repaired from afar.
#[test]
fn a_fifo_for_a_config_or_a_record_stops_nobody() {
    let records = [
        "state/rejected.json",
        "state/restart-requests.json",
        "state/collector-version.json",
        "state/instance-id.json",
        "state/unfinished-install.json",
        "state/generations.json",
        "state/last-known-good.yaml",
    ];
    let api = Api::plain();
    let builder = Agent::builder().api(&api).setting("report-extended", true);
    let agent = builder.config("fake: {}").build();
    for file in records {
        fifo(&agent.dir().join(file));
    }
    assert_eq!(agent.run(["--check"]).code, Some(0));
    for file in records {
        fifo(&agent.dir().join(file));
    }
    fifo(&agent.config_file());
    agent.spawn();
    let status = agent.wait_status("what is in the place of the config", |status| {
        status["last_error_message"].as_str().is_some_and(|text| text.contains(REMEDY))
    });
    assert!(status["last_error_message"].as_str().unwrap().contains("etc/config.yaml: it is"), "{status}");
    assert_eq!(status["config"]["revision"], json!(null));
    api.answer_config(json!({"fake": {}, "name": "new"}));
    agent.wait_start(1);
    assert_eq!(agent.config()["name"], "new");
    agent.wait_until("a config that has proved itself", || agent.proved().contains("new"));
    assert_eq!(agent.stop(), 0);
}

/// An overlay, which the collector itself would wait for.
#[test]
fn a_fifo_for_the_overlay_is_a_problem_with_a_name() {
    let builder = Agent::builder();
    let overlay = builder.dir().join("etc/overlay.yaml");
    let agent = builder.setting("local-config", overlay.display().to_string()).config("fake: {}").build();
    fifo(&overlay);
    agent.spawn();
    agent.wait_status("the overlay", |status| {
        let message = status["last_error_message"].as_str().unwrap();
        message.contains(&format!("{}: {REMEDY}", overlay.display()))
    });
    std::fs::remove_file(&overlay).unwrap();
    std::fs::write(&overlay, "{}").unwrap();
    agent.wait_start(1);
    assert_eq!(agent.stop(), 0);
}

/// Whether a device or a directory, it is no file either.
#[test]
fn a_device_or_a_directory_is_named_too() {
    let agent = Agent::builder().build();
    for (path, what) in [("/dev/zero", "it is a device"), ("/proc", "it is a directory")] {
        let words = format!("{path}: {what}: replace it with a regular file");
        agent.run(["--api-key-file", path, "--print-settings"]).fails(78, &words);
    }
    assert!(agent.run(["--api-key-file", "/dev/null", "--print-settings"]).code == Some(78), "no key in it");
}
