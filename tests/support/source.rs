//! What the source says, for the tests that hold the README and the man pages against it.

use std::fs;
use std::path::{Path, PathBuf};

use kmagent::error::Exit;
use kmagent::settings::table::{Fallback, SETTINGS};

/// Where a file of the repository is, by its path in it.
pub fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of the repository, by its path in it.
#[track_caller]
pub fn read(path: &str) -> String {
    let path = self::path(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Name, variable and default of each row of the one table of settings; an empty default is one that is worked out.
pub fn settings() -> Vec<[String; 3]> {
    let default = |fallback| match fallback {
        Fallback::Value(text) | Fallback::Absent(text) => text,
        Fallback::Computed => "",
    };
    SETTINGS.iter().map(|row| [row.name, row.env, default(row.fallback)].map(String::from)).collect()
}

/// The numbers of the one table of exit statuses, in its order.
pub fn exit_statuses() -> Vec<String> {
    Exit::ALL.iter().map(|exit| exit.code().to_string()).collect()
}

/// All of `src`, with white space and texts that are broken over lines made one line.
pub fn everything() -> String {
    let mut paths = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut source = String::new();
    while let Some(path) = paths.pop() {
        match path.is_dir() {
            true => paths.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())),
            false => source += &fs::read_to_string(path).unwrap(),
        }
    }
    source.replace("\\\n", "").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asserts that a message that is quoted, with `gap` for what is put in at run time, stands in the source.
#[track_caller]
pub fn assert_quoted(source: &str, message: &str, gap: &str) {
    let message =
        message.replace(&format!("HTTP status {gap}"), "HTTP status {}").replace("HTTP status 401", "HTTP status {}");
    for part in message.split(gap).flat_map(|part| part.split(';')).map(str::trim) {
        assert!(source.contains(part), "no such message in the source: {part}");
    }
}
