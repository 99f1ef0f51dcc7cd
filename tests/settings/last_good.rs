//! A settings file that has gone bad after a good start: the next start uses the last good settings, and says so.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use serde_json::{Value, json};

use crate::operation::yaml;
use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::{bin, needs};

/// An agent that has been started once, with good settings, and is stopped.
fn started(builder: Builder) -> Agent {
    let agent = builder.config(yaml(&json!({"fake": {}}))).spawn();
    agent.wait_start(1);
    assert_eq!(agent.stop(), 0);
    agent
}

fn settings(agent: &Agent) -> String {
    fs::read_to_string(agent.settings_file()).unwrap()
}

fn kept(agent: &Agent) -> Value {
    serde_yaml::from_str(&fs::read_to_string(agent.state_dir().join("settings.yaml")).unwrap()).unwrap()
}

#[test]
fn they_are_kept_for_their_owner_without_what_names_programs_and_written_when_they_change() {
    let agent = started(Agent::builder().setting("on-change", "true").setting("host-name", "web-1"));
    let path = agent.state_dir().join("settings.yaml");
    let text = kept(&agent);
    assert_eq!((&text["host-name"], &text["min-uptime"]), (&json!("web-1"), &json!("1s")));
    assert!(text["collector"].is_null() && text["on-change"].is_null(), "{text}");
    let identity = || fs::metadata(&path).map(|meta| (meta.ino(), meta.mtime_nsec(), meta.mode() & 0o777)).unwrap();
    let before = identity();
    assert_eq!(before.2, 0o600);
    let start = |count| {
        agent.spawn();
        agent.wait_start(count);
        assert_eq!(agent.stop(), 0);
    };
    start(2);
    assert_eq!(identity(), before);
    fs::write(agent.settings_file(), settings(&agent).replace("web-1", "web-2")).unwrap();
    start(3);
    assert_eq!(kept(&agent)["host-name"], "web-2");
}

/// Of a file system that comes late, say: the collector does not wait for what only a check takes.
#[test]
fn a_ca_file_that_is_away_keeps_no_collector_down() {
    let api = Api::tls();
    let builder = Agent::builder().api(&api);
    let (ca_file, away) = (builder.dir().join("ca.pem"), builder.dir().join("away.pem"));
    fs::copy(api.ca_file().unwrap(), &ca_file).unwrap();
    let agent = started(builder.setting("ca-file", ca_file.display().to_string()));
    let kept_before = kept(&agent);
    fs::rename(&ca_file, &away).unwrap();
    agent.spawn();
    agent.wait_start(2);
    let status = agent.wait_status("a check", |status| status["polling"]["error"].is_string());
    assert!(status["polling"]["error"].as_str().unwrap().contains("ca-file cannot be read"), "{status}");
    let seen = api.requests().len();
    fs::rename(&away, &ca_file).unwrap();
    api.wait_for_request_after(seen, "a check", |_| true);
    assert_eq!((agent.starts(), kept(&agent)), (2, kept_before));
    assert_eq!(agent.stop(), 0);
    // A host that was never any good is told at once.
    fs::rename(&ca_file, &away).unwrap();
    fs::remove_file(agent.state_dir().join("settings.yaml")).unwrap();
    agent.run(["start"]).fails(78, "ca-file cannot be read");
}

#[test]
fn a_start_with_a_bad_file_uses_them_and_everybody_is_told() {
    let api = Api::plain();
    let agent = started(Agent::builder().api(&api).setting("host-name", "web-1").setting("on-change", "true"));
    let good = settings(&agent);
    let bad = good.replace("web-1", "web-2");
    let ca_file = agent.dir().join("ca.pem");
    fs::write(&ca_file, "no certificate").unwrap();
    let cases = [
        (format!("{bad}colector: /x\n"), "unknown key \"colector\": did you mean \"collector\"?"),
        (bad.replace("min-uptime: 1s", "min-uptime: soon"), "\"soon\" is not a duration"),
        // What is no mapping still says on a line of its own where the state is, and which collector to run.
        (format!("{bad}x: [\n"), "agent.yaml:"),
        (format!("\"{bad}"), "agent.yaml:"),
        (format!("{bad}ca-file: {}\n", ca_file.display()), "there is no usable certificate in it"),
    ];
    for (text, problem) in cases {
        fs::write(agent.settings_file(), text).unwrap();
        // It shows what a start uses, and is still a failure for scripts.
        let shown = agent.run(["--print-settings"]);
        if problem.contains("certificate") {
            assert_eq!(shown.code, Some(0));
        } else {
            assert_eq!(shown.code, Some(78));
            let row = shown.stdout.lines().find(|line| line.starts_with("host-name")).unwrap();
            assert!(row.contains("web-1") && row.contains("/state/settings.yaml:"), "{row}");
            for output in [shown, agent.run(["--check"])] {
                assert_eq!(output.code, Some(78), "{output:?}");
                assert!(output.stderr.contains(problem) && output.stderr.contains("last good settings"), "{output:?}");
            }
        }

        let (starts, seen, lines) = (agent.starts(), api.requests().len(), agent.log().len());
        agent.spawn();
        agent.wait_start(starts + 1);
        let status = agent.wait_status("an agent", |status| status["polling"]["succeeded_at"].is_u64());
        for told in ["settings_problem", "last_error_message"] {
            let text = status[told].as_str().unwrap();
            let remedy = format!("--agent-config {} reload`", agent.settings_file().display());
            assert!(text.contains(problem) && text.contains(&remedy), "{told}: {text}");
        }
        let shown = agent.run(["status"]).says().to_string();
        assert!(shown.starts_with("problem ") && shown.matches("the settings are invalid").count() == 1, "{shown}");
        let report = api.wait_for_request_after(seen, "a report", |_| true).json();
        assert_eq!(report["hostname"], "web-1");
        assert!(report["last_error_message"].as_str().unwrap().contains(problem), "{report}");
        let log = &agent.log()[lines..];
        let line = log.iter().find(|line| line.msg() == "settings are invalid; using the last good ones").unwrap();
        assert!(line.level() == "error" && line.field("problem").contains(problem), "{line:?}");
        assert_eq!(agent.stop(), 0);
        assert_eq!(kept(&agent)["host-name"], "web-1");
    }
    // Once it is right again there is nothing to say.
    fs::write(agent.settings_file(), bad).unwrap();
    agent.spawn();
    let status = agent.wait_status("an agent", |_| true);
    assert_eq!((&status["settings_problem"], &status["last_error_message"]), (&Value::Null, &json!("")));
    assert_eq!(agent.stop(), 0);
    assert_eq!(kept(&agent)["host-name"], "web-2");
}

/// The settings are good then.
#[test]
fn a_bad_policy_is_called_that() {
    let agent = started(Agent::builder());
    fs::write(agent.dir().join("etc/policy.yaml"), "listen: nowhere\n").unwrap();
    agent.spawn();
    let status = agent.wait_status("an agent", |_| true);
    let problem = status["settings_problem"].as_str().unwrap();
    let begin = "the policy is invalid, so each new config is refused: cannot read the policy: ";
    assert!(problem.starts_with(begin), "{problem}");
    assert_eq!(agent.stop(), 0);
}

/// They are what the collector is run with, so nobody but who wrote the file names them.
#[test]
fn the_collectors_arguments_are_the_bad_files_own() {
    let agent = started(Agent::builder().setting("collector-args", json!(["--set=a=b"])));
    assert!(kept(&agent)["collector-args"].is_null());
    let good = settings(&agent);
    let list = good.lines().skip_while(|line| !line.starts_with("collector-args")).take(2).collect::<Vec<_>>();
    let without = good.replace(&list.join("\n"), "");
    for (text, given) in [
        (format!("{good}colector: x\n"), true),
        (format!("{without}\ncollector-args: --set=a=b\nx: [\n"), true),
        (format!("{good}x: [\n"), false),
    ] {
        fs::write(agent.settings_file(), &text).unwrap();
        let (starts, lines) = (agent.starts(), agent.log().len());
        agent.spawn();
        agent.wait_start(starts + 1);
        agent.wait_status("an agent", |_| true);
        let argv = agent.records_of("run")[starts]["argv"].as_array().unwrap().clone();
        assert_eq!(argv.contains(&json!("--set=a=b")), given, "{text}{argv:?}");
        let is_lost = |line: &crate::support::agent::Line| {
            line.field("problem").contains("`collector-args` is as if it was not set")
        };
        assert_eq!(agent.log()[lines..].iter().any(is_lost), !given, "{text}");
        assert_eq!(agent.stop(), 0);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_bad_too() {
    // It says neither where the state is nor which collector.
    let builder = Agent::builder();
    let state_dir = builder.dir().join("state").display().to_string();
    let agent = started(builder.arg("--state-dir").arg(state_dir));
    fs::rename(agent.settings_file(), agent.dir().join("etc/elsewhere.yaml")).unwrap();
    for is_directory in [false, true] {
        if is_directory {
            fs::create_dir(agent.settings_file()).unwrap();
        }
        agent.spawn();
        let status = agent.wait_status("an agent without a collector", |status| {
            status["last_error_message"].as_str().unwrap().contains("no collector found")
        });
        assert!(status["settings_problem"].as_str().unwrap().contains("cannot read the settings file"), "{status}");
        let warning = agent.log().into_iter().rfind(|line| line.msg() == "check the settings").unwrap();
        assert!(warning.field("problem").contains("collector"), "{warning:?}");
        assert_eq!(agent.stop(), 0);
    }
}

#[test]
fn what_is_wrong_elsewhere_is_still_an_error() {
    let agent = started(Agent::builder());
    fs::write(agent.settings_file(), format!("{}colector: x\n", settings(&agent))).unwrap();
    agent.run(["start", "--no-such-flag"]).fails(64, "no-such-flag");
    agent.run(["start", "--min-uptime", "soon"]).fails(78, "the last good settings cannot be used either");
    let other = agent.dir().join("etc/other.yaml");
    fs::write(&other, settings(&agent)).unwrap();
    let mut command = agent.command(["start", "--agent-config"]);
    command.arg(&other);
    bin::output(command).fails(78, "colector");
}

#[test]
fn root_takes_none_of_another_users() {
    const NOBODY: u32 = 65534;
    if !needs::root() {
        return;
    }
    let agent = started(Agent::builder().paths_by_environment());
    fs::write(agent.settings_file(), format!("{}colector: x\n", settings(&agent))).unwrap();
    let (state, kept) = (agent.state_dir(), agent.state_dir().join("settings.yaml"));
    for path in [&state, &kept] {
        chown(path, Some(NOBODY), None).unwrap();
        agent.run(["start"]).fails(78, "colector");
        assert!(!agent.run(["--print-settings"]).stdout.contains("last good"));
        chown(path, Some(0), None).unwrap();
    }
    // The negative control; and a program only from a file that nobody else may write.
    for (owner, mode, runs) in [(0, 0o600, true), (NOBODY, 0o600, false), (0, 0o666, false)] {
        chown(agent.settings_file(), Some(owner), None).unwrap();
        fs::set_permissions(agent.settings_file(), fs::Permissions::from_mode(mode)).unwrap();
        agent.spawn();
        let status = agent.wait_status("an agent", |status| {
            status["collector"]["pid"].is_u64()
                || status["last_error_message"].as_str().unwrap().contains("no collector")
        });
        assert_eq!(status["collector"]["pid"].is_u64(), runs, "{owner} {mode:o}: {status}");
        assert_eq!(agent.stop(), 0);
    }
    // What root's own agent keeps is not kept in another's directory.
    fs::remove_file(&kept).unwrap();
    chown(&state, Some(NOBODY), None).unwrap();
    chown(agent.settings_file(), Some(0), None).unwrap();
    fs::set_permissions(agent.settings_file(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(agent.settings_file(), settings(&agent).replace("colector: x\n", "")).unwrap();
    agent.spawn();
    agent.wait_status("an agent", |status| status["collector"]["pid"].is_u64());
    assert_eq!(agent.stop(), 0);
    assert!(!kept.exists());
}

#[test]
fn a_policy_is_never_exchanged_for_a_lesser_one() {
    let api = Api::plain();
    let builder = Agent::builder().api(&api);
    let policy = builder.dir().join("etc/strict.yaml");
    let agent = builder.setting("policy", policy.display().to_string()).build();
    fs::write(&policy, "deny-components: ['exporters::nop']\n").unwrap();
    fs::write(agent.config_file(), yaml(&json!({"fake": {}}))).unwrap();
    agent.spawn();
    agent.wait_start(1);
    assert_eq!(agent.stop(), 0);
    let good = settings(&agent);
    let line = format!("policy: {}\n", policy.display());
    let refused_by = |rule: &str, offered: Value| {
        let seen = api.requests().len();
        api.answer_config(offered);
        agent.spawn();
        api.wait_for_request_after(seen, rule, |request| {
            request.json()["last_error_message"].as_str().is_some_and(|message| message.contains(rule))
        });
        assert_eq!(agent.stop(), 0);
        assert_eq!(agent.config(), json!({"fake": {}}));
    };
    // Whatever else is wrong, its own line is believed.
    fs::write(agent.settings_file(), format!("{good}colector: x\n")).unwrap();
    refused_by("(rule deny-components)", json!({"fake": {}, "exporters": {"nop": null}}));
    // Without one that is beyond doubt, and with a file that has no rules any more, nothing is accepted.
    fs::write(agent.settings_file(), format!("{good}{line}colector: x\n")).unwrap();
    refused_by("the policy cannot be read", json!({"fake": {}, "name": "first"}));
    fs::write(agent.settings_file(), good).unwrap();
    fs::write(&policy, "deny-component: ['exporters::nop']\n").unwrap();
    refused_by("the policy cannot be read", json!({"fake": {}, "name": "second"}));
}

/// What a host that has lost its power leaves of a file: the defaults would send the key to another API.
#[test]
fn an_empty_file_is_bad_where_it_was_not_empty_before() {
    let api = Api::plain();
    let builder = Agent::builder();
    let state_dir = builder.dir().join("state").display().to_string();
    let agent = started(builder.api(&api).arg("--state-dir").arg(state_dir));
    fs::write(agent.settings_file(), "\n").unwrap();
    let seen = api.requests().len();
    agent.spawn();
    api.wait_for_request_after(seen, "a report, to the API that the file named", |_| true);
    let status = agent.wait_status("an agent", |_| true);
    assert!(status["settings_problem"].as_str().unwrap().contains("agent.yaml is empty, and was not"), "{status}");
    assert_eq!(agent.stop(), 0);
    assert!(fs::read_to_string(agent.state_dir().join("settings.yaml")).unwrap().contains("update-endpoint"));
    // A comment is what somebody has written.
    fs::write(agent.settings_file(), "# the defaults\n").unwrap();
    assert_eq!(agent.run(["--print-settings"]).code, Some(0));
}
