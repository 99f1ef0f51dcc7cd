//! The walls of the house (DESIGN.md, "Rooms"), read from the code: who may import whom, where Unix may be named, what
//! the pure rooms may not use, and how long a file may be. What stands in a `#[cfg(test)]` module is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::source;

const ALL: &[&str] =
    &["agent", "cmd", "collector", "config", "control", "core", "log", "os", "settings", "source", "store"];

/// A room and the rooms that it may import. Everyone may import `error`, which stands beside `lib.rs`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("cmd", &["agent", "collector", "config", "control", "core", "log", "os", "settings", "source", "store"]),
    ("agent", &["collector", "config", "control", "core", "log", "os", "settings", "source", "store"]),
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
const IMPURE: &[&str] = &[
    "std::fs",
    "fs_err",
    "std::process",
    "std::thread",
    "std::env",
    "std::os",
    "std::io",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "log::",
    "crossbeam_channel",
    "ureq",
];

const UNIX: &[&str] = &["std::os::unix", "std::os::fd", "std::os::linux", "fs_err::os::unix", "rustix", "libc", "nix"];
/// The one room that names Unix, and the kernel's part of a hand-over, which is Linux alone.
const NAMES_UNIX: &[&str] = &["os/unix/", "collector/handover/"];

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

fn code(line: &str) -> &str {
    line.split("//").next().unwrap()
}

fn is_word(text: &str, at: usize, length: usize) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    !text[..at].ends_with(is_part) && !text[at + length..].starts_with(is_part)
}

fn mentions(text: &str, word: &str) -> bool {
    let end = word.trim_end_matches(':').len();
    text.match_indices(word).any(|(at, _)| is_word(text, at, end))
}

/// The rooms that a text imports by `crate::room` or `crate::{room…}`.
fn imported(text: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let first = |rest: &str, room: &str| rest.starts_with(room) && is_word(rest, 0, room.len());
        match rest.strip_prefix('{') {
            None => found.extend(ALL.iter().filter(|room| first(rest, room))),
            Some(group) => {
                let mut depth = 0;
                for (index, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 && (index == 0 || group[..index].trim_end().ends_with(',')) {
                        found.extend(ALL.iter().filter(|room| first(&group[index..], room)));
                    }
                }
            }
        }
    }
    found
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
        let text: String = file.lines.iter().map(|line| format!("{}\n", code(line))).collect();
        let arrows = imported(&text).into_iter().filter(|to| *to != from && !allowed.contains(to));
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
    for line in
        ["use crate::agent::check;", "use crate::{config, agent::check};", "let x = crate::agent::check::longest(s);"]
    {
        let file = File { path: "store/mod.rs".to_string(), lines: vec![line.to_string()] };
        assert_eq!(wrong_arrows(&[file]), ["store → agent (store/mod.rs)".to_string()].into(), "{line}");
    }
}

fn naming_unix(files: &[File]) -> Vec<String> {
    let elsewhere = files.iter().filter(|file| !NAMES_UNIX.iter().any(|dir| file.path.starts_with(dir)));
    let found = elsewhere.flat_map(|file| {
        let lines = file.lines.iter().filter(|line| UNIX.iter().any(|name| mentions(code(line), name)));
        lines.map(|line| format!("{}: {}", file.path, line.trim()))
    });
    found.collect()
}

#[test]
fn only_os_and_the_hand_over_name_unix() {
    assert_eq!(naming_unix(&files()), Vec::<String>::new());
    let file = |path: &str| File { path: path.to_string(), lines: vec!["use rustix::fs::Mode;".to_string()] };
    assert_eq!(naming_unix(&[file("store/mod.rs"), file("os/unix/files.rs")]).len(), 1);
}

#[test]
fn only_the_files_of_os_open_any() {
    let found = |files: &[File]| -> Vec<String> {
        let elsewhere = files.iter().filter(|file| !file.path.starts_with(MAY_OPEN));
        let lines = elsewhere.flat_map(|file| file.lines.iter().map(move |line| (file, line)));
        let opening = lines.filter(|(_, line)| OPENS.iter().any(|name| code(line).contains(name)));
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
    let found = |files: &[File]| -> Vec<String> {
        let pure = files.iter().filter(|file| room(&file.path).is_some_and(|room| PURE.contains(&room)));
        let lines = pure.flat_map(|file| file.lines.iter().map(move |line| (file, line)));
        let used = lines.filter(|(_, line)| IMPURE.iter().any(|name| mentions(code(line), name)));
        used.map(|(file, line)| format!("{}: {}", file.path, line.trim())).collect()
    };
    assert_eq!(found(&files()), Vec::<String>::new());
    let clock = File { path: "core/mod.rs".to_string(), lines: vec!["let now = Instant::now();".to_string()] };
    assert_eq!(found(&[clock]).len(), 1);
}

#[test]
fn no_file_is_too_long() {
    let files = files();
    let long = files.iter().filter(|file| file.lines.len() > MAX_LINES);
    let long: Vec<String> = long.map(|file| format!("{}: {} lines", file.path, file.lines.len())).collect();
    assert_eq!(long, Vec::<String>::new(), "before their tests");
}
