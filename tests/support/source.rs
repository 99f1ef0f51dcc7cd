//! What the source says, for the tests that hold the README and the man pages against it.

use std::fs;
use std::path::{Path, PathBuf};

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
    let source = read("src/settings/table.rs");
    let default_file = source.split("DEFAULT_FILE: &str = \"").nth(1).unwrap().split('"').next().unwrap();
    let rows = source.lines().filter(|line| line.starts_with("    row(\""));
    let rows = rows.map(|row| {
        let texts: Vec<&str> = row.split('"').skip(1).step_by(2).collect();
        let default = if row.contains("DEFAULT_FILE") { default_file } else { texts.get(2).unwrap_or(&"") };
        [texts[0].to_string(), texts[1].to_string(), default.to_string()]
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 20, "the table in the source is written differently: {rows:?}");
    rows
}

/// The numbers of the one table of exit statuses, in its order.
pub fn exit_statuses() -> Vec<String> {
    let numbers = body("src/error.rs", "pub enum Exit {");
    let numbers: Vec<_> = numbers.lines().filter_map(|line| line.strip_suffix(',')?.rsplit_once(" = ")).collect();
    assert!(numbers.len() > 8, "the table in the source is written differently: {numbers:?}");
    numbers.into_iter().map(|(_, number)| number.to_string()).collect()
}

/// What stands between that line, which opens an item at the margin, and its closing brace.
#[track_caller]
pub fn body(path: &str, opening: &str) -> String {
    let source = read(path);
    let after = source.split_once(opening).unwrap_or_else(|| panic!("no {opening:?} in {path}")).1;
    after.split("\n}").next().unwrap().to_string()
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
