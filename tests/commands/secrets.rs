//! The API key and what else is secret: in no log, status, argument, message or file that others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::agent::{Agent, Builder};
use crate::support::api::{Api, Reply};
use crate::support::process;

const KEY: &str = "km-SECRET-0123456789";
/// A credential in the collector's config.
const TOKEN: &str = "SECRET-collector-token";

#[track_caller]
fn hides_it(what: &str, text: &str) {
    assert!(!text.contains("SECRET"), "{what} shows a secret: {text}");
}

/// Every file below `dir` that holds a secret.
fn files_with_secrets(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with_secrets(&path));
        } else if fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("SECRET")) {
            found.push(path);
        }
    }
    found
}

fn keyed(api: &Api) -> Builder {
    Agent::builder().api(api).without("api-key").env("KM_API_KEY", KEY)
}

#[test]
fn a_resident_agent_shows_no_secret_anywhere() {
    let api = Api::plain();
    api.reply_once(Reply::status(500, &[], format!("who is {KEY}?")));
    let exporters = json!({"otlp": {"headers": {"authorization": TOKEN}}});
    let stderr = format!("exporting with {TOKEN} and {KEY}");
    api.answer_config(json!({"fake": {"stderr": stderr}, "exporters": exporters}));
    let agent = keyed(&api).spawn();
    agent.wait_log("the masked body", |line| line.field("answer").contains("who is ****?"));
    agent.wait_log("the collector's line", |line| line.text.contains("exporting with **** and ****"));
    agent.wait_status("running", |status| status["collector"]["state"] == "running");

    for problem in [
        json!({"fake": {"validate": "fail", "stderr": KEY}, "exporters": exporters}),
        json!({"fake": {"start": {"exit": 1}, "stderr": stderr}, "exporters": exporters}),
        json!({"fake": {}, "exporters": exporters, "service": {"pipelines": {"logs": {"receivers": [KEY]}}}}),
    ] {
        let before = agent.status().unwrap()["config"]["rejected_revision"].clone();
        api.answer_config(problem);
        let status = agent.wait_status("a rejected config", |status| {
            !status["config"]["rejected_revision"].is_null() && status["config"]["rejected_revision"] != before
        });
        hides_it("status --json", &status.to_string());
        hides_it("status", agent.run(["status"]).says());
        api.wait_for_request("the report", |request| {
            request.json()["last_error_message"].as_str().is_some_and(|text| !text.is_empty())
        });
    }

    for pid in agent.processes() {
        hides_it("a command line", &process::command_line(pid).join(" "));
    }
    for line in agent.log() {
        hides_it("the log", &line.text);
    }
    for request in api.requests() {
        assert_eq!(request.header("authorization"), Some(KEY));
        hides_it("the report", &String::from_utf8_lossy(&request.body));
        hides_it("the request line", &request.path);
    }
    for path in files_with_secrets(agent.dir()) {
        // The stand-in collector's own record is the test's, not the agent's.
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert!(path.ends_with("fake.log") || mode == 0o600, "{} has mode {mode:o}", path.display());
    }
    let record = agent.records_of("run").remove(0);
    assert_eq!(record["env"]["KM_API_KEY"], KEY, "the collector needs the key");
    assert_eq!(agent.stop(), 0);
    agent.log().iter().for_each(|line| hides_it("the log", &line.text));
}

#[test]
fn print_settings_masks_secrets_of_every_source() {
    let agent = Agent::builder().setting("api-key", KEY).build();
    let output = agent.run(["--print-settings"]);
    hides_it("--print-settings", &format!("{output:?}"));
    assert!(output.stdout.contains("api-key ") && output.stdout.contains(" = **** "), "{output:?}");

    let agent = Agent::builder().env("KM_API_KEY", KEY).build();
    let output = agent.run(["--print-settings", "--api-key", "SECRET-flag"]);
    hides_it("--print-settings", &format!("{output:?}"));

    let agent = Agent::builder().build();
    fs::write(agent.dir().join("key"), KEY).unwrap();
    let key_file = agent.dir().join("key").display().to_string();
    let on_change = format!("curl -u x https://user:{KEY}@host/");
    let endpoint = format!("https://user:{KEY}@otel.example.com:4318");
    let args = ["--api-key-file", &key_file, "--on-change", &on_change, "--collector-endpoint", &endpoint];
    let output = agent.run(args.into_iter().chain(["--print-settings"]));
    hides_it("--print-settings", &format!("{output:?}"));
    assert!(output.stdout.contains("https://****@host/"), "{output:?}");
}

#[test]
fn error_messages_do_not_repeat_a_secret() {
    let agent = Agent::builder().setting("api-key", "SECRET\u{fc}").build();
    for args in [
        vec!["--print-settings"],
        vec!["start", "--api-key", "SECRET\u{fc}"],
        vec!["--check", "--update-endpoint", "https://user:SECRET@host/x"],
        vec!["--check", "--api-key"],
        vec!["--api-key=SECRET", "--no-such-option"],
    ] {
        let output = agent.run(&args);
        assert!(matches!(output.code, Some(64 | 78)), "{output:?}");
        hides_it("a message", &output.stderr);
        assert_eq!(output.stdout, "");
    }
}

#[test]
fn the_password_of_a_proxy_is_never_shown() {
    let variables = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().cycle();
    for ((url, exit, says), variable) in [
        ("http://user:SECRET/x@127.0.0.1:1", 78, "not percent-encoded: in a user name or password write / as %2F"),
        ("http://user:1/SECRET@127.0.0.1:1", 78, "not percent-encoded"),
        ("http://user:SECRET#x@127.0.0.1:1", 78, "not percent-encoded"),
        ("http://user:SECRET?x@127.0.0.1:1", 78, "not percent-encoded"),
        ("http://SECRET:x/y", 78, "is not a URL"),
        ("http://user:SECRET%2Fx@127.0.0.1:1", 75, "(through the proxy http://127.0.0.1:1/)"),
    ]
    .into_iter()
    .zip(variables)
    {
        let builder = Agent::builder().setting("update-endpoint", "https://api.example.com/x").config("fake: {}");
        let agent = builder.env(variable, url).build();
        let output = agent.run(["--check"]);
        hides_it("a message", &output.stderr);
        output.fails(exit, says);
    }
}

#[test]
fn a_check_shows_no_secret_either() {
    let api = Api::plain();
    let exporters = json!({"otlp": {"headers": {"authorization": TOKEN}}});
    let agent =
        keyed(&api).setting("on-change", format!("echo {TOKEN} $KM_API_KEY; curl https://u:{KEY}@x; exit 3")).build();
    for reply in [
        Reply::status(401, &[], format!("{KEY} is no key")),
        Reply::status(503, &[], KEY),
        Reply::json(
            &json!({"restart_required": true, "config": {"fake": {"validate": "fail"}, "exporters": exporters}}),
        ),
        Reply::json(&json!({"restart_required": true, "config": {"fake": {}, "exporters": exporters}})),
        Reply::json(&json!({"restart_required": true})),
    ] {
        api.reply(reply);
        for args in [vec!["--check", "--dry-run"], vec!["--check"], vec!["--check", "--json"]] {
            let output = agent.run(&args);
            hides_it("a check", &format!("{output:?}"));
        }
    }
    for request in api.requests() {
        hides_it("the report", &String::from_utf8_lossy(&request.body));
    }
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    let agent = Agent::builder().setting("api-key", KEY).build();
    fs::set_permissions(agent.settings_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let output = agent.run(["--print-settings"]);
    assert_eq!(output.code, Some(0));
    assert!(output.stderr.contains("every user can read the API key in") && output.stderr.contains("chmod o="));
    let output = agent.run(["--print-settings", "--api-key=SECRET-flag"]);
    assert!(output.stderr.contains("--api-key shows the key to every user in ps"), "{output:?}");
    hides_it("a warning", &output.stderr);
}
