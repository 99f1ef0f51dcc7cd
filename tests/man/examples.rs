//! The examples of all pages: settings are read, command lines are parsed by the program, scripts run in a shell.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use super::{AGENT, CHECK, PAGES, SETTINGS, items, part, section, words};
use crate::settings::{Case, rows};
use crate::support::bin;
use crate::support::source::{self, read};
use crate::support::temp_dir::TempDir;

const INSTALLED: &str = "/usr/local/bin/kmagent";

/// What stands in a page to be typed or copied.
fn literals(page: &str) -> Vec<String> {
    let text = read(page);
    let unescape = |text: &str| text.replace("\\e", "\\").replace("\\&", "").replace("\\-", "-");
    let blocks = text.split("\n.Bd -literal").skip(1).map(|rest| rest.split_once('\n').unwrap().1);
    assert!(!text.contains("\n.Dl "), "{page}: .Dl is indented otherwise than a block");
    blocks.map(|rest| unescape(rest.split("\n.Ed").next().unwrap()) + "\n").collect()
}

/// The arguments of each call of kmagent in a text: after a prompt, in a script, in a crontab.
fn calls(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let mut calls = Vec::new();
    for line in joined.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| *word == "kmagent" || *word == INSTALLED) else { continue };
        // Before it there are only a prompt, or the five fields and the user of a crontab.
        if !matches!(at, 0 | 6) && words[..at] != ["#"] && words[..at] != ["$"] {
            continue;
        }
        let args = words[at + 1..].iter().take_while(|word| !matches!(**word, "|" | ">" | "&&" | "||" | ";"));
        calls.push(args.map(ToString::to_string).collect());
    }
    calls
}

/// Runs it on a host where no agent can start and no API answers: whatever goes wrong, it is not the command line.
fn parses(args: &[String]) {
    let dir = TempDir::new();
    fs::write(dir.join("agent.yaml"), "").unwrap();
    let mut command = Command::new(bin::kmagent());
    command.args(args).env_clear().current_dir(dir.path()).stdin(Stdio::null());
    // Variables outrank the flags of the examples.
    command.env("KM_AGENT_CONFIG", dir.join("agent.yaml")).env("KM_RUN_DIR", "/dev/null/run");
    command.env("KM_STATE_DIR", dir.join("state")).env("KM_COLLECTOR_CONFIG", dir.join("config.yaml"));
    command.env("KM_UPDATE_ENDPOINT", "http://127.0.0.1:9/");
    if args.iter().any(|arg| arg == "--check") {
        // The last one counts.
        command.args(["--splay", "0"]);
    }
    let output = bin::output(command);
    let fits = if args.iter().any(|arg| arg == "--print-settings") { vec![0] } else { vec![73, 75] };
    assert!(output.code.is_some_and(|code| fits.contains(&code)), "{args:?}: {output:?}");
}

#[test]
fn every_command_line_is_one() {
    let mut modes = BTreeSet::new();
    for page in [AGENT, CHECK] {
        for text in literals(page) {
            for args in calls(&text) {
                parses(&args);
                modes.extend(args);
            }
        }
    }
    for mode in ["start", "stop", "status", "--check", "--print-settings", "--dry-run", "--json", "--ready", "--splay"]
    {
        assert!(modes.contains(mode), "there is no example with {mode}");
    }
}

#[test]
fn every_settings_file_is_one() {
    let mut count = 0;
    for page in PAGES {
        for text in literals(page) {
            let is_settings = text.starts_with("# a comment\n") || text.lines().next().unwrap().contains("agent.yaml");
            if !is_settings {
                continue;
            }
            let case = Case::new(&text);
            let shown = rows(&case.print(&[], &[]));
            let given = text.lines().filter(|line| !line.starts_with(['#', ' ']) && line.contains(':')).count();
            let from_file = shown.values().filter(|(_, source)| source.starts_with("file ")).count();
            assert_eq!(from_file, given, "{text}: {shown:?}");
            if let Some((_, script)) = text.split_once("on-change: |\n") {
                is_sound_shell(&format!("#!/bin/sh\n{script}"));
            }
            count += 1;
        }
    }
    assert!(count >= 6, "{count}");
}

/// shellcheck finds nothing.
fn is_sound_shell(script: &str) {
    let dir = TempDir::new();
    fs::write(dir.join("script"), script).unwrap();
    let mut command = Command::new("shellcheck");
    // 2086: quotes around what is a path or a number here would only make the example harder to read.
    command.args(["-s", "sh", "-e", "SC2086"]).arg(dir.join("script")).stdin(Stdio::null());
    let output = bin::output(command);
    assert_eq!(output.code, Some(0), "{script}\n{}", output.stdout);
}

#[test]
fn every_crontab_is_one() {
    let lines: Vec<String> = PAGES
        .iter()
        .flat_map(|page| literals(page))
        .flat_map(|text| text.lines().filter(|line| line.starts_with("*/")).map(String::from).collect::<Vec<_>>())
        .collect();
    assert!(!lines.is_empty());
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let is_field = |word: &&str| word.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c));
        assert!(words[..5].iter().all(&is_field) && !is_field(&words[5]), "{line}");
        // cron's PATH has no /usr/local.
        assert_eq!(words[6], INSTALLED, "{line}");
    }
    let files = section(AGENT, "FILES");
    assert!(words(&files, "Pa").contains(&INSTALLED));
}

/// Root has a service, which its manager starts and stops: `kmagent start` would take its place, in the foreground. And
/// a timer for checks stands in the place of the agent.
#[test]
fn services_are_started_and_stopped_by_their_manager() {
    let readme = read("README.md");
    let texts = PAGES.iter().flat_map(|page| literals(page)).chain(readme.split("```").map(String::from));
    let mut timers = 0;
    for text in texts {
        for command in ["kmagent start", "kmagent stop"] {
            assert!(text.lines().all(|line| line.trim_start_matches("sudo ") != command), "{text}");
        }
        if let Some((before, _)) = text.split_once("systemctl enable --now kmagent-check.timer") {
            assert!(
                ["\n", " && "].iter().any(|then| before.contains(&format!("systemctl disable --now kmagent{then}"))),
                "{text}"
            );
            timers += 1;
        }
    }
    assert_eq!(timers, 3, "the README, twice, and kmagent-check(7) tell how to enable the timer");
}

/// The scripts, run with a kmagent that ends with each status in turn.
#[test]
fn every_script_does_what_it_says() {
    let scripts: Vec<String> = literals(CHECK).into_iter().filter(|text| text.starts_with("#!/bin/sh\n")).collect();
    assert_eq!(scripts.len(), 2);
    for script in scripts {
        is_sound_shell(&script);
        for status in source::exit_statuses() {
            let dir = TempDir::new();
            let place = |name: &str| dir.join(name).display().to_string();
            let executable = |name: &str, text: &str| bin::write_program(&dir.join(name), text);
            executable("kmagent", &format!("#!/bin/sh\nexit {status}\n"));
            executable("logger", &format!("#!/bin/sh\necho \"$@\" >>{}\n", place("log")));
            let here = script.replace(INSTALLED, &place("kmagent")).replace("/var/lib/node_exporter", &place("."));
            assert_ne!(here, script);
            executable("script", &here);
            let mut command = Command::new(dir.join("script"));
            command.env("PATH", format!("{}:/usr/bin:/bin", dir.path().display())).stdin(Stdio::null());
            let output = bin::output(command);
            assert_eq!(output.code.map(|code| code.to_string()), Some(status.clone()), "{output:?}");
            assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
            if script.contains("logger") {
                let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
                let priority = match status.as_str() {
                    "0" => None,
                    "75" => Some("user.notice"),
                    "65" => Some("user.err"),
                    _ => Some("user.crit"),
                };
                assert_eq!(log.split_whitespace().find(|word| word.starts_with("user.")), priority, "{status}: {log}");
            } else {
                let metrics = fs::read_to_string(dir.join("kmagent.prom")).unwrap();
                assert!(metrics.starts_with(&format!("kmagent_check_exit_status {status}\n")), "{metrics}");
                assert_eq!(metrics.lines().count(), 2, "{metrics}");
                assert!(
                    metrics.lines().all(|line| line.split(' ').nth(1).unwrap().parse::<u64>().is_ok()),
                    "{metrics}"
                );
            }
        }
    }
}

/// Units are those that are shipped, and what is shown of the output has its form.
#[test]
fn what_the_examples_show_is_what_there_is() {
    let files = section(AGENT, "FILES");
    let units: Vec<&str> = words(&files, "Pa").into_iter().filter_map(|path| path.rsplit('/').next()).collect();
    let text: String = PAGES.iter().flat_map(|page| literals(page)).collect();
    let named = text.split_whitespace().filter(|word| word.ends_with(".service") || word.ends_with(".timer"));
    assert!(named.clone().count() > 2);
    for unit in named {
        assert!(units.contains(&unit), "{unit}");
    }
    let object = text.lines().find(|line| line.starts_with('{')).unwrap();
    assert!(object.starts_with(r#"{"exit":0,"result":"installed","message":"installed config "#), "{object}");
    let status = section(AGENT, "STATUS");
    let labels = items(status.split("\n.El").next().unwrap());
    let shown = literals(AGENT).into_iter().skip_while(|text| text != "kmagent status\n").nth(1).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.len() > 3);
    for line in lines {
        assert!(labels.iter().any(|label| line.starts_with(&format!("{label:<10} "))), "{line}");
    }
    let listed = part(&status, ".Sh", "STATUS").split_once(".Fl Fl json\n").unwrap().1.to_string();
    let paths: Vec<&str> = text.split("jq -r .").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
    assert!(paths.len() > 1);
    for path in paths {
        assert!(words(&listed, "Cm").contains(&path), "{path}");
    }
    assert!(section(SETTINGS, "EXAMPLES").contains("\\-\\-agent\\-config"));
}

/// Which the pages and the README have somebody run.
const PROGRAMS: [&str; 22] = [
    "kmagent",
    INSTALLED,
    "./install.sh",
    "/usr/local/lib/kmagent/install.sh",
    "systemctl",
    "journalctl",
    "rc-service",
    "rc-update",
    "ss",
    "kill",
    "vi",
    "echo",
    "printf",
    "mkdir",
    "chown",
    "sudo",
    "apt-get",
    "dnf",
    "apk",
    "opkg",
    "rpm",
    "kubectl",
];

fn runs(line: &str) -> bool {
    line.split(' ').next().is_some_and(|word| PROGRAMS.contains(&word))
}

/// What is to be run is pasted as it is shown: without a prompt, which makes it a comment, with nothing but commands
/// beside it, and rendered with the very bytes, in one line. Roff makes another hyphen of one that is not escaped, and
/// breaks a command that is not displayed where the line ends.
#[test]
fn what_is_to_be_run_can_be_pasted() {
    let mut count = 0;
    for page in PAGES {
        let source = read(page);
        let rendered: Vec<String> = ["utf8", "html"].iter().map(|form| render(page, form)).collect();
        for text in literals(page) {
            for line in text.lines() {
                let prompt = line.strip_prefix("# ").or(line.strip_prefix("$ "));
                assert!(!prompt.is_some_and(runs), "{page}: a prompt: {line}");
                for rendered in &rendered {
                    assert!(
                        rendered.lines().any(|shown| shown.trim_end().ends_with(line)),
                        "{page}: {line}: {rendered}"
                    );
                }
            }
            let commands = text.replace("\\\n", " ");
            let (commands, others): (Vec<&str>, Vec<&str>) = commands.lines().partition(|line| runs(line));
            // A file with commands in it begins with what says so.
            if commands.is_empty() || others.first().is_some_and(|line| line.starts_with('#')) {
                continue;
            }
            assert_eq!(others, Vec::<&str>::new(), "{page}: something else beside {commands:?}");
            let checked = Command::new("sh").args(["-n", "-c", &text]).output().unwrap();
            assert!(checked.status.success(), "{page}: {text}");
            count += commands.len();
        }
        for block in source.split("\n.Bd -literal").skip(1) {
            let block = block.split_once('\n').unwrap().1.split("\n.Ed").next().unwrap();
            let plain = block.replace("\\-", "");
            assert!(!plain.contains('-'), "{page}: not escaped: {block}");
        }
        for line in source.lines().filter(|line| line.starts_with(".Ql ") || line.starts_with(".Li ")) {
            let words = line[4..].trim_matches('"').trim_end_matches([' ', ',', '.', ';', ':']);
            assert!(
                !(runs(words) && words.contains(' ')),
                "{page}: display it, since a line may end within it: {line}"
            );
        }
        // By a name and a command, which Bk keeps in one line.
        for (before, line) in source.lines().zip(source.lines().skip(1)) {
            let is_call =
                line.starts_with(".Nm Cm ") || line.starts_with(".Nm kmagent Cm ") || line.starts_with(".Nm Fl ");
            assert!(!is_call || before == ".Bk -words", "{page}: a line may end within it: {line}");
        }
    }
    assert!(count > 25, "{count}");
    for text in read("README.md").split("```").skip(1).step_by(2) {
        for line in text.lines() {
            let prompt = line.trim_start().strip_prefix("# ").or(line.trim_start().strip_prefix("$ "));
            assert!(!prompt.is_some_and(runs), "README.md: a prompt: {line}");
        }
    }
}

/// The page as a terminal or a browser has it, without what makes letters bold.
fn render(page: &str, form: &str) -> String {
    let mut command = Command::new("mandoc");
    command.arg(format!("-T{form}")).arg(source::path(page)).stdin(Stdio::null());
    let mut text = bin::output(command).stdout;
    while let Some(at) = text.find('\u{8}') {
        let before = text[..at].char_indices().next_back().unwrap().0;
        text.replace_range(before..=at, "");
    }
    if form == "html" {
        text = text.replace("<pre>", "\n").replace("</pre>", "\n");
        for (entity, letter) in
            [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#x2026;", "…"), ("&amp;", "&")]
        {
            text = text.replace(entity, letter);
        }
    }
    text
}
