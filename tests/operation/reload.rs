//! SIGHUP and `reload`: what is taken up, what has to wait, and what a bad file changes, which is nothing.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{named, quick, scripted, settled, through_shell, wait_running, yaml};
use crate::support::agent::Agent;
use crate::support::api::{Api, Reply, Request};
use crate::support::needs;
use crate::support::wait::holds_for;

/// Changes `agent.yaml`; null takes a setting out.
fn set(agent: &Agent, changes: Value) {
    let text = fs::read_to_string(agent.settings_file()).unwrap();
    let mut settings: serde_json::Map<String, Value> = serde_yaml::from_str(&text).unwrap();
    settings.extend(changes.as_object().unwrap().clone());
    settings.retain(|_, value| !value.is_null());
    fs::write(agent.settings_file(), serde_yaml::to_string(&settings).unwrap()).unwrap();
}

fn key(request: &Request) -> Option<&str> {
    request.header("authorization")
}

/// How often the settings were read again.
fn reloads(agent: &Agent) -> usize {
    agent.count_log(|line| line.msg() == "settings reloaded")
}

/// Root heeds no path of theirs, and those in use stay as they are.
#[test]
fn settings_that_were_given_to_another_user_change_nothing() {
    if !needs::root() {
        return;
    }
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    std::os::unix::fs::chown(agent.settings_file(), Some(65534), None).unwrap();
    agent.run(["reload"]).fails(78, "which another user can have named");
    let seen = agent.log().len();
    api.answer_config(named("b"));
    agent.wait_log_after(seen, "an install", |line| line.msg() == "config installed");
    fs::remove_file(agent.socket()).unwrap();
    agent.wait_log_after(seen, "a restored socket", |line| line.msg().starts_with("run directory was cleaned"));
    assert_eq!(agent.config(), named("b"));
}

/// By which other programs are told to open their logs anew, say.
#[test]
fn signals_that_mean_nothing_to_it_are_logged() {
    let agent = settled(quick(), &named("a"));
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2"), (Signal::ALARM, "SIGALRM")] {
        agent.signal(signal);
        agent.wait_log("the signal", |line| line.msg() == "signal ignored" && line.field("signal") == name);
    }
    assert_eq!((agent.starts(), agent.stop()), (1, 0));
}

#[test]
fn sighup_takes_up_the_settings_and_leaves_the_collector_alone() {
    let (api, other) = (Api::plain(), Api::plain());
    let agent = settled(quick().api(&api), &named("a"));
    let collector = agent.wait_collector();
    set(&agent, json!({"update-endpoint": other.url(), "api-key": "other-key", "log-level": "info"}));
    agent.signal(Signal::HUP);
    let request = other.wait_for_next();
    assert_eq!(key(&request), Some("other-key"));
    let line = agent.wait_log("the reload", |line| line.msg() == "settings reloaded");
    assert_eq!(line.field("result"), "settings reloaded, changed: api-key, update-endpoint, log-level");
    let (asked, log) = (other.requests().len(), agent.log().len());
    other.wait_for_request_after(asked + 1, "two more", |_| true);
    let debug = agent.log().into_iter().skip(log).find(|line| line.level() == "debug");
    assert!(debug.is_none(), "{debug:?}");
    let status = agent.status().unwrap();
    assert_eq!(status["polling"]["endpoint"], other.url());
    assert_eq!((status["collector"]["restarts"].as_u64(), agent.wait_collector()), (Some(0), collector));
    // However often.
    for _ in 0..20 {
        agent.signal(Signal::HUP);
    }
    assert_eq!(agent.run(["reload"]).says(), "settings reloaded\n");
    assert_eq!((agent.wait_collector(), agent.exit_status()), (collector, None));
    assert_eq!(agent.stop(), 0);
}

/// From its first moment: what sends it does not know how far the agent is.
#[test]
fn sighup_never_ends_an_agent_that_starts() {
    for _ in 0..10 {
        let agent = quick().config(yaml(&named("a"))).build();
        let mut command = agent.command(["start"]);
        // The exec keeps what is pending, and the mask; so it is there before anything of the agent has run.
        let block = "import os, signal, sys\n\
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n\
            os.kill(os.getpid(), signal.SIGHUP)\n\
            os.execv(sys.argv[1], sys.argv[1:])";
        let mut python = Command::new("python3");
        python.args(["-c", block]).arg(command.get_program()).args(command.get_args());
        python.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command = python;
        command.current_dir("/");
        agent.spawn_command(command);
        agent.wait_log("the reload", |line| line.msg() == "settings reloaded");
        wait_running(&agent, 0);
        assert_eq!(agent.exit_status(), None);
    }
}

#[test]
fn what_was_ignored_stays_ignored() {
    let agent = quick().config(yaml(&named("a"))).build();
    agent.spawn_command(through_shell(&agent, "trap '' HUP INT; exec \"$0\" \"$@\""));
    wait_running(&agent, 0);
    for signal in [Signal::HUP, Signal::INT] {
        agent.signal(signal);
    }
    holds_for("an agent under nohup", Duration::from_millis(500), || reloads(&agent) == 0);
    assert_eq!(agent.run(["reload"]).says(), "settings reloaded\n");
    // The control: what is not ignored ends it.
    assert_eq!(agent.stop(), 0);
    agent.spawn();
    agent.wait_start(2);
    agent.signal(Signal::INT);
    assert_eq!(agent.wait_exit(), 0);
}

#[test]
fn a_bad_file_changes_nothing_and_says_why_until_it_is_fixed() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    let good = fs::read_to_string(agent.settings_file()).unwrap();
    for (bad, why) in [
        (format!("{good}min-uptim: 1s\n"), "min-uptim"),
        (good.replace("min-uptime: 500ms", "min-uptime: soon"), "\"soon\" is not a duration"),
        (format!("{good}ca-file: /nonexistent.pem\n"), "/nonexistent.pem"),
        (good.replace("update-endpoint: ", "update-endpoint: x"), "update-endpoint"),
    ] {
        fs::write(agent.settings_file(), bad).unwrap();
        let log = agent.log().len();
        let output = agent.run(["reload"]);
        output.fails(78, why);
        let message = "settings not reloaded; keeping the current ones";
        let line = agent.wait_log_after(log, "the reason", |line| line.msg() == message);
        assert!(line.level() == "error" && line.field("problem").contains(why), "{line:?}");
        let status = agent.status().unwrap();
        assert!(status["settings_problem"].as_str().unwrap().contains(why), "{status}");
        assert!(status["last_error_message"].as_str().unwrap().contains(why), "{status}");
    }
    // By a signal too, and it goes on with what it had.
    let (log, asked) = (agent.log().len(), api.requests().len());
    agent.signal(Signal::HUP);
    agent.wait_log_after(log, "the reason again", |line| line.msg().contains("settings not reloaded"));
    api.wait_for_request_after(asked + 1, "more checks", |_| true);
    fs::write(agent.settings_file(), good).unwrap();
    assert_eq!(agent.run(["reload"]).says(), "settings reloaded\n");
    let status = agent.status().unwrap();
    assert_eq!((&status["settings_problem"], &status["last_error_message"]), (&Value::Null, &json!("")));
    assert_eq!(status["collector"]["restarts"], 0);
}

#[test]
fn what_has_to_wait_is_named() {
    let agent = settled(quick(), &named("a"));
    let overlay = agent.dir().join("overlay.yaml");
    fs::write(&overlay, "name: overlay").unwrap();
    let elsewhere = agent.dir().join("elsewhere").display().to_string();
    set(&agent, json!({"state-dir": elsewhere, "run-dir": elsewhere, "local-config": overlay.display().to_string()}));
    let expected = "settings reloaded; local-config changes at the next start of the collector: run `kmagent restart`; \
                    state-dir changes at a restart of the agent; run-dir changes at a restart of the agent\n";
    let run_dir = agent.run_dir().display().to_string();
    assert_eq!(agent.run(["reload", "--run-dir", &run_dir]).says(), expected);
    let output = agent.run(["restart", "--run-dir", &run_dir]);
    assert!(output.says().starts_with("collector restarted, by "), "{output:?}");
    let configs = &agent.records_of("run")[1]["configs"];
    assert_eq!(configs[1], overlay.display().to_string(), "{configs}");
    assert!(!agent.dir().join("elsewhere").exists());
}

/// Among them what the supervisor alone has: the probation, and how long it waits at a stop.
#[test]
fn times_hold_from_the_next_event_on() {
    let agent = settled(quick().setting("stop-timeout", "1m"), &scripted("a", json!({"ignore_sigterm": true})));
    set(&agent, json!({"stop-timeout": "300ms", "min-uptime": "700ms"}));
    let output = agent.run(["reload"]);
    assert_eq!(output.says(), "settings reloaded, changed: stop-timeout, min-uptime\n");
    let began_at = std::time::Instant::now();
    assert_eq!(agent.stop(), 0);
    assert!(began_at.elapsed() < Duration::from_secs(20), "{:?}", began_at.elapsed());
}

#[test]
fn local_mode_ends_and_begins() {
    let api = Api::plain();
    let agent = settled(quick().setting("log-format", "json"), &named("a"));
    assert_eq!(agent.status().unwrap()["polling"]["endpoint"], Value::Null);
    set(&agent, json!({"update-endpoint": api.url(), "api-key": "a-key"}));
    agent.run(["reload"]).says();
    assert_eq!(key(&api.wait_for_next()), Some("a-key"));
    set(&agent, json!({"update-endpoint": null, "api-key": null}));
    agent.run(["reload"]).says();
    let status = agent.status().unwrap();
    assert!(status["polling"]["local_because"].as_str().unwrap().contains("no API key"), "{status}");
    let asked = api.requests().len();
    holds_for("no more checks", Duration::from_millis(2500), || api.requests().len() == asked);
}

/// The next start would use them if the file was bad then.
#[test]
fn the_last_good_settings_are_those_of_the_latest_reload() {
    let (api, other) = (Api::plain(), Api::plain());
    let agent = settled(quick().api(&api), &named("a"));
    set(&agent, json!({"update-endpoint": other.url()}));
    agent.run(["reload"]).says();
    let good = fs::read_to_string(agent.settings_file()).unwrap();
    fs::write(agent.settings_file(), format!("{good}no-such-setting: 1\n")).unwrap();
    agent.run(["reload"]).fails(78, "no-such-setting");
    assert_eq!(agent.stop(), 0);
    let asked = other.requests().len();
    agent.spawn();
    other.wait_for_request_after(asked, "a check by the reloaded settings", |_| true);
}

/// A collector whose config refers to the key, and one whose config does not.
#[test]
fn a_key_that_was_rotated_is_used_and_reaches_the_collector_that_refers_to_it() {
    for (refers, restarts) in [(true, 1), (false, 0)] {
        let api = Api::plain();
        let builder = quick().api(&api).without("api-key");
        let file = builder.dir().join("rotated.key");
        fs::write(&file, "first-key\n").unwrap();
        let mut config = named("a");
        if refers {
            config["token"] = json!("${env:KM_API_KEY}");
        }
        let builder = builder.setting("api-key-file", file.display().to_string());
        let agent = settled(builder, &config);
        assert_eq!(key(&api.wait_for_next()), Some("first-key"));
        fs::write(&file, "second-key\n").unwrap();
        // While the former one is taken, nothing is read again.
        let asked = api.requests().len();
        api.wait_for_request_after(asked + 1, "two more checks", |_| true);
        assert!(api.requests().iter().all(|request| key(request) == Some("first-key")));
        // Refused once, so asked again at once.
        let asked = api.requests().len();
        api.reply_once(Reply::status(if refers { 401 } else { 403 }, &[], "no first-key, no second-key"));
        api.wait_for_request_after(asked, "the new key", |request| key(request) == Some("second-key"));
        agent.wait_log("a line", |line| line.msg() == "the key file has another key; using it");
        if refers {
            let started = agent.wait_start(2);
            agent.wait_until("the new collector alone", || agent.collectors() == [started]);
            wait_status_restarts(&agent, restarts);
            assert_eq!(agent.records_of("run")[1]["env"]["KM_API_KEY"], "second-key");
        } else {
            let asked = api.requests().len();
            api.wait_for_request_after(asked + 1, "two more checks", |_| true);
        }
        wait_status_restarts(&agent, restarts);
        // Refused with the same key: nothing more to read, and the reason, in which neither is shown.
        let log = agent.log().len();
        api.reply(Reply::status(401, &[], "no first-key, no second-key"));
        let line = agent.wait_log_after(log, "the refusal", |line| line.msg().contains("config check failed"));
        assert_eq!(line.field("answer"), "no ****, no ****");
        assert!(line.field("error").ends_with("check api-key"), "{line:?}");
        assert_eq!(agent.count_log(|line| line.msg() == "the key file has another key; using it"), 1);
    }
}

/// What another API than the vendor's gets instead of the key, which the collector gets as ever.
#[test]
fn a_token_is_sent_in_the_place_of_the_key_and_may_be_rotated() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let file = builder.dir().join("update-token");
    fs::write(&file, "first-token\n").unwrap();
    let builder = builder.setting("update-token-file", file.display().to_string());
    let agent = settled(builder, &json!({"fake": {}, "token": "${env:KM_API_KEY}"}));
    assert_eq!(key(&api.wait_for_next()), Some("first-token"));
    assert_eq!(agent.records_of("run")[0]["env"]["KM_API_KEY"], "test-key");
    fs::write(&file, "second-token\n").unwrap();
    let (asked, log) = (api.requests().len(), agent.log().len());
    api.reply_once(Reply::status(401, &[], "no first-token, no second-token"));
    api.wait_for_request_after(asked, "the new token", |request| key(request) == Some("second-token"));
    agent.wait_log_after(log, "a line", |line| line.msg() == "the token file has another token; using it");
    // Refused as well, and shown in nothing that is said of it.
    api.reply(Reply::status(403, &[], "no first-token, no second-token"));
    let line = agent.wait_log_after(log, "the refusal", |line| line.msg().contains("config check failed"));
    assert_eq!(line.field("answer"), "no ****, no ****");
    assert!(line.field("error").ends_with("check update-token-file"), "{line:?}");
    fs::write(&file, "third-token").unwrap();
    api.answer(json!({}));
    assert_eq!(agent.run(["reload"]).says(), "settings reloaded, changed: update-token-file\n");
    api.wait_for_request("the third one", |request| key(request) == Some("third-token"));
    assert_eq!(agent.starts(), 1, "it is nothing to the collector");
    assert!(agent.log().iter().all(|line| !line.json.to_string().contains("-token,")), "{:?}", agent.log());
    fs::remove_file(&file).unwrap();
    let missing =
        format!("cannot read the update token: {}: it does not exist: write the update token", file.display());
    agent.run(["reload"]).fails(78, &missing);
    assert_eq!(agent.stop(), 0);
}

fn wait_status_restarts(agent: &Agent, restarts: u64) {
    let is_so =
        |status: &Value| status["collector"]["restarts"] == restarts && status["collector"]["state"] == "running";
    agent.wait_status("the collector", is_so);
}

/// By `reload`, before the former key expires.
#[test]
fn a_reload_takes_up_the_key() {
    let api = Api::plain();
    let builder = quick().api(&api).without("api-key");
    // Beside the settings.
    let agent = builder.config(yaml(&json!({"fake": {}, "token": "x-${env:KM_API_KEY:-none}"}))).build();
    let file = agent.dir().join("etc/api-key");
    fs::write(&file, "first-key").unwrap();
    agent.spawn();
    wait_running(&agent, 0);
    fs::write(&file, "second-key").unwrap();
    let output = agent.run(["reload"]);
    let expected = "settings reloaded, changed: api-key; replacing the collector, whose config refers to KM_API_KEY\n";
    assert_eq!(output.says(), expected);
    agent.wait_start(2);
    assert_eq!(agent.records_of("run")[1]["env"]["KM_API_KEY"], "second-key");
    wait_status_restarts(&agent, 1);
    // A collector that would not start with it is not given up.
    fs::write(agent.config_file(), "fake: {validate: fail}\ntoken: ${env:KM_API_KEY}").unwrap();
    fs::write(&file, "third-key").unwrap();
    let output = agent.run(["reload"]);
    assert!(
        output.says().contains("the collector goes on with the former KM_API_KEY: the collector rejects"),
        "{output:?}"
    );
    assert_eq!(agent.starts(), 2);
}

/// What cannot change while the agent runs: the message says what is needed.
#[test]
fn a_refused_key_says_where_it_has_to_be_changed() {
    let api = Api::plain();
    api.reply(Reply::status(401, &[], ""));
    let agent = quick().api(&api).without("api-key").config(yaml(&named("a"))).build();
    let credentials = agent.dir().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("api-key"), "a-credential").unwrap();
    for (name, value, words) in [
        ("KM_API_KEY", "a-key".to_string(), "check api-key; the agent was started with it: restart the agent"),
        (
            "CREDENTIALS_DIRECTORY",
            credentials.display().to_string(),
            "check api-key; it is a systemd credential: restart the service",
        ),
    ] {
        let log = agent.log().len();
        let mut command = agent.command(["start"]);
        command.env(name, value);
        agent.spawn_command(command);
        let line = agent.wait_log_after(log, "the refusal", |line| line.msg().contains("config check failed"));
        assert!(line.field("error").ends_with(words), "{line:?}");
        assert_eq!(agent.stop(), 0);
    }
}

#[test]
fn without_an_agent_there_is_nothing_to_do() {
    let agent = quick().config(yaml(&named("a"))).build();
    for command in ["reload", "restart"] {
        agent.run([command]).fails(69, "no agent is running");
    }
}
