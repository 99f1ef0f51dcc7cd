//! The policy, with the agent: what is refused, how often that is said, and what is never judged.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::{Value, json};

use super::{holds_polls, message, named, quick, settled, wait_good, wait_polls, wait_running, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::needs;

const PLACE: &str = "receivers::journald::journalctl_path";

/// A config that names a program to run.
fn runs(name: &str, program: &str) -> Value {
    let mut config = named(name);
    config["receivers"] = json!({"journald": {"journalctl_path": program}});
    config
}

fn validations(agent: &Agent) -> usize {
    agent.records_of("validate").len()
}

fn refusals(agent: &Agent) -> usize {
    agent.count_log(|line| line.msg().starts_with("new config rejected"))
}

fn notices(agent: &Agent) -> usize {
    agent.count_log(|line| line.msg().starts_with("active config violates the policy"))
}

fn write_policy(agent: &Agent, text: &str) {
    fs::write(agent.dir().join("etc/policy.yaml"), text).unwrap();
}

#[test]
fn a_violation_is_a_rejection_until_the_policy_changes() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let pid = agent.wait_collector();
    api.answer_config(runs("bad", "/tmp/x"));
    let report = api.wait_for_request("the refusal", |request| message(request).contains("the policy refuses"));
    let text = message(&report);
    let policy = agent.dir().join("etc/policy.yaml");
    for words in [
        format!("{PLACE}: it names a program to run (rule programs)"),
        format!("add to the list in {}, and run `kmagent reload`: allow: [\"{PLACE}\"]", policy.display()),
    ] {
        assert!(text.contains(&words), "{words}: {text}");
    }
    assert_eq!(report.json()["collector_status"], "Running");
    wait_polls(&agent, &api, 3);
    assert_eq!((refusals(&agent), validations(&agent)), (1, 0), "judged anew, or validated");
    assert_eq!((agent.wait_collector(), agent.config()), (pid, named("good")));
    assert!(agent.status().unwrap().to_string().contains("rule programs"));

    // As after an interruption, and with a file that says the same.
    for file in ["", "# nothing\n"] {
        assert_eq!(agent.stop(), 0);
        write_policy(&agent, file);
        let asked = api.requests().len();
        agent.spawn();
        let first = api.wait_for_request_after(asked, "a poll after the restart", |_| true);
        assert!(message(&first).contains("rule programs"), "forgotten: {}", message(&first));
        wait_polls(&agent, &api, 2);
        assert_eq!((refusals(&agent), agent.config()), (1, named("good")));
    }

    assert_eq!(agent.stop(), 0);
    let said = text.split_once("and run `kmagent reload`: ").unwrap().1.to_string();
    write_policy(&agent, &said);
    agent.spawn();
    wait_good(&agent, &runs("bad", "/tmp/x"));
    let asked = api.requests().len();
    api.wait_for_request_after(asked, "a resolved problem", |request| message(request).is_empty());
}

#[test]
fn without_a_policy_the_source_is_trusted() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("policy", "none"), &named("good"));
    api.answer_config(runs("any", "/tmp/x"));
    wait_good(&agent, &runs("any", "/tmp/x"));
}

#[test]
fn what_the_overlay_decides_is_not_judged() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let overlay = builder.dir().join("local.yaml");
    fs::write(&overlay, "receivers: {journald: {units: [ssh]}}").unwrap();
    let agent = settled(builder.setting("local-config", overlay.display().to_string()), &named("good"));
    api.answer_config(runs("bad", "/tmp/x"));
    api.wait_for_request("the refusal", |request| message(request).contains(PLACE));
    fs::write(&overlay, "receivers: {journald: {journalctl_path: /usr/bin/journalctl}}").unwrap();
    api.answer_config(runs("fine", "/tmp/x"));
    wait_good(&agent, &runs("fine", "/tmp/x"));
}

/// An older agent has promoted it.
#[test]
fn what_an_upgrade_finds_stays_and_is_logged_once_with_the_line_that_allows_it() {
    let api = Api::plain();
    let agent = settled(quick().api(&api).setting("policy", "none"), &runs("old", "/opt/j"));
    wait_good(&agent, &runs("old", "/opt/j"));
    assert_eq!((agent.stop(), notices(&agent)), (0, 0));
    let settings = fs::read_to_string(agent.settings_file()).unwrap();
    fs::write(agent.settings_file(), settings.replace("policy: none\n", "")).unwrap();

    let seen = agent.log().len();
    agent.spawn();
    wait_running(&agent, seen);
    let notice = agent.wait_log("the violations", |line| line.msg().starts_with("active config violates the policy"));
    let said = notice.field("violations");
    assert!(said.contains("(rule programs)") && said.ends_with(&format!("allow: [\"{PLACE}\"]")), "{notice:?}");
    assert_eq!(agent.stop(), 0);
    agent.spawn();
    wait_polls(&agent, &api, 3);
    assert_eq!((notices(&agent), agent.config()), (1, runs("old", "/opt/j")), "not once");

    // The place with its value is allowed, another value is not.
    api.answer_config(runs("newer", "/opt/j"));
    wait_good(&agent, &runs("newer", "/opt/j"));
    // A request for a restart is met once; this ends the former one.
    api.answer(json!({"restart_required": false, "config": null}));
    wait_polls(&agent, &api, 2);
    let starts = agent.starts();
    api.answer(json!({"restart_required": true, "config": null}));
    agent.wait_until("a restart without a judgement", || agent.starts() > starts);
    api.answer_config(runs("newest", "/tmp/x"));
    api.wait_for_request("the refusal", |request| message(request).contains("rule programs"));

    // Until the confirmed config has it no longer.
    api.answer_config(named("without"));
    wait_good(&agent, &named("without"));
    let asked = api.requests().len();
    api.answer_config(runs("again", "/opt/j"));
    api.wait_for_request_after(asked, "the refusal", |request| message(request).contains("rule programs"));
    assert_eq!(agent.config(), named("without"));
}

#[test]
fn a_bad_policy_file_is_an_error_at_start() {
    let api = Api::plain();
    for (file, words) in [
        ("deny-component: [receivers::exec]", "unknown rule \"deny-component\""),
        ("deny-components: [exec]", "\"exec\" is not KIND::TYPE"),
        ("listen: [", "did not find expected"),
        ("listen: any\nlisten: loopback\n", "duplicate key \"listen\""),
    ] {
        let agent = quick().api(&api).config(yaml(&named("good"))).build();
        write_policy(&agent, file);
        let path = agent.dir().join("etc/policy.yaml").display().to_string();
        for command in [&["start"][..], &["--check"], &["--check", "--dry-run"], &["--print-settings"]] {
            let output = agent.run(command);
            assert_eq!(output.code, Some(78), "{output:?}");
            let expected = format!("cannot read the policy: {path}: ");
            assert!(output.stderr.contains(&expected) && output.stderr.contains(words), "{output:?}");
        }
    }
    let agent = quick().setting("policy", "/nowhere/policy.yaml").build();
    agent.run(["start"]).fails(78, "cannot read the policy: /nowhere/policy.yaml: it does not exist");
    holds_polls(&api, 0);
}

/// What another user may write would let that user have root run what the policy forbids.
#[test]
fn root_obeys_no_policy_of_another_user() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let agent = quick().api(&api).config(yaml(&named("good"))).build();
    let path = agent.dir().join("etc/policy.yaml");
    for others in [false, true] {
        write_policy(&agent, "listen: any\n");
        match others {
            false => fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap(),
            true => chown(&path, Some(65534), None).unwrap(),
        }
        for command in [&["start"][..], &["--check"]] {
            let output = agent.run(command);
            assert_eq!(output.code, Some(78), "{output:?}");
            assert!(output.stderr.contains("root does not obey it, as another user can change it"), "{output:?}");
        }
        let said = agent.run(["--check"]).stderr;
        let command = said.split_once("run: ").unwrap().1.lines().next().unwrap();
        assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
        assert_eq!(agent.run(["--check"]).code, Some(0));
    }
    holds_polls(&api, 2);
}

/// It may be meant so, in a container for instance.
#[test]
fn a_root_that_runs_what_another_user_writes_is_warned() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    let is_warning = |line: &crate::support::agent::Line| line.msg().starts_with("another user can change");
    assert!(!agent.log().iter().any(is_warning));
    assert_eq!(agent.stop(), 0);
    chown(agent.state_dir(), Some(65534), None).unwrap();
    agent.spawn();
    let line = agent.wait_log("a warning", is_warning);
    assert!(line.field("reason").contains("user 65534: run the agent as that user"), "{line:?}");
}
