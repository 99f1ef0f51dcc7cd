//! The man pages against what the program is: commands, flags, settings, exit statuses, files, messages; and their form.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::check::{config, host};
use crate::settings::{Case, rows};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::bin;
use crate::support::source::{self, read};
use crate::support::temp_dir::TempDir;

const AGENT: &str = "man/kmagent.8";
const SETTINGS: &str = "man/kmagent.yaml.5";

/// What follows that heading of a page, up to the next one of its kind (`.Sh`, `.Ss`).
#[track_caller]
fn part<'a>(text: &'a str, kind: &str, heading: &str) -> &'a str {
    let separator = format!("\n{kind} ");
    let mut parts = text.split(&separator);
    let found = parts.find(|part| part.starts_with(&format!("{heading}\n")));
    found.unwrap_or_else(|| panic!("no {kind} {heading}"))
}

#[track_caller]
fn section(page: &str, heading: &str) -> String {
    part(&read(page), ".Sh", heading).to_string()
}

/// What follows `.It ` in each item of a list.
fn items(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix(".It ")).collect()
}

/// The long flags of a list's items: `Fl V , Fl Fl version` gives `--version`.
fn flags(text: &str) -> Vec<String> {
    let name = |item: &str| item.split("Fl Fl ").nth(1).and_then(|rest| Some(format!("--{}", rest.split(' ').next()?)));
    items(text).into_iter().filter_map(name).collect()
}

/// The words after each use of a macro at the start of a line.
fn uses<'a>(text: &'a str, name: &str) -> BTreeSet<&'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.flat_map(|rest| rest.split(' ')).filter(|word| word.len() > 1).collect()
}

/// Each setting's item in the page of settings: its name and what follows up to the next one.
fn settings_page() -> Vec<(String, String)> {
    let page = read(SETTINGS);
    let items = page.split("\n.It Cm ").skip(1).filter_map(|item| item.split_once(" : "));
    items.map(|(name, rest)| (name.to_string(), rest.split("\n.Sh ").next().unwrap().to_string())).collect()
}

/// The line below `.It NAME` in a setting's item, without its macro.
fn fact<'a>(item: &'a str, name: &str) -> Option<&'a str> {
    let line = item.split_once(&format!("\n.It {name}\n"))?.1.lines().next()?;
    match line.strip_prefix('.') {
        Some(rest) => rest.split_once(' ').map(|(_, text)| text),
        None => Some(line),
    }
}

/// The first literal block of a text.
fn literal(text: &str) -> &str {
    let block = text.split_once("\n.Bd -literal").unwrap().1;
    block.split_once('\n').unwrap().1.split("\n.Ed").next().unwrap()
}

fn help() -> String {
    Agent::builder().build().run(["--help"]).says().to_string()
}

#[test]
fn every_command_and_option_is_that_of_the_usage() {
    let help = help();
    let listed = help.split("\n\n").nth(1).unwrap();
    let mut known: BTreeSet<String> =
        listed.lines().map(|line| line.split_whitespace().next().unwrap().into()).collect();
    known.extend(["--help", "--version"].map(String::from));
    let (commands, options) = (section(AGENT, "COMMANDS"), section(AGENT, "OPTIONS"));
    let own = options.split("\n.Ss ").next().unwrap();
    let words = items(&commands).into_iter().filter_map(|item| item.strip_prefix("Cm "));
    let named: BTreeSet<String> = words.map(String::from).chain(flags(&commands)).chain(flags(own)).collect();
    assert_eq!(named, known);
}

#[test]
fn every_flag_stands_in_its_group() {
    let help = help();
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for line in help.split("agent.yaml:\n").nth(1).unwrap().lines().filter(|line| line.starts_with("  ")) {
        let mut words = line.split_whitespace().map(String::from);
        if !line.starts_with("            ") {
            groups.push((words.next().unwrap(), Vec::new()));
        }
        groups.last_mut().unwrap().1.extend(words);
    }
    let names: usize = groups.iter().map(|(_, names)| names.len()).sum();
    assert_eq!(names, source::settings().len());
    let options = section(AGENT, "OPTIONS");
    for (group, names) in groups {
        let heading = group[..1].to_uppercase() + &group[1..];
        let expected: BTreeSet<String> = names.iter().map(|name| format!("--{name}")).collect();
        assert_eq!(flags(part(&options, ".Ss", &heading)).into_iter().collect::<BTreeSet<_>>(), expected, "{group}");
        let described = section(SETTINGS, &heading.to_uppercase());
        for name in names {
            assert!(described.contains(&format!(".It Cm {name} : ")), "{name} is not under {heading} in {SETTINGS}");
        }
    }
}

#[test]
fn every_setting_has_its_variable_flag_and_default() {
    let page = settings_page();
    let shown = rows(&Case::new("").print(&[], &[]));
    let table = source::settings();
    assert_eq!(page.len(), table.len(), "settings in {SETTINGS} and in the source");
    for [name, variable, _] in table {
        let (_, item) =
            page.iter().find(|(page, _)| *page == name).unwrap_or_else(|| panic!("no {name} in {SETTINGS}"));
        assert_eq!(fact(item, "Environment"), Some(&*variable), "{name}");
        assert_eq!(fact(item, "Flag"), Some(&*format!("Fl {name}")), "{name}");
        let default = fact(item, "Default").unwrap_or_else(|| panic!("{name} has no default"));
        let value = shown[&name].0.trim_matches(['(', ')']);
        match name.as_str() {
            // It is where the test has put it.
            "agent-config" => assert!(read("src/settings/table.rs").contains(&format!("\"{default}\""))),
            "update-endpoint" => assert_eq!(default, "derived"),
            "host-name" => assert_eq!(default, "the host's name"),
            "log-format" => assert!(default.starts_with(value), "{name}: {value}"),
            _ => assert_eq!((default, &*shown[&name].1), (value, "default"), "{name}"),
        }
    }
}

/// A setting has a range just when the program names one in its complaint about a value outside of it.
#[test]
fn every_range_is_the_one_that_the_program_names() {
    let mut named = BTreeSet::new();
    for bad in ["1ns", "1"] {
        let args: Vec<String> = source::settings()[1..].iter().map(|[name, ..]| format!("--{name}={bad}")).collect();
        let output = Case::new("").print(&[], &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.code, Some(78), "{output:?}");
        named.extend(output.stderr.lines().filter_map(|line| {
            let (name, cause) = line.strip_prefix("kmagent: --")?.split_once(": ")?;
            Some((name.to_string(), cause.split_once("it takes ")?.1.to_string()))
        }));
    }
    let page = settings_page();
    let ranges = page.iter().filter_map(|(name, item)| Some((name.clone(), fact(item, "Range")?.to_string())));
    assert_eq!(ranges.collect::<BTreeSet<_>>(), named);
    assert!(named.len() > 8, "{named:?}");
    let splay = Agent::builder().build().run(["--check", "--splay", "25h"]).stderr;
    let range = splay.split_once("it takes ").unwrap().1.split(" (").next().unwrap();
    assert!(section(AGENT, "OPTIONS").contains(&format!("\nIt takes {range}.\n")), "{range}");
}

#[test]
fn every_example_is_a_settings_file_that_holds() {
    let page = settings_page();
    let examples: Vec<_> = page.iter().filter_map(|(name, item)| Some((name, fact(item, "Example")?))).collect();
    assert_eq!(examples.len() + 1, page.len(), "only agent-config cannot stand in a settings file");
    for (name, line) in &examples {
        assert_eq!(line.split(": ").next(), Some(name.as_str()), "an example of another setting");
    }
    let text: String = examples.iter().map(|(_, line)| format!("{line}\n")).collect();
    let shown = rows(&Case::new(&text).print(&[], &[]));
    for (name, line) in examples {
        assert!(shown[name].1.starts_with("file "), "{line}: {:?}", shown[name]);
    }
    let whole = section(SETTINGS, "EXAMPLES");
    let output = Case::new(literal(&whole)).print(&[], &[]);
    output.says();
    assert!(rows(&output).values().filter(|(_, source)| source.starts_with("file ")).count() > 6, "{output:?}");
}

#[test]
fn every_exit_status_is_there() {
    assert_eq!(items(&section(AGENT, "EXIT STATUS")), source::exit_statuses());
}

#[test]
fn every_key_state_and_result_of_the_json_is_there() {
    let commands = section(AGENT, "COMMANDS");
    let words = uses(&commands, ".Cm");
    let structs = ["Status", "CollectorStatus", "ConfigStatus", "PollingStatus"];
    let fields = structs.map(|name| source::body("src/control/mod.rs", &format!("pub struct {name} {{")));
    let fields = fields.iter().flat_map(|body| body.lines()).filter_map(|line| line.trim().strip_prefix("pub "));
    let keys: Vec<&str> = fields.map(|line| line.split(':').next().unwrap()).collect();
    assert!(keys.len() > 15, "{keys:?}");
    let states = read("src/core/supervisor/mod.rs");
    let states = states.lines().filter_map(|line| line.trim().strip_prefix("Phrase::")?.split('"').nth(1));
    for word in keys.into_iter().chain(states) {
        assert!(words.contains(word), "COMMANDS does not name {word}");
    }
    let check = section(AGENT, "CHECK");
    let words = uses(&check, ".Cm");
    let results = source::body("src/control/mod.rs", "pub enum CheckResult {");
    for variant in results.lines().map(|line| line.trim().trim_end_matches(',')).filter(|line| !line.contains(' ')) {
        let kebab: String = variant
            .chars()
            .map(|c| if c.is_uppercase() { format!("-{}", c.to_lowercase()) } else { c.into() })
            .collect();
        assert!(kebab.is_empty() || words.contains(kebab.trim_start_matches('-')), "CHECK does not name {kebab}");
    }
    let keys = items(&check).into_iter().map(|item| item.trim_start_matches("Cm ")).collect::<Vec<_>>();
    assert_eq!(keys, ["exit", "result", "message"]);
    assert!(check.contains(r#"{"exit":0,"result":"installed","message":"installed config "#));
}

#[test]
fn every_message_and_variable_stands_in_the_source() {
    let source = source::everything();
    let messages = section(AGENT, "DIAGNOSTICS");
    assert!(items(&messages).len() > 10);
    for message in items(&messages) {
        source::assert_quoted(&source, message, "...");
    }
    let environment = section(AGENT, "ENVIRONMENT");
    let names = items(&environment).into_iter().flat_map(|item| item.trim_start_matches("Ev ").split(" , "));
    for name in names.clone().filter(|name| !name.ends_with('*')) {
        assert!(source.contains(&format!("\"{name}\"")), "nothing in the source asks for {name}");
    }
    let given = ["KM_AGENT_VERSION", "NOTIFY_SOCKET", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY", "GODEBUG", "NO_PROXY"];
    assert!(given.iter().all(|given| names.clone().any(|name| name == *given)), "ENVIRONMENT lacks one of {given:?}");
}

/// A host on which everything happens that leaves a file: an install by `--check`, a start, a config that is rolled back.
#[test]
fn every_file_is_there() {
    let api = Api::plain();
    let builder = host(&api).setting("report-extended", true);
    let dir = builder.dir().display().to_string();
    let builder =
        builder.setting("on-change", format!("cd {dir} && ls -A etc state run > seen")).setting("min-uptime", "500ms");
    let agent = builder.config("fake: {stderr: old}").build();
    api.answer_config(config("one"));
    agent.run(["--check"]).says();
    let mut seen: BTreeSet<String> =
        fs::read_to_string(agent.dir().join("seen")).unwrap().lines().map(String::from).collect();
    seen.retain(|name| !name.is_empty() && !name.ends_with(':'));
    agent.spawn();
    agent.wait_until("the first last known good", || agent.state_dir().join("last-known-good.yaml").exists());
    api.answer_config(json!({"fake": {"start": {"exit": 3}}}));
    agent.run(["--check"]).fails(65, "rolled back");
    for dir in ["etc", "state", "run"].map(|name| agent.dir().join(name)) {
        seen.extend(fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()));
    }
    let files = section(AGENT, "FILES");
    let paths = items(&files).into_iter().map(|item| item.strip_prefix("Pa ").expect(item));
    // Those with a star and control.new are there for a moment; the collector is part of an installation.
    let lasting = paths.filter(|path| !path.contains('*') && !path.ends_with("/control.new") && path.starts_with('/'));
    let named: BTreeSet<String> = lasting.map(|path| path.rsplit('/').next().unwrap().into()).collect();
    assert_eq!(named, seen);
}

#[test]
fn the_pages_are_sound_and_fit_80_columns() {
    for page in [AGENT, SETTINGS] {
        let lint = mandoc(page, &["-T", "lint", "-W", "warning"]);
        assert_eq!((lint.code, lint.stdout.as_str(), lint.stderr.as_str()), (Some(0), "", ""), "{page}");
        let shown = mandoc(page, &["-T", "ascii"]);
        let too_long = shown.stdout.lines().map(plain).find(|line| line.len() > 80);
        assert_eq!(too_long, None, "{page} is wider than 80 columns");
        assert!(shown.stdout.lines().count() > 100, "{page}: {shown:?}");
    }
}

/// A page as it is read, on one line; a word that ends a line with its own hyphen is whole again.
pub fn text(page: &str) -> String {
    let shown = mandoc(page, &["-T", "ascii"]).stdout;
    let words = shown.lines().map(plain).collect::<Vec<_>>().join("\n");
    words.split_whitespace().collect::<Vec<_>>().join(" ").replace("- ", "-")
}

/// Without what makes letters bold or underlined on a printer: a letter, a backspace, a letter.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    for c in line.chars() {
        match c {
            '\u{8}' => _ = plain.pop(),
            c => plain.push(c),
        }
    }
    plain
}

fn mandoc(page: &str, args: &[&str]) -> bin::Output {
    let mut command = Command::new("mandoc");
    command.args(args).arg(page).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let found = Command::new("mandoc").arg("/dev/null").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok(), "mandoc is missing: install it, on Debian: apt-get install mandoc");
    bin::output(command)
}

#[test]
fn make_installs_both_pages() {
    let dir = TempDir::new();
    let mut make = Command::new("make");
    make.args(["-s", "install", "prefix=/usr", "collector="]).arg(format!("agent={}", bin::kmagent().display()));
    make.arg(format!("DESTDIR={}", dir.path().display())).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    // Those of the make that runs the tests.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    bin::output(make).says();
    for (page, place) in [(AGENT, "usr/share/man/man8/kmagent.8"), (SETTINGS, "usr/share/man/man5/kmagent.yaml.5")] {
        assert_eq!(fs::read_to_string(dir.join(place)).unwrap(), read(page));
    }
}
