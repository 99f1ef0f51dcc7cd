//! Comments and pages wrap at 120 columns, in every file that git knows: `//` of Rust, `#` of all others, Python's
//! docstrings, and the prose of Markdown. Tables and code of a page may be wider, and so may what has no blank to wrap
//! at. Man pages have one sentence a line instead.

use std::process::Command;

use crate::support::needs;
use crate::support::source;

const WIDTH: usize = 120;

/// Texts of others, and the fuzzer's seeds, which are no texts.
const FOREIGN: [&str; 4] = ["LICENSE", "dist/licences/", "man/", "tests/fuzz/corpus/"];

/// The hash of each is the key of a cache: another comment would build a collector or a root file system anew.
fn is_cache_key(file: &str) -> bool {
    let is_manifest = file.starts_with("dist/collector/") && file.ends_with(".yaml");
    is_manifest || file == "tests/system/root"
}

fn is_wide(line: &str) -> bool {
    line.chars().count() > WIDTH
}

/// Whether a blank is left to wrap at, after the comment's or the list's mark and outside of code spans.
fn can_wrap(line: &str) -> bool {
    let text = line.trim_start().trim_start_matches(['#', '/', '!', '-', '"']).trim();
    text.split('`').step_by(2).any(|outside| outside.contains(' '))
}

/// The lines of a file that are comments or prose, with their numbers.
fn prose<'a>(file: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    if file.ends_with(".md") {
        let (mut is_code, mut after_blank) = (false, true);
        return lines
            .filter(|(_, line)| {
                let is_fence = line.trim_start().starts_with("```");
                is_code ^= is_fence;
                let is_indented = line.starts_with("    ") && after_blank;
                after_blank = line.trim().is_empty() || is_indented;
                !(is_code || is_fence || is_indented || line.trim_start().starts_with('|'))
            })
            .collect();
    }
    let mark = if file.ends_with(".rs") { "//" } else { "#" };
    let is_python = file.ends_with(".py") || text.starts_with("#!/usr/bin/env python3");
    // Whether the text between triple quotes that goes on is a docstring: other texts begin after a `=` or a `(`.
    let mut open: Option<bool> = None;
    lines
        .filter(|(_, line)| {
            let text = line.trim();
            let quotes = if is_python { text.matches("\"\"\"").count() } else { 0 };
            let is_docstring = open.unwrap_or(quotes > 0 && text.starts_with("\"\"\""));
            if quotes % 2 == 1 {
                open = if open.is_some() { None } else { Some(is_docstring) };
            }
            is_docstring || (open.is_none() && text.starts_with(mark))
        })
        .collect()
}

fn too_wide(file: &str, text: &str) -> Vec<String> {
    let wide = prose(file, text).into_iter().filter(|(_, line)| is_wide(line) && can_wrap(line));
    wide.map(|(number, line)| format!("{file}:{number}: {line}")).collect()
}

#[test]
fn comments_and_pages_wrap_at_120_columns() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(source::path("")).output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        needs::that(false, "it takes a git clone");
        return;
    };
    let files = String::from_utf8(listed.stdout).unwrap();
    let files = files.split_terminator('\0').filter(|file| !FOREIGN.iter().any(|start| file.starts_with(start)));
    let texts: Vec<(&str, String)> = files
        .filter(|file| !is_cache_key(file))
        .filter_map(|file| Some((file, std::fs::read_to_string(source::path(file)).ok()?)))
        .collect();
    assert!(texts.len() > 300, "{} files", texts.len());
    let wide: Vec<String> = texts.iter().flat_map(|(file, text)| too_wide(file, text)).collect();
    assert!(wide.is_empty(), "wrap these at {WIDTH} columns:\n{}", wide.join("\n"));
}

/// The negative controls: each kind of line that counts, and each that does not.
#[test]
fn a_wide_comment_is_found() {
    let wide = "word ".repeat(30);
    // Characters, not bytes.
    let fits = "ä ".repeat(50);
    let code = format!("`{wide}`");
    for (file, text, expected) in [
        ("a.rs", format!("/// {fits}\n    /// {wide}\nlet x = \"{wide}\";\n"), 1),
        ("run", format!("#!/bin/sh\n    # {wide}\necho {wide}\n# {}\n", "x".repeat(200)), 1),
        ("a.toml", format!("# {wide}\nx = \"{wide}\"\n"), 1),
        ("a.py", format!("\"\"\"{wide}\n\n{wide}\n\"\"\"\nx = \"{wide}\"\n    \"\"\"{wide}\"\"\"\n# {wide}\n"), 4),
        ("a.py", format!("x = \"\"\"\\\n{wide}\n\"\"\"\ny = \"{wide}\"\n"), 0),
        ("a.md", format!("- {wide}\n  {wide}\n\n| {wide} |\n```\n{wide}\n```\n\n    {wide}\n\n{code}.\n{fits}\n"), 2),
        ("a.md", format!("1. A mark, and then {code}.\n"), 1),
    ] {
        assert_eq!(too_wide(file, &text).len(), expected, "{file}: {text}");
    }
}
