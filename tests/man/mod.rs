//! The man pages against what the program is, in both directions, and their form. Each page has its module; their
//! examples are run in one more.

mod agent;
mod check;
mod cluster;
mod examples;
mod policy;
mod settings;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use kmagent::settings::cluster::CLUSTER_SETTINGS;

use crate::support::agent::Agent;
use crate::support::bin;
use crate::support::source::{self, read};
use crate::support::temp_dir::TempDir;

pub const AGENT: &str = "man/kmagent.8";
const SETTINGS: &str = "man/kmagent.yaml.5";
const CHECK: &str = "man/kmagent-check.7";
pub const CLUSTER: &str = "man/kmagent-cluster.8";
const PAGES: [&str; 4] = [AGENT, SETTINGS, CHECK, CLUSTER];

/// What follows that heading of a page, up to the next one of its kind (`.Sh`, `.Ss`).
#[track_caller]
pub fn part<'a>(text: &'a str, kind: &str, heading: &str) -> &'a str {
    let separator = format!("\n{kind} ");
    let mut parts = text.split(&separator);
    let found = parts.find(|part| part.starts_with(&format!("{heading}\n")));
    found.unwrap_or_else(|| panic!("no {kind} {heading}"))
}

#[track_caller]
pub fn section(page: &str, heading: &str) -> String {
    part(&read(page), ".Sh", heading).to_string()
}

/// What follows `.It ` in each item of a list.
fn items(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix(".It ")).collect()
}

/// The words of the items that are written with that macro: `.It Cm pid` gives `pid`.
pub fn words<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    items(text).into_iter().filter_map(|item| item.strip_prefix(name)?.strip_prefix(' ')).collect()
}

/// The arguments of a macro wherever it is called, at the beginning of a line or within one.
fn uses<'a>(text: &'a str, name: &str) -> BTreeSet<&'a str> {
    let calls = text.lines().filter(|line| line.starts_with('.'));
    let calls = calls.flat_map(|line| {
        let words: Vec<&str> = line[1..].split(' ').collect();
        let at = words.iter().position(|word| *word == name);
        at.map(|at| words[at + 1..].to_vec()).unwrap_or_default()
    });
    calls
        .filter(|word| word.len() > 1 && !matches!(*word, "Ev" | "Pa" | "Cm" | "Ns" | "Op" | "Fl" | "Ar" | "Xr"))
        .collect()
}

/// The long flags that a text names: `.Fl Fl check` gives `--check`.
fn flags(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| line.starts_with('.'));
    let names = lines.flat_map(|line| line.split("Fl Fl ").skip(1).filter_map(|rest| rest.split(' ').next()));
    // `Fl Fl Ns Ar name` is no name of a flag.
    names.filter(|name| *name != "Ns").map(|name| format!("--{name}")).collect()
}

/// The long flags that have an item of their own.
fn flag_items(text: &str) -> BTreeSet<String> {
    items(text).into_iter().flat_map(|item| flags(&format!(".It {item}"))).collect()
}

fn help() -> String {
    Agent::builder().build().run(["--help"]).says().to_string()
}

fn settings_page() -> Vec<(String, String)> {
    let page = read(SETTINGS);
    let items = page.split("\n.It Cm ").skip(1).filter_map(|item| item.split_once(" : "));
    items.map(|(name, rest)| (name.to_string(), rest.split("\n.Sh ").next().unwrap().to_string())).collect()
}

fn mandoc(page: &str, args: &[&str]) -> bin::Output {
    let mut command = Command::new("mandoc");
    command.args(args).arg(page).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let found = Command::new("mandoc").arg("/dev/null").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok(), "mandoc is missing: install it, on Debian: apt-get install mandoc");
    bin::output(command)
}

/// A page as it is read, on one line.
pub fn text(page: &str) -> String {
    let shown = mandoc(page, &["-T", "ascii"]).stdout;
    let words = shown.lines().map(plain).collect::<Vec<_>>().join("\n");
    words.split_whitespace().collect::<Vec<_>>().join(" ")
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

/// With the strictest lint, but for what contradicts one sentence a line, and what depends on the pages of this host.
#[test]
fn the_pages_are_sound_and_fit_80_columns() {
    for page in PAGES {
        let lint = mandoc(page, &["-T", "lint", "-W", "style"]);
        let accepted = ["input text line longer than 80 bytes", "referenced manual not found", "outdated mandoc.db"];
        let mut complaints = lint.stdout.lines().chain(lint.stderr.lines());
        let complaint = complaints.find(|line| !accepted.iter().any(|words| line.contains(words)));
        assert_eq!(complaint, None, "{page}");
        let shown = mandoc(page, &["-T", "ascii", "-O", "width=80"]);
        let too_long = shown.stdout.lines().map(plain).find(|line| line.len() > 80);
        assert_eq!(too_long, None, "{page} is wider than 80 columns");
        // Half a name cannot be typed: in the text \- keeps it together, in a macro's arguments nothing takes it apart.
        let broken = shown.stdout.lines().map(plain).find(|line| line.ends_with('-'));
        assert_eq!(broken, None, "{page}: a word goes on in the next line");
        assert!(shown.stdout.lines().count() > 100, "{page}: {shown:?}");
    }
}

/// Whatever a page says in passing exists too.
#[test]
fn every_flag_variable_path_and_page_that_is_named_exists() {
    let of_cluster = CLUSTER_SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(" ");
    let help = format!("{}\n{of_cluster}", help());
    let files = section(AGENT, "FILES");
    let environment = section(AGENT, "ENVIRONMENT");
    let variables: Vec<String> = source::settings().into_iter().map(|[_, variable, _]| variable).collect();
    let ours = ["/etc/kmagent/", "/var/lib/kmagent/", "/run/kmagent/", "/usr/local/"];
    // Names that the examples give to files of the site.
    let theirs = ["/etc/kmagent/local.yaml"];
    for page in PAGES {
        let text = read(page).replace("\\-", "-");
        for flag in flags(&text) {
            assert!(help.split([' ', '\n']).any(|word| flag == word || flag[2..] == *word), "{page}: {flag}");
        }
        for name in uses(&text, "Ev") {
            let is_of_cluster = page == CLUSTER
                && (["KM_APM_ENABLED", "KM_CFG_UPDATER_RPC_ADDR", "KM_CRD_NAME"].contains(&name)
                    || CLUSTER_SETTINGS.iter().any(|it| it.env == name));
            let known =
                is_of_cluster || variables.iter().any(|known| known == name) || uses(&environment, "Ev").contains(name);
            assert!(known, "{page}: {name} is not in ENVIRONMENT");
        }
        let literal =
            text.split([' ', '\n', '<', '>', '"', '\'', ':', ',', ';', '=']).filter(|word| word.starts_with('/'));
        for path in literal.filter(|path| ours.iter().any(|ours| path.starts_with(ours)) && !theirs.contains(path)) {
            assert!(words(&files, "Pa").contains(&path), "{page}: {path} is not in FILES of {AGENT}");
        }
        for name in uses(&text, "Xr").iter().filter(|name| name.starts_with("kmagent")) {
            assert!(PAGES.iter().any(|page| page.starts_with(&format!("man/{name}."))), "{page}: no page {name}");
        }
        for heading in text.lines().filter_map(|line| line.strip_prefix(".Sx ")) {
            let heading = heading.trim_end_matches([' ', '.', ',']);
            let known = ["Sh", "Ss"].iter().any(|kind| text.contains(&format!("\n.{kind} {heading}\n")));
            assert!(known, "{page}: there is no {heading}");
        }
    }
}

#[test]
fn make_installs_the_pages_and_the_completions() {
    let dir = TempDir::new();
    let mut make = Command::new("make");
    make.args(["-s", "install", "prefix=/usr", "collector="]).arg(format!("agent={}", bin::kmagent().display()));
    make.arg(format!("DESTDIR={}", dir.path().display())).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    // Those of the make that runs the tests.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    bin::output(make).says();
    for (source, place) in [
        (AGENT, "man/man8/kmagent.8"),
        (SETTINGS, "man/man5/kmagent.yaml.5"),
        (CHECK, "man/man7/kmagent-check.7"),
        (CLUSTER, "man/man8/kmagent-cluster.8"),
        ("dist/completions/kmagent.bash", "bash-completion/completions/kmagent"),
        ("dist/completions/_kmagent", "zsh/site-functions/_kmagent"),
        ("dist/completions/kmagent.fish", "fish/vendor_completions.d/kmagent.fish"),
    ] {
        assert_eq!(fs::read_to_string(dir.join("usr/share").join(place)).unwrap(), read(source));
    }
}
