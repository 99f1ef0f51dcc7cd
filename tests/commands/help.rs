//! `--help`, `--version`, and a command line that is wrong.

use std::process::{Command, Stdio};

use crate::support::bin::{self, Output};

/// Every setting of the table, in its order; `--print-settings` and `--help` are held against it.
pub const SETTINGS: [&str; 36] = [
    "agent-config",
    "config",
    "seed-config",
    "collector",
    "collector-args",
    "collector-endpoint",
    "api-key",
    "api-key-file",
    "update-token-file",
    "config-check-interval",
    "update-endpoint",
    "local-config",
    "docker-mode",
    "docker-endpoint",
    "host-name",
    "log-level",
    "log-format",
    "state-dir",
    "run-dir",
    "ca-file",
    "allow-http",
    "report-extended",
    "instance-id",
    "on-change",
    "restart-mode",
    "stop-timeout",
    "min-uptime",
    "start-timeout",
    "confirm-time",
    "validate-timeout",
    "collector-log-rate",
    "policy",
    "poll-timeout",
    "max-config-size",
    "generations",
    "generations-size",
];

/// With an empty environment and no settings file but the default one.
fn kmagent(line: &str) -> Output {
    let mut command = Command::new(bin::kmagent());
    command.env_clear().args(line.split_whitespace()).stdin(Stdio::null());
    bin::output(command)
}

#[test]
fn help_fits_a_screen_and_names_everything() {
    for line in ["--help", "-h", "start --help", "--config /nonexistent --help --no-such-option"] {
        let output = kmagent(line);
        let help = output.says();
        assert!(help.lines().count() <= 24, "{} lines:\n{help}", help.lines().count());
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        let words: Vec<&str> = help.split(|c: char| !(c.is_alphanumeric() || c == '-')).collect();
        for word in SETTINGS.into_iter().chain(["start", "stop", "retry", "status", "--check", "--dry-run", "--splay"])
        {
            assert!(words.contains(&word), "{word} is missing:\n{help}");
        }
        for word in ["--json", "--ready", "--print-settings", "--version", "--help"] {
            assert!(words.contains(&word), "{word} is missing:\n{help}");
        }
    }
}

#[test]
fn version_is_the_packages() {
    for line in ["--version", "-V", "start --version"] {
        assert_eq!(kmagent(line).says(), concat!("kmagent ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}

#[test]
fn a_wrong_command_line_is_64_with_a_suggestion() {
    for (line, expected) in [
        ("", "no command given: \"kmagent start\" runs the agent"),
        ("strat", "unknown command \"strat\": did you mean \"start\"?"),
        ("check", "did you mean \"--check\"?"),
        ("statsu --json", "did you mean \"status\"?"),
        ("--colector /a start", "unknown option --colector: did you mean \"--collector\"?"),
        ("start --pol-timeout=3s", "did you mean \"--poll-timeout\"?"),
        ("--dryrun --check", "did you mean \"--dry-run\"?"),
        ("-x start", "unknown option -x"),
        ("start stop", "start and stop cannot be used together"),
        ("--check --print-settings", "cannot be used together"),
        ("start --json", "--json is not valid with start, only with status and --check"),
        ("status --dry-run", "only with --check"),
        ("--check --ready", "--ready is not valid with --check, only with status"),
        ("--check --splay tomorrow", "--splay: \"tomorrow\" is not a duration"),
        ("start --config", "--config needs a value"),
        ("--docker-mode no start", "did you mean --docker-mode=no?"),
    ] {
        let output = kmagent(line);
        output.fails(64, expected);
        assert!(output.stderr.ends_with("(see kmagent --help)\n") && output.stderr.lines().count() == 1, "{output:?}");
    }
}

#[test]
fn a_mistyped_option_does_not_show_its_value() {
    let output = kmagent("--api-kye=SECRET start");
    output.fails(64, "did you mean \"--api-key\"?");
    assert!(!output.stderr.contains("SECRET"), "{output:?}");
}

#[test]
fn options_stand_before_or_after_the_command() {
    let dir = crate::support::temp_dir::TempDir::new();
    let run_dir = dir.join("run").display().to_string();
    for line in
        ["--run-dir RUN status", "status --run-dir RUN", "status --run-dir=RUN", "--run-dir=/x status --run-dir RUN"]
    {
        kmagent(&line.replace("RUN", &run_dir)).fails(69, &format!("{run_dir}/control.sock"));
    }
    for line in ["--print-settings --config /a/b", "--config=/a/b --print-settings"] {
        let output = kmagent(line);
        assert!(output.says().contains("/a/b"), "{output:?}");
    }
}
