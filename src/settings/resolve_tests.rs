//! Settings from every source, as a user gives them: which value holds, what is shown, and what is reported.

use std::fs::Permissions;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::policy::Policy;
use crate::settings::print;

/// A settings file, a key file, a credential, and what the command line and the environment say; `DIR` in any text is
/// the directory that they are in.
struct Case {
    dir: PathBuf,
    flags: Vec<(&'static str, String)>,
    env: Vec<(String, OsString)>,
}

impl Case {
    fn new(name: &str, settings_file: &str) -> Case {
        let dir = std::env::temp_dir().join(format!("kmagent-settings-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("credentials")).unwrap();
        let case = Case { dir, flags: Vec::new(), env: Vec::new() };
        case.file("agent.yaml", settings_file).flag("agent-config", "DIR/agent.yaml")
    }

    fn text(&self, text: &str) -> String {
        text.replace("DIR", self.dir.to_str().unwrap())
    }

    fn file(self, name: &str, text: &str) -> Case {
        let path = self.dir.join(name);
        std::fs::write(&path, self.text(text)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn flag(mut self, name: &'static str, text: &str) -> Case {
        self.flags.push((name, self.text(text)));
        self
    }

    fn env(mut self, name: &str, text: &str) -> Case {
        self.env.push((name.to_string(), self.text(text).into()));
        self
    }

    fn run(&self) -> Result<Resolved> {
        let env = |name: &str| self.env.iter().find(|(key, _)| key == name).map(|(_, text)| text.clone());
        settle(Layers::open(&self.flags, &env, &self.dir.join("no-such-file")))
    }

    /// The value and the source of a row, with `DIR` for the directory.
    fn row(&self, key: &str) -> (String, String) {
        let row = self.run().unwrap().rows.into_iter().find(|row| row.key == key).unwrap();
        let short = |text: String| text.replace(self.dir.to_str().unwrap(), "DIR");
        (short(row.value), short(row.source))
    }

    fn problems(&self) -> Vec<String> {
        let error = self.run().unwrap_err();
        assert_eq!(error.exit(), Exit::Settings);
        error.to_string().replace(self.dir.to_str().unwrap(), "DIR").lines().map(str::to_string).collect()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn defaults() {
    let mut layers = Layers::open(&[], &|_| None, Path::new("/nonexistent/a.yaml"));
    // As where the last good settings are looked for.
    layers.last_good_path();
    let Resolved { settings, rows, warnings, .. } = settle(layers).unwrap();
    assert_eq!(settings.config, Path::new("/etc/kmagent/config.yaml"));
    assert_eq!(settings.collector_endpoint, "https://otel.kloudmate.com:4318");
    assert_eq!(settings.config_check_interval, Some(Duration::from_secs(60)));
    assert_eq!(settings.max_config_size, 4 * 1024 * 1024);
    assert_eq!(settings.max_config_file(), 8 * 1024 * 1024);
    assert_eq!((settings.generations, settings.generations_size), (5, 16 * 1024 * 1024));
    assert_eq!(settings.min_uptime, Duration::from_secs(10));
    assert_eq!((settings.start_timeout, settings.confirm_time), (Duration::from_secs(60), Duration::from_secs(600)));
    assert_eq!((settings.collector, settings.ca_file, settings.on_change), (None, None, None));
    assert_eq!(settings.host_name, None, "it is asked for at each report");
    assert!(matches!(settings.polling, Polling::Local { reason } if reason.contains("no API key")));
    assert_eq!(rows[0].source, "default, does not exist");
    assert!(warnings.is_empty());
    let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
    let names: Vec<_> = table::SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(keys, names, "every setting has one row, in the table's order");
}

#[test]
fn every_setting_is_taken_from_every_source() {
    for setting in table::SETTINGS.iter().filter(|setting| setting.name != "agent-config") {
        let text = match setting.name {
            "update-endpoint" | "collector-endpoint" => "https://api.example.org/x",
            "docker-mode" | "allow-http" | "report-extended" => "true",
            "log-level" => "debug",
            "log-format" => "text",
            "restart-mode" => "restart",
            "max-config-size" | "generations-size" => "1MiB",
            "generations" => "7",
            "api-key-file" | "update-token-file" => "DIR/key",
            "collector-log-rate" => "60",
            "collector-args" => "--some=text",
            "policy" => "none",
            "min-uptime" | "confirm-time" => "7s",
            name if name.ends_with("-timeout") || name.ends_with("-interval") => "7s",
            _ => "/some/text",
        };
        let shown = if setting.name == "api-key" { "****" } else { text };
        let case = Case::new("every", &format!("# settings\n{}: {text}\n", setting.name)).file("key", "k\n");
        assert_eq!(case.row(setting.name), (shown.to_string(), "file DIR/agent.yaml:2".to_string()));
        let case = case.flag(setting.name, text);
        assert_eq!(case.row(setting.name), (shown.to_string(), format!("flag --{}", setting.name)));
        let case = case.env(setting.env, text);
        assert_eq!(case.row(setting.name), (shown.to_string(), format!("environment {}", setting.env)));
    }
}

#[test]
fn the_policy_is_none_a_file_or_what_is_beside_the_settings_file() {
    let policies = |case: &Case| {
        let Resolved { settings, rows, .. } = case.run().unwrap();
        let row = rows.into_iter().find(|row| row.key == "policy").unwrap();
        (settings.policy.identity().to_string(), row.value.contains("policy.yaml"), row.source)
    };
    let standard = Policy::default().identity().to_string();
    let case = Case::new("policy", "");
    assert_eq!(policies(&case), (standard.clone(), true, "default".to_string()));
    let case = case.file("policy.yaml", "listen: loopback\n");
    let (strict, named, source) = policies(&case);
    assert!(strict != standard && named && source == "default", "{strict}");
    let case = case.file("other.yaml", "# nothing\n").flag("policy", "DIR/other.yaml");
    assert_eq!(policies(&case), (standard, false, "flag --policy".to_string()));
    let case = case.env("KM_POLICY", "none");
    assert_eq!(policies(&case), ("none".to_string(), false, "environment KM_POLICY".to_string()));
    for (file, words) in [("alow: []", "unknown rule"), ("\u{1}", "control characters"), ("- a", "expected")] {
        let error = Case::new("bad-policy", "").file("policy.yaml", file).run().unwrap_err();
        assert!(error.what().starts_with("cannot read the policy: ") && error.what().contains(words), "{error}");
    }
}

#[test]
fn empty_counts_as_unset_and_the_last_flag_wins() {
    let case = Case::new("empty", "host-name: from-file\non-change: ''\n").env("KM_HOST_NAME", "");
    assert_eq!(case.row("host-name").0, "from-file");
    assert_eq!(case.row("on-change"), ("(none)".to_string(), "default".to_string()));
    let case = case.flag("host-name", "one").flag("host-name", "two");
    assert_eq!(case.row("host-name").0, "two");
}

#[test]
fn warns_of_what_is_overridden() {
    let case = Case::new("warns", "host-name: c\n").env("KM_HOST_NAME", "a");
    assert!(case.run().unwrap().warnings.is_empty(), "a variable may silently beat the file");
    let case = case.flag("host-name", "a");
    assert!(case.run().unwrap().warnings.is_empty(), "nothing is lost");
    let case = case.flag("host-name", "b");
    assert_eq!(case.run().unwrap().warnings, ["KM_HOST_NAME in the environment overrides --host-name"]);
}

#[test]
fn problems_of_all_sources_are_one_report() {
    let mut case = Case::new("problems", "colector: /x\nstop-timeout: soon\napi-key: 'SECRET\u{fc}'\nhost-name: h\n")
        .flag("max-config-size", "1")
        .flag("update-endpoint", "https://user:SECRET@host/x")
        .env("KM_LOG_LEVEL", "loud")
        .env("KM_STOP_TIMEOUT", "5s");
    case.env.push(("KM_HOST_NAME".to_string(), OsString::from_vec(vec![0xff])));
    let expected = [
        "--update-endpoint: \"https://****@host/x\" contains a user name: remove it, the API key is the only credential",
        "KM_HOST_NAME: the value is not UTF-8",
        "KM_LOG_LEVEL: \"loud\" is not a log level: it takes error, warn, info or debug",
        "--max-config-size: \"1\" is out of range: it takes 1KiB to 64MiB",
        "DIR/agent.yaml:1: unknown key \"colector\": did you mean \"collector\"?",
        "DIR/agent.yaml:2: stop-timeout: \"soon\" is not a duration: write seconds, or units as in 500ms, 60s, 5m, 1h, 1h30m",
        "DIR/agent.yaml:3: api-key: the value contains a character outside ASCII: give the API key as it was issued",
    ];
    assert_eq!(case.problems(), expected);
}

#[test]
fn a_named_settings_file_must_exist() {
    let case = Case::new("named", "").flag("agent-config", "DIR/other.yaml");
    assert_eq!(case.problems(), ["cannot read the settings file: DIR/other.yaml: it does not exist"]);
    let case = case.env("KM_AGENT_CONFIG", "DIR/agent.yaml");
    assert_eq!(case.row("agent-config").1, "environment KM_AGENT_CONFIG");
}

#[test]
fn run_dir_stands_beside_a_broken_file() {
    let case = Case::new("run-dir", "run-dir: /some/run\nrun-dir: /some/run\nbroken: [\n");
    let error = agent_paths(&case.flags, &|_| None).unwrap_err();
    assert_eq!(error.exit(), Exit::Settings);
    assert!(error.to_string().contains("--run-dir"), "{error}");
    let env = |name: &str| (name == "KM_RUN_DIR").then(|| OsString::from("/other/run"));
    assert_eq!(agent_paths(&case.flags, &env).unwrap().run_dir, Path::new("/other/run"));
    for broken in ["[\n", "x\napi-key-file: /nonexistent\n"] {
        let case = Case::new("run-dir", &format!("run-dir: /some/run\nbroken: {broken}"));
        assert!(case.run().is_err());
        assert_eq!(agent_paths(&case.flags, &|_| None).unwrap().run_dir, Path::new("/some/run"));
    }
}

#[test]
fn polling_modes() {
    let endpoint = |case: &Case| match case.run().unwrap().settings.polling {
        Polling::Endpoint(url) => url,
        Polling::Local { reason } => reason,
    };
    let case = Case::new("polling", "api-key: k\nconfig-check-interval: 0\n");
    assert_eq!(endpoint(&case), "https://api.kloudmate.com/agents/config-check");
    assert_eq!(case.row("update-endpoint").1, "derived from collector-endpoint");
    assert_eq!(case.run().unwrap().settings.config_check_interval, None);
    let case = case.flag("collector-endpoint", "http://otel.kloudmate.com:4318");
    assert!(endpoint(&case).contains("allow-http"));
    assert_eq!(case.row("update-endpoint").0, "(none)");
    let case = case.flag("allow-http", "true");
    assert_eq!(endpoint(&case), "http://api.kloudmate.com/agents/config-check");
    let case = Case::new("polling", "update-endpoint: http://127.0.0.1:8080/x\n");
    assert_eq!(endpoint(&case), "http://127.0.0.1:8080/x", "an explicit endpoint needs no key");
    let case = case.flag("update-endpoint", "http://example.org/x");
    assert!(case.problems()[0].contains("allow-http"));
    assert_eq!(endpoint(&case.env("KM_ALLOW_HTTP", "yes")), "http://example.org/x");
}

#[test]
fn the_key_comes_from_the_highest_source() {
    let key = |case: &Case| case.run().unwrap().settings.api_key.map(|key| key.expose().to_string());
    let case = Case::new("key", "api-key-file: DIR/key\n").file("key", "from-file\r\n");
    assert_eq!(key(&case).as_deref(), Some("from-file"));
    assert_eq!(case.row("api-key"), ("****".to_string(), "file DIR/key".to_string()));

    let case = case.env("CREDENTIALS_DIRECTORY", "DIR/credentials").file("credentials/api-key", "credential\n");
    assert_eq!(key(&case).as_deref(), Some("from-file"), "a credential is for when nothing else is set");

    let case = case.flag("api-key", "from-flag");
    assert_eq!(key(&case).as_deref(), Some("from-flag"));
    assert_eq!(case.row("api-key-file").1, "file DIR/agent.yaml:1, not used: api-key is set");
    assert_eq!(case.run().unwrap().warnings.len(), 1, "a key in a flag shows in ps");

    let case = case.env("KM_API_KEY_FILE", "DIR/key2").file("key2", "from-other-file");
    assert_eq!(key(&case).as_deref(), Some("from-other-file"));
    let warnings = case.run().unwrap().warnings;
    assert!(warnings.contains(&"KM_API_KEY_FILE in the environment overrides --api-key".to_string()), "{warnings:?}");

    let case = case.env("KM_API_KEY", "from-variable");
    assert_eq!(key(&case).as_deref(), Some("from-variable"), "of the same rank the key itself holds");
    assert!(case.run().unwrap().warnings.iter().any(|warning| warning.starts_with("both api-key and")));
}

#[test]
fn the_key_is_found_as_a_credential_or_else_beside_the_settings() {
    let pair = |value: &str, source: &str| (value.to_string(), source.to_string());
    let case = Case::new("found", "").env("CREDENTIALS_DIRECTORY", "DIR/credentials");
    assert_eq!(case.row("api-key"), pair("(none)", "default"));
    assert_eq!(case.row("api-key-file"), pair("(none)", "default"));

    let case = case.file("api-key", "beside\n");
    assert_eq!(case.row("api-key"), pair("****", "file DIR/api-key"));
    assert_eq!(case.row("api-key-file"), pair("DIR/api-key", "default"));
    assert_eq!(case.run().unwrap().settings.api_key.unwrap().expose(), "beside");

    let case = case.file("credentials/api-key", "credential");
    assert_eq!(case.row("api-key"), pair("****", "credential DIR/credentials/api-key"));
    assert_eq!(case.row("api-key-file"), pair("DIR/credentials/api-key", "default"));

    let case = case.flag("api-key-file", "DIR/other").file("other", "named");
    assert_eq!(case.row("api-key"), pair("****", "file DIR/other"), "what is named outranks what is found");
    let case = Case::new("found", "").file("api-key", "beside").env("KM_API_KEY", "k");
    assert_eq!(case.row("api-key"), pair("****", "environment KM_API_KEY"));
    assert_eq!(case.row("api-key-file"), pair("(none)", "default"), "it is not looked for");
}

/// An installation has an empty file where there is no key yet, so that systemd finds its credential.
#[test]
fn an_empty_file_that_is_found_counts_as_unset() {
    for nothing in ["", "\n", " \r\n"] {
        let case = Case::new("empty-key", "").env("CREDENTIALS_DIRECTORY", "DIR/credentials");
        let case = case.file("credentials/api-key", nothing).file("api-key", nothing);
        std::fs::set_permissions(case.dir.join("api-key"), Permissions::from_mode(0o644)).unwrap();
        let resolved = case.run().unwrap();
        assert_eq!((resolved.settings.api_key, resolved.warnings), (None, vec![]));
        let expected = ("DIR/credentials/api-key".to_string(), "default, empty".to_string());
        assert_eq!(case.row("api-key-file"), expected);
        let case = case.file("api-key", "beside");
        assert_eq!(case.row("api-key").1, "file DIR/api-key");
    }
}

/// Local mode would look as if all were well.
#[test]
fn a_file_that_is_found_but_no_use_is_a_problem() {
    for place in ["credentials/api-key", "api-key"] {
        let case = Case::new("no-use", "").env("CREDENTIALS_DIRECTORY", "DIR/credentials");
        let case = case.file(place, "SECRET\nmore\n").file("second", "k");
        let [problem] = &case.problems()[..] else { panic!("{place}") };
        assert!(problem.starts_with(&format!("cannot read the API key: DIR/{place}: its content ")), "{problem}");
        std::fs::remove_file(case.dir.join(place)).unwrap();
        std::fs::create_dir(case.dir.join(place)).unwrap();
        assert!(case.problems()[0].contains(place), "no user can read it");
        assert!(case.env("KM_API_KEY_FILE", "DIR/second").run().is_ok(), "unless something else gives a key");
    }
}

#[test]
fn key_files_that_hold_no_key() {
    for (text, expected) in [
        ("", "is blank"),
        ("\n", "is blank"),
        ("SECRET\n\n", "line break"),
        ("SECRET\nmore\n", "line break"),
        ("SECRET \n", "blank"),
        ("SECRET\u{fc}\n", "ASCII"),
    ] {
        let problems = Case::new("bad-key", "api-key-file: DIR/key\n").file("key", text).problems();
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.starts_with("cannot read the API key: DIR/key: its content "), "{problem}");
        assert!(problem.contains(expected) && !problem.contains("SECRET"), "{problem}");
    }
    let large = "k".repeat(9000);
    assert!(Case::new("bad-key", "api-key-file: DIR/key\n").file("key", &large).problems()[0].contains("larger"));
    assert!(Case::new("bad-key", "api-key-file: DIR/none\n").problems()[0].contains("it does not exist"));
    let unused = Case::new("bad-key", "api-key-file: DIR/none\n").env("KM_API_KEY", "k");
    assert!(unused.run().is_ok(), "a file that is not used is not read");
}

#[test]
fn warns_of_a_key_file_that_all_can_read() {
    let case = Case::new("open-key", "api-key-file: DIR/key\n").file("key", "k\n");
    assert!(case.run().unwrap().warnings.is_empty());
    std::fs::set_permissions(case.dir.join("key"), Permissions::from_mode(0o644)).unwrap();
    assert!(case.run().unwrap().warnings[0].contains("chmod o="));
}

#[test]
fn secrets_are_never_shown() {
    let case = Case::new("secrets", "api-key: SECRET\ncollector-endpoint: https://u:SECRET@otel.example.org\n")
        .flag("on-change", "curl https://u:SECRET@host/")
        .flag("docker-endpoint", "tcp://u:SECRET@host");
    let resolved = case.run().unwrap();
    assert!(!print::render(&resolved.rows).contains("SECRET"));
    assert_eq!(resolved.settings.on_change.as_deref(), Some("curl https://u:SECRET@host/"));
    assert_eq!(format!("{:?}", resolved.settings.api_key), "Some(****)");
}
