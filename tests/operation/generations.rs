//! What is kept of the configs that were active, and what a config that fails after its probation is replaced by.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{message, named, quick, scripted, settled, wait_good, wait_no_strays, wait_polls, wait_running, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::generations::{list, standing};

/// It passes its probation of 500 ms, and dies a little later.
fn late() -> Value {
    scripted("late", json!({"start": {"exit": 4, "after_ms": 800}}))
}

/// An agent whose config is confirmed, and that takes an hour to confirm the next.
fn with_confirmed(api: &Api) -> Agent {
    let agent = settled(quick().api(api).setting("confirm-time", "0"), &named("good"));
    agent.wait_until("a confirmed config", || list(&agent.state_dir()).iter().any(|it| standing(it) == "confirmed"));
    assert_eq!(agent.stop(), 0);
    let settings = fs::read_to_string(agent.settings_file()).unwrap();
    fs::write(agent.settings_file(), settings.replace("confirm-time: '0'", "confirm-time: 1h")).unwrap();
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    agent
}

fn entry(agent: &Agent, revision: &str) -> Option<Value> {
    list(&agent.state_dir()).into_iter().rfind(|it| it["revision"].as_str().is_some_and(|it| it.starts_with(revision)))
}

#[track_caller]
fn wait_rolled_back(agent: &Agent, seen: usize) -> crate::support::agent::Line {
    let line = agent.wait_log_after(seen, "a roll back", |line| line.msg() == "config rolled back");
    agent.wait_until("the good config", || agent.config() == named("good"));
    line
}

/// It used to be promoted, its predecessor overwritten, and started again for ever.
#[test]
fn a_config_that_fails_late_is_rolled_back_to_the_confirmed_one_and_never_tried_again() {
    let api = Api::plain();
    let agent = with_confirmed(&api);
    let log = agent.log().len();
    api.answer_config(late());
    let promoted = agent.wait_log_after(log, "a promotion", |line| line.msg() == "config promoted");
    let line = wait_rolled_back(&agent, log);
    assert_eq!((line.json["generation"].as_u64(), line.field("revision")), (Some(1), promoted.field("revision")));
    let problem = "the collector exited unexpectedly 3 times within confirm-time";
    assert!(line.field("problem").contains(problem) && line.field("problem").contains("status 4"), "{line:?}");
    let kept = fs::read_to_string(line.field("kept")).unwrap();
    assert_eq!((serde_yaml::from_str::<Value>(&kept).unwrap(), agent.rejected()), (late(), kept));
    api.wait_for_request("the reason", |request| message(request).contains(problem));
    agent.wait_status("its file", |status| status["config"]["rejected_kept"] == line.field("kept"));
    let tries = agent.records_of("validate").len();
    wait_polls(&agent, &api, 2);
    assert_eq!(agent.stop(), 0);
    agent.spawn();
    wait_polls(&agent, &api, 2);
    wait_no_strays(&agent);
    assert_eq!((agent.records_of("validate").len(), agent.config()), (tries, named("good")));
}

#[test]
fn exits_are_counted_over_a_kill_of_the_agent() {
    let api = Api::plain();
    let agent = with_confirmed(&api);
    let log = agent.log().len();
    api.answer_config(late());
    let promoted = agent.wait_log_after(log, "a promotion", |line| line.msg() == "config promoted");
    let exits = || entry(&agent, promoted.field("revision"))?["standing"]["unconfirmed"]["exits"].as_u64();
    agent.wait_until("two exits on disk", || exits() == Some(2));
    agent.signal(Signal::KILL);
    agent.wait_exit();
    let seen = agent.log().len();
    let starts = agent.starts();
    agent.spawn();
    wait_rolled_back(&agent, seen);
    assert!(agent.starts() <= starts + 3, "it was started more than once again");
}

/// Whatever ended the host may have been the config.
#[test]
fn a_config_on_probation_is_not_started_again_after_a_boot() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("good"));
    wait_good(&agent, &named("good"));
    api.answer_config(scripted("bad", json!({"start": {"exit": 5, "after_ms": 60_000}, "ready_after_ms": 50_000})));
    agent.wait_start(2);
    agent.signal(Signal::KILL);
    agent.wait_exit();
    let file = agent.state_dir().join("generations.json");
    let text = fs::read_to_string(&file).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    fs::write(&file, text.replace(boot.trim(), "11111111-2222-3333-4444-555555555555")).unwrap();
    api.answer(json!({}));
    let seen = agent.log().len();
    agent.spawn();
    let line = wait_rolled_back(&agent, seen);
    wait_running(&agent, seen);
    assert!(line.field("problem").contains("the host was restarted while the config was on probation"), "{line:?}");
    // The collector that runs is the first one that this agent has started.
    let started = agent.log()[seen..].iter().filter(|line| line.msg() == "collector started").count();
    assert_eq!((started, agent.status().unwrap()["config"]["rejected_revision"].clone()), (1, Value::Null));
}

/// Before the API's next config takes its place; also what was changed while the collector ran.
#[test]
fn a_change_by_hand_is_kept_and_named_before_it_is_replaced() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    wait_good(&agent, &named("a"));
    fs::write(agent.config_file(), yaml(&named("by hand"))).unwrap();
    api.answer_config(named("b"));
    wait_good(&agent, &named("b"));
    let line = agent.wait_log("a line", |line| line.msg() == "config was changed by hand; keeping a copy");
    assert_eq!(fs::read_to_string(line.field("kept")).unwrap(), yaml(&named("by hand")));
    let by_hand = list(&agent.state_dir()).into_iter().find(|it| it["source"] == "hand").unwrap();
    assert_eq!((standing(&by_hand), by_hand["revision"].as_str().map(str::len)), ("replaced", Some(64)));
    assert_eq!(agent.count_log(|line| line.msg().starts_with("config was changed by hand")), 1);
}

#[test]
fn a_refused_config_is_kept_where_log_and_status_say() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    let bad = scripted("bad", json!({"validate": "fail"}));
    api.answer_config(bad.clone());
    let line = agent.wait_log("the refusal", |line| line.msg() == "new config rejected; nothing changed");
    let status = agent.wait_status("the refusal", |status| status["config"]["rejected_kept"].is_string());
    assert_eq!(status["config"]["rejected_kept"], line.field("kept"));
    let text = agent.run(["status"]).stdout;
    assert!(text.contains(&format!("kept as {}", line.field("kept"))), "{text}");
    assert_eq!(serde_yaml::from_str::<Value>(&fs::read_to_string(line.field("kept")).unwrap()).unwrap(), bad);
    assert_eq!(fs::metadata(line.field("kept")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_an_earlier_version_kept_is_what_a_roll_back_goes_to() {
    let agent = quick().config(yaml(&scripted("bad", json!({"start": {"exit": 3}})))).build();
    let good = agent.state_dir().join("last-known-good.yaml");
    fs::create_dir(agent.state_dir()).unwrap();
    fs::write(&good, yaml(&named("good"))).unwrap();
    fs::write(agent.dir().join("etc/config.yaml.rejected"), yaml(&named("worse"))).unwrap();
    agent.spawn();
    wait_rolled_back(&agent, 0);
    wait_running(&agent, 0);
    assert!(!good.exists() && !agent.dir().join("etc/config.yaml.rejected").exists());
    let standings: Vec<String> = list(&agent.state_dir()).iter().map(|it| standing(it).to_string()).collect();
    assert_eq!(standings, ["confirmed", "rolled-back", "rolled-back"]);
}
