//! `--print-settings`: every value with its source, and the order of sources.

use super::{Case, rows};
use crate::commands::help::SETTINGS;

/// Setting, and a value for the file, the flag and the variable, as it is shown. The first is the default where it is a
/// value.
const VALUES: [(&str, &str, &str, &str, &str); 30] = [
    ("config", "/etc/kmagent/config.yaml", "/f", "/g", "/e"),
    ("seed-config", "(share/kmagent/config.yaml beside the agent's directory)", "/f", "/g", "/e"),
    ("collector", "(kmagent-collector near the agent, then otelcol-contrib, otelcol)", "/f", "/g", "/e"),
    (
        "collector-endpoint",
        "https://otel.kloudmate.com:4318",
        "https://f.example",
        "https://g.example",
        "https://e.example",
    ),
    ("config-check-interval", "60s", "2m", "3", "1h30m"),
    ("update-endpoint", "", "https://f.example/x", "https://g.example/x", "https://e.example/x"),
    ("local-config", "(none)", "/f", "/g", "/e"),
    ("docker-mode", "false", "true", "yes", "on"),
    ("docker-endpoint", "(none)", "unix:///f", "unix:///g", "unix:///e"),
    ("host-name", "", "f", "g", "e"),
    ("log-level", "info", "error", "debug", "warn"),
    ("log-format", "json", "text", "json", "text"),
    ("state-dir", "/var/lib/kmagent", "/f", "/g", "/e"),
    ("run-dir", "/run/kmagent", "/f", "/g", "/e"),
    ("ca-file", "(the built-in Mozilla roots)", "/f", "/g", "/e"),
    ("allow-http", "false", "true", "yes", "1"),
    ("report-extended", "false", "true", "t", "on"),
    ("instance-id", "(made once and kept)", "f", "g", "e"),
    ("on-change", "(none)", "true f", "true g", "true e"),
    ("restart-mode", "auto", "restart", "handover", "auto"),
    ("stop-timeout", "30s", "1s", "2s", "3s"),
    ("min-uptime", "10s", "1s", "2s", "3s"),
    ("start-timeout", "60s", "1s", "2s", "3s"),
    ("confirm-time", "10m", "1s", "2s", "3s"),
    ("validate-timeout", "30s", "1s", "2s", "3s"),
    ("collector-args", "(none)", "--f=1", "--g=1", "--e=1"),
    ("collector-log-rate", "600", "1", "0", "1000"),
    ("max-config-size", "4MiB", "1MiB", "512KiB", "65536"),
    ("generations", "5", "1", "2", "3"),
    ("generations-size", "16MiB", "1MiB", "512KiB", "65536"),
];

fn variable(name: &str) -> String {
    match name {
        "config" => "KM_COLLECTOR_CONFIG".to_string(),
        name => format!("KM_{}", name.to_uppercase().replace('-', "_")),
    }
}

#[test]
fn every_setting_has_a_row_with_its_default() {
    let case = Case::new("");
    let output = case.print(&[], &[]);
    let printed: Vec<&str> = output.says().lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(printed, SETTINGS, "{output:?}");
    let rows = rows(&output);
    for (name, default, ..) in VALUES {
        let (value, source) = &rows[name];
        if !default.is_empty() {
            assert_eq!((value.as_str(), source.as_str()), (default, "default"), "{name}");
        }
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(rows["host-name"], (host.trim().to_string(), "default".to_string()));
    assert_eq!(rows["poll-timeout"].0, "10s");
    assert_eq!(rows["api-key"].0, "(none)");
}

#[test]
fn environment_beats_flag_beats_file_for_every_setting() {
    for (name, _, in_file, in_flag, in_env) in VALUES {
        let case = Case::new(&format!("# a comment\n{name}: {in_file}\n"));
        let path = case.dir.join("agent.yaml").display().to_string();
        let (env, flag) = (variable(name), format!("--{name}={in_flag}"));
        let row = |env: &[(&str, &str)], args: &[&str]| case.rows(env, args)[name].clone();

        let pair = |value: &str, source: String| (value.to_string(), source);
        assert_eq!(row(&[], &[]), pair(in_file, format!("file {path}:2")));
        assert_eq!(row(&[], &[&flag]), pair(in_flag, format!("flag --{name}")));
        assert_eq!(row(&[(&env, in_env)], &[]), pair(in_env, format!("environment {env}")));
        assert_eq!(row(&[(&env, in_env)], &[&flag]), pair(in_env, format!("environment {env}")));
        // Empty counts as unset, in every source.
        assert_eq!(row(&[(&env, "")], &[&flag]), pair(in_flag, format!("flag --{name}")));
        assert_eq!(row(&[(&env, "")], &[&format!("--{name}=")]), pair(in_file, format!("file {path}:2")));
    }
}

#[test]
fn a_list_is_words_flags_or_a_yaml_list() {
    let case = Case::new("collector-args: [--a=x y, '--b', --c=1]\n");
    let path = case.dir.join("agent.yaml").display().to_string();
    let args = |env: &[(&str, &str)], args: &[&str]| case.rows(env, args)["collector-args"].clone();
    let pair = |value: &str, source: &str| (value.to_string(), source.to_string());
    assert_eq!(args(&[], &[]), pair("\"--a=x y\" --b --c=1", &format!("file {path}:1")));
    let flags = ["--collector-args=--d=x y", "--collector-args", "-e", "--collector-args="];
    assert_eq!(args(&[], &flags), pair("\"--d=x y\" -e", "flag --collector-args"));
    let env = [("KM_COLLECTOR_ARGS", "  --f=x   -g ")];
    assert_eq!(args(&env, &flags), pair("--f=x -g", "environment KM_COLLECTOR_ARGS"));
    for (text, value) in [("--f  -g", "--f -g"), ("[]", "(none)"), ("\n  - -a\n  - -b", "-a -b"), ("[true]", "")] {
        case.file("agent.yaml", &format!("collector-args: {text}\n"));
        match value {
            "" => assert!(case.print(&[], &[]).stderr.contains("has what is no option"), "{text}"),
            value => assert_eq!(args(&[], &[]).0, value, "{text}"),
        }
    }
    for (text, cause) in [
        ("[--a, [--b]]", "agent.yaml:1: collector-args takes a list of texts"),
        ("{a: b}", "agent.yaml:1: collector-args takes a list of texts"),
        ("[--config=x]", "has --config: use config and local-config"),
        ("[--set=a=b, \"--set=a=\\n--config=x\"]", "contains a control character"),
        ("--version", "has --version, with which nothing is run"),
        ("components", "has what is no option"),
    ] {
        case.file("agent.yaml", &format!("collector-args: {text}\n"));
        let output = case.print(&[], &[]);
        assert!(output.code == Some(78) && output.stderr.contains(cause), "{text}: {output:?}");
    }
}

#[test]
fn the_settings_file_itself_is_named_by_the_same_order() {
    let case = Case::new("host-name: of-agent-yaml\n");
    let other = case.file("other.yaml", "host-name: of-other-yaml\n");
    let rows = case.rows(&[("KM_AGENT_CONFIG", &other)], &[]);
    assert_eq!(rows["agent-config"], (other.clone(), "environment KM_AGENT_CONFIG".to_string()));
    assert_eq!(rows["host-name"].0, "of-other-yaml");
    let rows = case.rows(&[], &["--agent-config", "other.yaml"]);
    assert_eq!(rows["agent-config"], (other, "flag --agent-config".to_string()));
}

#[test]
fn a_variable_that_beats_a_flag_is_a_warning() {
    let case = Case::new("log-level: warn\n");
    let output = case.print(&[("KM_LOG_LEVEL", "debug"), ("KM_RUN_DIR", "/r")], &["--log-level=error", "--run-dir=/r"]);
    // One that says the same is not worth a word.
    assert_eq!(output.stderr, "kmagent: warning: KM_LOG_LEVEL in the environment overrides --log-level\n");
    assert_eq!(rows(&output)["log-level"].0, "debug");
    assert_eq!(case.print(&[("KM_LOG_LEVEL", "debug")], &[]).stderr, "", "beating the file is as usual");
}

#[test]
fn the_key_and_its_file() {
    let case = Case::new("api-key-file: key\n");
    let key = case.file("key", "of-the-file\n");
    let (masked, none) = ("****".to_string(), "(none)".to_string());
    assert_eq!(case.rows(&[], &[])["api-key"], (masked.clone(), format!("file {key}")));
    let rows = case.rows(&[("KM_API_KEY", "x")], &[]);
    assert_eq!(rows["api-key"], (masked.clone(), "environment KM_API_KEY".to_string()));
    assert!(rows["api-key-file"].1.ends_with("not used: api-key is set"), "{rows:?}");

    let case = Case::new("");
    assert_eq!(case.rows(&[], &[])["api-key"].0, none);
    std::fs::create_dir(case.dir.join("credentials")).unwrap();
    let credential = case.file("credentials/api-key", "of-systemd\n");
    let directory = case.dir.join("credentials").display().to_string();
    let variables = [("CREDENTIALS_DIRECTORY", directory.as_str())];
    let rows = case.rows(&variables, &[]);
    assert_eq!(rows["api-key"], (masked.clone(), format!("credential {credential}")));

    let beside = case.file("api-key", "of-the-installation\n");
    assert_eq!(case.rows(&variables, &[])["api-key"].1, format!("credential {credential}"));
    case.file("credentials/api-key", "");
    let rows = case.rows(&variables, &[]);
    assert_eq!(rows["api-key"], (masked, format!("file {beside}")), "an empty credential counts as unset");
    assert_eq!(rows["api-key-file"], (beside.clone(), "default".to_string()));
    case.file("api-key", "");
    let rows = case.rows(&[], &[]);
    assert_eq!((&rows["api-key"].0, &rows["api-key-file"].1), (&none, &"default, empty".to_string()));
    case.file("api-key", "two\nlines\n");
    case.print(&[], &[]).fails(78, &format!("cannot read the API key: {beside}: its content contains a line break"));
}

#[test]
fn a_switch_needs_no_value_and_the_last_flag_counts() {
    let case = Case::new("");
    assert_eq!(case.rows(&[], &["--docker-mode"])["docker-mode"].0, "true");
    assert_eq!(case.rows(&[], &["--docker-mode", "--docker-mode=no"])["docker-mode"].0, "no");
    assert_eq!(case.rows(&[], &["--host-name", "a", "--host-name=b"])["host-name"].0, "b");
}

#[test]
fn relative_paths_are_shown_as_they_will_be_used() {
    let case = Case::new("state-dir: state\n");
    let rows = case.rows(&[], &["--config", "c.yaml"]);
    assert_eq!(rows["state-dir"].0, case.dir.join("state").display().to_string());
    assert_eq!(rows["config"].0, case.dir.join("c.yaml").display().to_string());
}
