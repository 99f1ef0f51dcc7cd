//! Files of any size where the agent reads: none is read beyond what its kind may have. The large ones are sparse, as
//! another user could make them without a byte of disk.

use std::fs::{self, File};
use std::path::Path;

use serde_json::json;

use crate::operation::yaml;
use crate::support::agent::Agent;
use crate::support::api::Api;

const SIZE: u64 = 256 << 20;

fn sparse(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().set_len(SIZE).unwrap();
}

/// The most that the process has had in RAM (proc_pid_status(5)), in MiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_large_file_that_a_command_needs_ends_it_with_name_size_and_limit() {
    let api = Api::plain();
    for (file, limit, commands) in [
        ("etc/agent.yaml", 65_536, &[&["--print-settings"][..], &["--check"], &["start"]][..]),
        ("etc/api-key", 8192, &[&["--print-settings"], &["--check"], &["start"]]),
        ("etc/ca.pem", 4_194_304, &[&["--check"], &["start"]]),
    ] {
        let builder = Agent::builder().setting("update-endpoint", api.url());
        let path = builder.dir().join(file);
        let builder = match file {
            "etc/ca.pem" => builder.setting("api-key", "k").setting("ca-file", path.display().to_string()),
            _ => builder,
        };
        let agent = builder.config("fake: {}").build();
        sparse(&path);
        for command in commands {
            let output = agent.run(*command);
            let words = format!("{}: it is larger than {limit} bytes: it has {SIZE}", path.display());
            assert_eq!(output.code, Some(78), "{output:?}");
            assert!(output.stderr.contains(&words), "{output:?}");
        }
    }
}

#[test]
fn large_records_count_as_absent_and_cost_nothing() {
    let api = Api::plain();
    let agent = Agent::builder().api(&api).setting("report-extended", true).config("fake: {}").build();
    for name in ["rejected", "restart-requests", "collector-version", "instance-id", "unfinished-install"] {
        sparse(&agent.state_dir().join(format!("{name}.json")));
    }
    sparse(&agent.state_dir().join("generations.json"));
    sparse(&agent.state_dir().join("last-known-good.yaml"));
    agent.spawn();
    agent.wait_until("a config that has proved itself", || !agent.proved().is_empty());
    agent.wait_until("a report", || !api.requests().is_empty());
    assert!(peak(agent.pid()) < 64, "{} MiB", peak(agent.pid()));
    let said =
        |file: &str| agent.log().iter().any(|line| line.text.contains(file) && line.text.contains("larger than"));
    assert!(said("state/rejected.json") && said("state/instance-id.json"));
    assert_eq!(agent.stop(), 0);
}

/// One that the collector can read all the same: it runs and is not given up, since it could not be restored; status
/// and report say what to do.
#[test]
fn a_config_that_is_too_large_runs_and_is_a_problem_until_it_is_smaller() {
    let api = Api::plain();
    let agent = Agent::builder().api(&api).setting("max-config-size", "1KiB").build();
    let large = format!("{}# {}\n", yaml(&json!({"fake": {}, "name": "old"})), "x".repeat(8 << 20));
    fs::write(agent.config_file(), &large).unwrap();
    agent.spawn();
    agent.wait_start(1);
    let words = format!(
        "etc/config.yaml: it is larger than 8388608 bytes: it has {}; make it smaller, or raise max-config-size",
        large.len()
    );
    let status = agent.wait_status("what is wrong with it", |status| {
        status["last_error_message"].as_str().is_some_and(|text| text.contains(&words))
    });
    assert_eq!((&status["config"]["revision"], &status["collector"]["state"]), (&json!(null), &json!("running")));
    api.answer_config(json!({"fake": {}, "name": "new"}));
    agent.wait_until("a report of it", || {
        api.requests().last().is_some_and(|it| it.json()["last_error_message"].as_str().unwrap().contains(&words))
    });
    assert_eq!((agent.starts(), fs::metadata(agent.config_file()).unwrap().len()), (1, large.len() as u64));
    fs::write(agent.config_file(), yaml(&json!({"fake": {}, "name": "old"}))).unwrap();
    agent.wait_start(2);
    agent.wait_until("the next config", || agent.config()["name"] == "new");
    agent.wait_status("no problem", |status| status["last_error_message"] == "");
    assert_eq!(agent.stop(), 0);
}
