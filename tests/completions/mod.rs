//! The completions of `dist/completions`, run in the shells that they are for, against what the program itself takes.
//!
//! One table of lines serves all three: the drivers beside this file type a line, complete it, and tell the matches.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kmagent::cmd::cli::{self, COMMANDS, OPTIONS};

use crate::man;
use crate::settings::{Case, rows};
use crate::support::bin;
use crate::support::source::{self, read};
use crate::support::temp_dir::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

use Shell::{Bash, Fish, Zsh};

type Words = BTreeSet<String>;

const SHELLS: [Shell; 3] = [Bash, Zsh, Fish];
/// Not settings: they report or choose, and end the line for the completion.
const ENDS: [&str; 2] = ["--help", "--version"];

fn words<T: Into<String>>(words: impl IntoIterator<Item = T>) -> Words {
    words.into_iter().map(Into::into).collect()
}

/// What Tab offers at the end of each line, in a directory with `file.yaml`, `other file` and the directory `dir`.
#[track_caller]
fn complete(shell: Shell, lines: &[String]) -> Vec<Words> {
    let home = TempDir::new();
    let here = home.join("here");
    fs::create_dir_all(here.join("dir")).unwrap();
    for name in ["file.yaml", "other file"] {
        fs::write(here.join(name), "").unwrap();
    }
    fs::write(home.join("cases"), lines.join("\n")).unwrap();
    let completions = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("dist/completions");
    let driver = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/completions").join(name);
    fs::copy(driver("drive.zsh"), home.join(".zshrc")).unwrap();
    // Bash and zsh complete only at a terminal, which script(1) gives them.
    let in_terminal = |line: &str| vec!["script".to_string(), "-qec".to_string(), line.to_string(), "/dev/null".into()];
    let args = match shell {
        Bash => in_terminal(&format!("bash --noprofile --rcfile '{}' -i", driver("drive.bash").display())),
        // Without the host's own rc files.
        Zsh => in_terminal("zsh -d -i"),
        Fish => vec!["fish".into(), "--no-config".into(), driver("drive.fish").display().to_string()],
    };
    let mut command = Command::new(&args[0]);
    command.args(&args[1..]).current_dir(&here).env_clear();
    // The one key that drive.bash waits for.
    fs::write(home.join("keys"), "\u{14}").unwrap();
    command.stdin(fs::File::open(home.join("keys")).unwrap());
    command.envs([("PATH", std::env::var("PATH").unwrap().as_str()), ("TERM", "vt100"), ("LC_ALL", "C")]);
    command.env("HOME", home.path()).env("ZDOTDIR", home.path());
    command.env("CASES", home.join("cases")).env("OUT", home.join("out")).env("COMPLETIONS", &completions);
    let output = bin::output(command);
    assert_eq!(output.code, Some(0), "{shell:?}: are script, bash, zsh and fish installed? {output:?}");
    let out = fs::read_to_string(home.join("out")).unwrap_or_else(|error| panic!("{shell:?}: {error}: {output:?}"));
    let found: Vec<&str> = out.lines().collect();
    assert_eq!(found.len(), lines.len(), "{shell:?}: {output:?}");
    let matches = |(line, found): (&String, &str)| match shell {
        Bash => inserted(line, found),
        Zsh | Fish => found.split('\t').filter(|found| !found.is_empty()).map(|found| bare(line, found)).collect(),
    };
    lines.iter().zip(found).map(matches).collect()
}

/// The part of a line before the word, or part of a word, that is completed.
fn head(line: &str) -> &str {
    &line[..line.rfind([' ', '=']).map_or(0, |at| at + 1)]
}

/// A match without what the shells put around it, each in its way.
fn bare(line: &str, found: &str) -> String {
    let word = head(line).rsplit(' ').next().unwrap();
    let found = found.strip_prefix(word).unwrap_or(found).replace('\\', "");
    found.trim_matches('"').trim_end_matches(['/', '=']).to_string()
}

/// The matches that bash has put in the place of the last word; without any it leaves the line as it is.
fn inserted(line: &str, found: &str) -> Words {
    if line == found {
        return Words::new();
    }
    let rest = found.strip_prefix(head(line)).unwrap_or_else(|| panic!("{line:?} became {found:?}"));
    let (mut words, mut word, mut quoted) = (Words::new(), String::new(), false);
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.extend(letters.next()),
            '"' => quoted = !quoted,
            ' ' if !quoted => _ = words.insert(std::mem::take(&mut word).trim_end_matches('/').to_string()),
            letter => word.push(letter),
        }
    }
    assert_eq!(word, "", "{found:?}");
    words
}

/// Asserts what Tab offers, in every shell.
#[track_caller]
fn check(cases: &[(String, Words)]) {
    let lines: Vec<String> = cases.iter().map(|(line, _)| line.clone()).collect();
    for shell in SHELLS {
        for ((line, expected), found) in cases.iter().zip(complete(shell, &lines)) {
            assert_eq!(found, *expected, "{shell:?} after {line:?}");
        }
    }
}

fn settings() -> Vec<String> {
    source::settings().into_iter().map(|[name, ..]| format!("--{name}")).collect()
}

/// The options that are neither a mode nor a setting, and so go with some modes only.
fn companions() -> Vec<String> {
    let is_mode = |option: &String| run(&[option]).code != Some(64);
    OPTIONS.map(String::from).into_iter().filter(|option| !is_mode(option)).collect()
}

/// The program, on a host that has nothing.
fn run(args: &[&str]) -> bin::Output {
    let dir = TempDir::new();
    let mut command = Command::new(bin::kmagent());
    command.env_clear().env("KM_RUN_DIR", dir.join("run")).env("KM_AGENT_CONFIG", dir.join("agent.yaml"));
    fs::write(dir.join("agent.yaml"), "").unwrap();
    command.args(args).stdin(Stdio::null());
    bin::output(command)
}

/// A flag as one would write it on a line, with a value if it takes one.
fn written(flag: &str) -> String {
    let takes_value = run(&[flag, "--help"]).code == Some(64);
    if takes_value { format!("{flag} 1") } else { flag.to_string() }
}

#[test]
fn commands_come_first_and_once() {
    let commands = COMMANDS.map(|(command, _)| command.to_string());
    let mut cases = vec![("kmagent ".to_string(), words(commands.clone()))];
    for command in &commands {
        cases.push((
            format!("kmagent {}", &command[..3]),
            words(commands.iter().filter(|it| it[..3] == command[..3]).cloned()),
        ));
        // A value is not a command.
        cases.push((format!("kmagent --host-name {command} "), words(commands.clone())));
    }
    for line in ["kmagent --docker-mode ", "kmagent --docker-mode=false ", "kmagent --config=x ", "kmagent --splay 5m "]
    {
        cases.push((line.to_string(), words(commands.clone())));
    }
    check(&cases);
}

/// With each command and mode: the settings that it uses and the options that go with it, each until it is given.
#[test]
fn every_flag_is_offered_where_it_is_of_use() {
    let (settings, companions) = (settings(), companions());
    let modes = words(OPTIONS).into_iter().filter(|option| !companions.contains(option)).collect::<Words>();
    assert_eq!(companions, ["--dry-run", "--json", "--ready", "--splay"]);
    let mut cases = vec![("kmagent --".to_string(), modes.iter().cloned().chain(settings.clone()).collect::<Words>())];
    for mode in modes.iter().cloned().chain(COMMANDS.map(|(command, _)| command.to_string())) {
        let uses = |setting: &&String| match mode.as_str() {
            // As kmagent(8) says; of the settings file they read nothing else.
            "stop" | "reload" | "restart" | "retry" | "status" => {
                ["--run-dir", "--agent-config"].contains(&setting.as_str())
            }
            // Its settings are a pod's environment.
            "cluster" => false,
            mode => !ENDS.contains(&mode),
        };
        let mut offered: Words = settings.iter().filter(uses).cloned().collect();
        if !ENDS.contains(&mode.as_str()) {
            let fits = |option: &&String| run(&[&mode, &written(option).replace(' ', "=")]).code != Some(64);
            offered.extend(companions.iter().filter(fits).cloned());
        }
        for flag in &offered {
            let rest: Words = offered.iter().filter(|other| *other != flag).cloned().collect();
            cases.push((format!("kmagent {mode} {} --", written(flag)), rest.clone()));
            // Before the command too; with the value in the same word, if there is one.
            cases.push((format!("kmagent {} {mode} --", written(flag).replace(' ', "=")), rest));
        }
        cases.push((format!("kmagent {mode} --"), offered));
    }
    assert!(cases.len() > 100, "{}", cases.len());
    check(&cases);
}

#[test]
fn no_letter_is_offered_that_the_program_does_not_take() {
    let is_known = |letter: &String| cli::parse([letter]).is_ok();
    let known: Words = ('!'..='~').map(|letter| format!("-{letter}")).filter(is_known).collect();
    assert_eq!(known, words(["-h", "-V"]));
    for (shell, expected) in [(Bash, Words::new()), (Zsh, known.clone()), (Fish, known)] {
        let mut offered = complete(shell, &["kmagent -".to_string()]).remove(0);
        offered.retain(|word| !word.starts_with("--"));
        assert_eq!(offered, expected, "{shell:?}");
    }
}

#[test]
fn every_value_is_completed_as_the_program_takes_it() {
    let (files, dirs) = (words(["dir", "file.yaml", "other file"]), words(["dir"]));
    let mut cases = vec![
        ("kmagent --config f".to_string(), words(["file.yaml"])),
        ("kmagent --config \"oth".to_string(), words(["other file"])),
        ("kmagent --state-dir=d".to_string(), words(["dir"])),
        ("kmagent --log-level=w".to_string(), words(["warn"])),
        ("kmagent --check --splay ".to_string(), Words::new()),
    ];
    let mut paths = 0;
    for flag in settings() {
        let name = &flag[2..];
        let case = Case::new("");
        // A settings file, and a key too; no policy has such a rule.
        case.file("x", if name == "policy" { "" } else { "config: x" });
        let bad = case.print(&[], &[&format!("{flag}=?")]).stderr;
        let good = case.print(&[], &[&format!("{flag}=x")]);
        let path = case.dir.join("x").display().to_string();
        let one_of = bad.split_once("it takes ").map(|(_, words)| words.lines().next().unwrap());
        let expected = if good.code == Some(0) && rows(&good)[name].0 == path {
            paths += 1;
            if name.ends_with("-dir") { dirs.clone() } else { files.clone() }
        } else if bad.contains("is neither true nor false") {
            words(["true", "false"])
        } else if let Some(list) = one_of.filter(|list| list.contains(" or ") && !list.contains(char::is_numeric)) {
            words(list.replace(" or ", ", ").split(", "))
        } else {
            Words::new()
        };
        cases.push((format!("kmagent {flag}="), expected.clone()));
        if written(&flag) != flag {
            cases.push((format!("kmagent {flag} "), expected));
        }
    }
    assert_eq!(paths, 11, "{cases:?}");
    let known = cases.iter().filter(|(_, offered)| offered.contains("true") || offered.contains("info")).count();
    assert_eq!(known, 3 + 2, "{cases:?}");
    check(&cases);
}

/// Zsh and fish say what a word is for: the same, and what the man page says.
#[test]
fn every_description_is_that_of_the_man_page() {
    let page = man::text("man/kmagent.8");
    let mut listed = Vec::new();
    for (file, quote) in [("dist/completions/_kmagent", "'\\''"), ("dist/completions/kmagent.fish", "\\'")] {
        let text = read(file).replace(quote, "’");
        let flag = |line: &str| -> Option<(String, String)> {
            let line = line.trim();
            if file.ends_with(".fish") {
                let name = line.split_once(" -l ")?.1.split(' ').next()?;
                return Some((name.to_string(), line.split_once(" -d '")?.1.trim_end_matches('\'').to_string()));
            }
            let (name, rest) = line.split_once('[')?;
            let name = name.rsplit_once("--")?.1.trim_end_matches(['=', '-', '\'', '}']);
            Some((name.to_string(), rest.split_once(']')?.0.to_string()))
        };
        let flags: BTreeSet<_> = text.lines().filter_map(flag).collect();
        assert!(flags.len() > 30, "{flags:?}");
        for (name, text) in &flags {
            let text = text.replace('’', "'");
            let capital = text[..1].to_uppercase() + &text[1..];
            assert!(
                page.contains(&text) || page.contains(&capital),
                "{file}: {name}: kmagent(8) does not say {text:?}"
            );
        }
        listed.push(flags);
    }
    assert_eq!(listed[0], listed[1]);
}
