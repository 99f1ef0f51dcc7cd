//! The walls of the house (DESIGN.md, "Rooms"), read from the code: who may import whom, where Unix may be named, what
//! the pure rooms may not use, and how long a file may be. What stands in a `#[cfg(test)]` module is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::source;

const ALL: &[&str] =
    &["agent", "cluster", "cmd", "collector", "config", "control", "core", "log", "os", "settings", "source", "store"];

/// A room and the rooms that it may import. Everyone may import `error`, which stands beside `lib.rs`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    (
        "cmd",
        &["agent", "cluster", "collector", "config", "control", "core", "log", "os", "settings", "source", "store"],
    ),
    ("agent", &["collector", "config", "control", "core", "log", "os", "settings", "source", "store"]),
    ("cluster", &["collector", "config", "control", "core", "log", "os", "settings", "source"]),
    ("source", &["config", "core", "log", "os", "settings"]),
    ("collector", &["config", "log", "os", "settings"]),
    ("store", &["config", "log", "os", "settings"]),
    ("control", &["config", "log", "os", "settings"]),
    ("settings", &["config", "log", "os"]),
    ("config", &[]),
    ("core", &[]),
    ("log", &["os"]),
    ("os", &[]),
];

/// Rooms that decide and compute: what they need is passed in.
const PURE: &[&str] = &["core", "config"];
/// Paths that begin so, and names wherever they stand in one.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::thread",
    "std::env",
    "fs_err",
    "log",
    "crossbeam_channel",
    "ureq",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

const UNIX: &[&str] = &["std::os", "fs_err::os", "rustix", "libc", "nix"];
/// The one room that names Unix, and the kernel's part of a hand-over, which is Linux alone; `std::os` has Windows,
/// too.
const NAMES_UNIX: &[&str] = &["os/unix/", "os/windows/", "collector/handover/"];

/// What opens or reads a file by its name. `os::files` alone does, where each file is opened without waiting and looked
/// at.
const OPENS: &[&str] = &["fs::read(", "fs_err::read(", "read_to_string(", "File::open(", "OpenOptions"];
const MAY_OPEN: &str = "os/unix/files/";

const MAX_LINES: usize = 350;

/// A file of `src`: its path below it, and its lines without comments and without the tests at its end.
struct File {
    path: String,
    lines: Vec<String>,
}

fn files() -> Vec<File> {
    let root = source::path("src");
    let mut files = Vec::new();
    let mut paths = vec![root.clone()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !is_test(&path) {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
            files.push(File { path, lines: before_tests(&text) });
        }
    }
    assert!(files.len() > 60, "where is the source? {}", files.len());
    files
}

/// Whether a whole file is a test's: by its name, or by the folder that it is in.
fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name == "tests.rs" || name.ends_with("_tests.rs") || path.components().any(|part| part.as_os_str() == "walk")
}

/// Up to the test module at its end. One that is a file of its own, and so declared in one line, may stand anywhere.
fn before_tests(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_test_module = |at: usize| {
        let item = lines[at..].iter().find(|line| !line.starts_with("#["));
        lines[at] == "#[cfg(test)]" && item.is_some_and(|item| item.ends_with('{'))
    };
    let end = (0..lines.len()).find(|&at| is_test_module(at)).unwrap_or(lines.len());
    lines[..end].iter().map(|line| line.to_string()).collect()
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// All paths of a text, groups taken apart: `std::{fs, io as x}` gives `std`, `std::fs` and `std::io`.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_part_of_word) {
        rest = collect(&rest[start..], "", &mut found);
    }
    found
}

/// Takes one path, and those of the group that it ends in, from the beginning of a text; gives what follows.
fn collect<'a>(mut rest: &'a str, before: &str, found: &mut Vec<String>) -> &'a str {
    let mut path = before.to_string();
    loop {
        let end = rest.find(|c| !is_part_of_word(c)).unwrap_or(rest.len());
        path = if path.is_empty() { rest[..end].to_string() } else { format!("{path}::{}", &rest[..end]) };
        found.push(path.clone());
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(after) if after.starts_with(is_part_of_word) => rest = after,
            Some(after) if after.starts_with("{") => {
                rest = &after[1..];
                break;
            }
            _ => return rest,
        }
    }
    loop {
        let Some(next) = rest.find(|c| is_part_of_word(c) || c == '}') else { return "" };
        match rest[next..].strip_prefix('}') {
            Some(after) => return after,
            None => rest = collect(&rest[next..], &path, found),
        }
    }
}

fn begins_with(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The rooms that a file names by `crate::` or by climbing up with `super::`.
fn imported(file: &File) -> BTreeSet<&'static str> {
    let mut module: Vec<&str> = file.path.trim_end_matches(".rs").split('/').collect();
    module.retain(|part| *part != "mod");
    let target = |path: String| {
        let parts: Vec<&str> = path.split("::").collect();
        let climbed = parts.iter().take_while(|part| **part == "super").count();
        let named = match parts[0] {
            "crate" => parts.get(1),
            _ if climbed > 0 && climbed == module.len() => parts.get(climbed),
            _ => None,
        };
        ALL.iter().find(|room| named == Some(room)).copied()
    };
    paths(&file.code()).into_iter().filter_map(target).collect()
}

impl File {
    /// Without comments. What stands in a literal counts, too: no text of ours names a path.
    fn code(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.split("//").next().unwrap())).collect()
    }
}

fn room(path: &str) -> Option<&str> {
    path.split_once('/').map(|(room, _)| room)
}

/// Each arrow that is not in the table, as `room → room (file)`.
fn wrong_arrows(files: &[File]) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for file in files {
        let Some(from) = room(&file.path) else { continue };
        let allowed = MAY_IMPORT.iter().find(|(room, _)| *room == from).map_or(&[][..], |(_, allowed)| *allowed);
        let arrows = imported(file).into_iter().filter(|to| *to != from && !allowed.contains(to));
        wrong.extend(arrows.map(|to| format!("{from} → {to} ({})", file.path)));
    }
    wrong
}

#[test]
fn the_rooms_are_those_of_the_table() {
    let mut rooms: Vec<&str> = MAY_IMPORT.iter().map(|(room, _)| *room).collect();
    rooms.sort();
    assert_eq!(rooms, ALL);
    let entries = fs::read_dir(source::path("src")).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, beside): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let names = |paths: Vec<PathBuf>| -> BTreeSet<String> {
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(dirs), ALL.iter().map(|room| room.to_string()).collect());
    assert_eq!(names(beside), ["error.rs", "lib.rs", "main.rs"].map(String::from).into());
}

#[test]
fn no_room_imports_what_it_must_not() {
    assert_eq!(wrong_arrows(&files()), BTreeSet::new(), "arrows that MAY_IMPORT does not have");
    // Negative controls: each way to write an import.
    for line in [
        "use crate::agent::check;",
        "use crate::{config, agent::check};",
        "use crate::{config::{value, yaml}, agent};",
        "use super::agent::mailbox as _x;",
        "let x = crate::agent::check::longest(s);",
    ] {
        let file = File { path: "store/mod.rs".to_string(), lines: vec![line.to_string()] };
        assert_eq!(wrong_arrows(&[file]), ["store → agent (store/mod.rs)".to_string()].into(), "{line}");
    }
    let deeper = File { path: "store/record.rs".to_string(), lines: vec!["use super::super::agent;".to_string()] };
    assert_eq!(wrong_arrows(&[deeper]).len(), 1);
}

/// `file: path` for each path that begins with one of these, or has it as a part if it is one word with a capital.
fn naming(files: &[&File], names: &[&str]) -> Vec<String> {
    let is_named = |path: &str| {
        let is_type = |name: &&&str| name.starts_with(char::is_uppercase);
        names.iter().any(|name| begins_with(path, name))
            || names.iter().filter(is_type).any(|name| path.split("::").any(|part| part == *name))
    };
    let named = files.iter().flat_map(|file| paths(&file.code()).into_iter().map(move |path| (file, path)));
    named.filter(|(_, path)| is_named(path)).map(|(file, path)| format!("{}: {path}", file.path)).collect()
}

fn naming_unix(files: &[File]) -> Vec<String> {
    let is_elsewhere = |file: &&File| !NAMES_UNIX.iter().any(|dir| file.path.starts_with(dir));
    naming(&files.iter().filter(is_elsewhere).collect::<Vec<_>>(), UNIX)
}

#[test]
fn only_os_and_the_hand_over_name_unix() {
    assert_eq!(naming_unix(&files()), Vec::<String>::new());
    let file = |path: &str, line: &str| File { path: path.to_string(), lines: vec![line.to_string()] };
    for line in ["use rustix::fs::Mode;", "use std::os::fd::AsFd;", "use std::{os as _y};", "let x = libc::SIGTERM;"] {
        assert!(!naming_unix(&[file("store/mod.rs", line)]).is_empty(), "{line}");
    }
    assert_eq!(naming_unix(&[file("os/unix/files.rs", "use rustix::fs::Mode;")]), Vec::<String>::new());
}

#[test]
fn only_the_files_of_os_open_any() {
    let found = |files: &[File]| -> Vec<String> {
        let elsewhere = files.iter().filter(|file| !file.path.starts_with(MAY_OPEN));
        let lines = elsewhere.flat_map(|file| file.lines.iter().map(move |line| (file, line)));
        let opening =
            lines.filter(|(_, line)| OPENS.iter().any(|name| line.split("//").next().unwrap().contains(name)));
        opening.map(|(file, line)| format!("{}: {}", file.path, line.trim())).collect()
    };
    assert_eq!(found(&files()), Vec::<String>::new(), "use os::files");
    for line in ["std::fs::read(path)", "fs_err::read_to_string(path)", "fs::File::open(path)"] {
        let file = |path: &str| File { path: path.to_string(), lines: vec![line.to_string()] };
        assert_eq!(found(&[file("store/mod.rs"), file("os/unix/files/mod.rs")]).len(), 1, "{line}");
    }
}

#[test]
fn the_pure_rooms_use_no_clock_file_process_socket_thread_environment_or_log() {
    let impure = |files: &[File]| {
        let is_pure = |file: &&File| room(&file.path).is_some_and(|room| PURE.contains(&room));
        naming(&files.iter().filter(is_pure).collect::<Vec<_>>(), IMPURE)
    };
    assert_eq!(impure(&files()), Vec::<String>::new());
    for line in ["let now = Instant::now();", "let now = std::time::Instant::now();", "use std::{fs as _z, io as _w};"]
    {
        let file = File { path: "core/mod.rs".to_string(), lines: vec![line.to_string()] };
        assert!(!impure(&[file]).is_empty(), "{line}");
    }
}

#[test]
fn no_file_is_too_long() {
    let files = files();
    let long = files.iter().filter(|file| file.lines.len() > MAX_LINES);
    let long: Vec<String> = long.map(|file| format!("{}: {} lines", file.path, file.lines.len())).collect();
    assert_eq!(long, Vec::<String>::new(), "before their tests");
}

/// Whether a line is an item, or in an item, that `#[cfg(unix)]` is before.
fn is_behind_unix(lines: &[&str], at: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let gates = (0..at).filter(|&gate| lines[gate].trim() == "#[cfg(unix)]");
    let holds = |gate: usize| {
        let item = (gate..lines.len()).find(|&item| !lines[item].trim_start().starts_with("#["));
        let inside = |line: &&str| line.trim().is_empty() || indent(line) > indent(lines[gate]);
        item.is_some_and(|item| at <= item || lines[item + 1..=at].iter().all(inside))
    };
    gates.into_iter().any(holds)
}

/// The lines of unit tests that name Unix without saying that they are for Unix alone, where a whole file is when its
/// declaration says so; `read` has the text of a file by its path below `src`.
fn tests_naming_unix<'a>(files: &[String], read: impl Fn(&str) -> &'a str) -> Vec<String> {
    let mut found = Vec::new();
    let lib: Vec<&str> = read("lib.rs").lines().collect();
    let is_unix_room = |path: &str| {
        let declaration = room(path).map(|room| format!("pub mod {room};")).unwrap_or_default();
        lib.iter().position(|line| *line == declaration).is_some_and(|at| is_behind_unix(&lib, at))
    };
    let is_elsewhere = |path: &&String| !NAMES_UNIX.iter().any(|dir| path.starts_with(dir)) && !is_unix_room(path);
    for path in files.iter().filter(is_elsewhere) {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (declared_in, declaration) = match name.strip_suffix("_tests.rs") {
            Some(of) => (format!("{directory}/{of}.rs"), format!("#[path = \"{name}\"]")),
            None => (format!("{directory}/mod.rs"), "mod tests;".to_string()),
        };
        let is_gated = is_test(Path::new(path)) && files.contains(&declared_in) && {
            let lines: Vec<&str> = read(&declared_in).lines().collect();
            lines.iter().position(|line| *line == declaration).is_some_and(|at| is_behind_unix(&lines, at))
        };
        let lines: Vec<&str> = read(path).lines().collect();
        let names_unix = |at: &usize| {
            let paths = paths(lines[*at].split("//").next().unwrap());
            paths.iter().any(|path| path.contains("os::unix") || UNIX.iter().any(|name| begins_with(path, name)))
        };
        let ungated = (0..lines.len()).filter(names_unix).filter(|&at| !is_gated && !is_behind_unix(&lines, at));
        found.extend(ungated.map(|at| format!("{path}:{}: {}", at + 1, lines[at].trim())));
    }
    found
}

/// So that they compile elsewhere too. What is no test and names Unix is found above.
#[test]
fn unit_tests_that_name_unix_are_for_unix_alone() {
    let root = source::path("src");
    let (mut texts, mut paths) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
            texts.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    let files: Vec<String> = texts.keys().cloned().collect();
    assert_eq!(tests_naming_unix(&files, |path| &texts[path]), Vec::<String>::new());

    let gated = "#[cfg(unix)]\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n";
    let uses = "use std::os::unix::fs::chown;\n";
    let inline = "#[cfg(test)]\n#[cfg(unix)]\nmod tests {\n\n    use rustix::fs::Mode;\n}\nuse rustix::io;\n";
    for (a, a_tests, expected) in [(gated, uses, 0), (&gated[13..], uses, 1), (inline, "", 1)] {
        let read = |path: &str| if path == "store/a.rs" { a } else { a_tests };
        let files = ["store/a.rs", "store/a_tests.rs"].map(String::from);
        assert_eq!(tests_naming_unix(&files, read).len(), expected, "{a}");
    }
}
