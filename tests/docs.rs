//! What the README says against what the program is: settings, exit statuses, messages, commands.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::budgets;
use crate::man;
use crate::support::agent::Agent;
use crate::support::source::{self, read};

/// The cells of each row of the table below that heading of the README, without the table's own heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let readme = read("README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with(&format!("{heading}\n")));
    let section = section.unwrap_or_else(|| panic!("no section {heading}"));
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_string()).collect();
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn bare(cell: &str) -> String {
    cell.replace('`', "")
}

#[test]
fn readme_lists_every_setting() {
    let settings = source::settings();
    let rows = table("Settings");
    let names: Vec<_> = settings.iter().map(|[name, ..]| format!("`{name}`")).collect();
    assert_eq!(rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), names);
    for ([name, variable, default], row) in settings.iter().zip(&rows) {
        assert_eq!(row[1], format!("`{variable}`"), "{name}");
        assert!(default.is_empty() || bare(&row[2]) == *default, "{name}: {} is not {default}", row[2]);
        assert_eq!(row.len(), 4, "{row:?}");
    }
}

/// The same defaults, as the program shows them.
#[test]
fn print_settings_shows_the_defaults_of_the_readme() {
    let agent = Agent::builder().build();
    fs::write(agent.settings_file(), "").unwrap();
    let output = agent.run(["--print-settings"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    for row in table("Settings") {
        let name = bare(&row[0]);
        let line = output.stdout.lines().find(|line| line.split(" = ").next().unwrap().trim() == name);
        let line = line.unwrap_or_else(|| panic!("{name}: not in {}", output.stdout));
        let (value, source) = line.split_once(" = ").unwrap().1.rsplit_once("   (").unwrap();
        let value = value.trim().trim_matches(['(', ')']);
        match name.as_str() {
            "agent-config" => assert_eq!(source, "flag --agent-config)"),
            "update-endpoint" => assert!(source.starts_with("local mode"), "{line}"),
            // It depends on the host.
            "host-name" => assert!(!value.is_empty()),
            "log-format" => assert!(bare(&row[2]).starts_with(value), "{line}"),
            _ => assert_eq!((value, source), (bare(&row[2]).as_str(), "default)"), "{name}"),
        }
    }
}

#[test]
fn readme_lists_every_exit_status() {
    let numbers: Vec<_> = table("Exit status").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(numbers, source::exit_statuses());
}

/// The table has the rows that its command prints, and what `budgets` holds is promised.
#[test]
fn the_figures_are_those_that_are_measured() {
    let output = Command::new(source::path("tests/bench/figures")).arg("--rows").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<(&str, &str)> = printed.lines().map(|line| line.rsplit_once('|').unwrap()).collect();
    assert!(printed.len() > 10, "{printed:?}");
    let rows = table("Figures");
    let row = |row: &Vec<String>| (row[0].clone(), row[2].trim_matches(['|', ' ']).to_string());
    let rows: Vec<(String, String)> = rows.iter().map(row).collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(name, most)| (name.as_str(), most.as_str())).collect();
    assert_eq!(rows, printed, "run tests/bench/figures, and put its table into README.md");
    for (name, limit) in budgets::PROMISED {
        let promised = rows.iter().find(|(row, _)| *row == name).unwrap_or_else(|| panic!("no row {name}"));
        let number = promised.1.split(' ').next().and_then(|word| word.parse().ok());
        assert_eq!(number, Some(limit), "{name}");
    }
}

/// A message that is quoted, up to a `…`, stands in the source; so does each option and command.
#[test]
fn readme_quotes_the_program() {
    let source = source::everything();
    let rows = table("When something is wrong");
    assert!(rows.len() > 5);
    for row in rows {
        source::assert_quoted(&source, &bare(&row[0]), "…");
    }
    let help = Agent::builder().build().run(["--help"]).stdout;
    for row in table("Use") {
        for word in row.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).flat_map(str::split_whitespace) {
            let known = word == "kmagent" || help.split([' ', '\n']).any(|other| other == word);
            assert!(known, "--help does not know {word}");
        }
    }
}

#[test]
fn readme_names_targets_and_files_that_exist() {
    let readme = read("README.md");
    let makefile = read("Makefile");
    let mut targets = readme.split("make ").skip(1).filter_map(|rest| rest.split([' ', '`', '\n']).next());
    assert!(targets.clone().count() > 4);
    let missing = targets.find(|word| !word.is_empty() && !makefile.contains(&format!("\n{word}:")));
    assert_eq!(missing, None, "no such target in the Makefile");

    let source = source::everything();
    let rows: Vec<String> = table("Files").iter().map(|row| bare(&row[0])).collect();
    for row in &rows {
        let path = PathBuf::from(row);
        let name = path.file_name().unwrap().to_str().unwrap().replace("config.yaml.rejected", ".rejected");
        assert!(name.starts_with('*') || source.contains(&name), "nothing in the source is called {name}");
    }
    // The page has more: what is there for a moment. A test of its own holds it against a host.
    let files = man::section(man::AGENT, "FILES");
    let paths = man::words(man::part(&files, ".Ss", "What it reads and writes"), "Pa");
    assert!(paths.len() > 10, "{paths:?}");
    for path in paths.into_iter().filter(|path| !path.contains('*') && !path.ends_with(".new")) {
        let has = |row: &String| row == path || (row.ends_with("/*.json") && path.ends_with(".json"));
        assert!(rows.iter().any(has), "the README does not list {path}");
    }
}

/// A new room or module finds its place on the map, and what the map names is there.
#[test]
fn the_map_of_the_tests_is_whole() {
    let map = read("tests/README.md");
    let quoted: Vec<&str> = map.split('`').skip(1).step_by(2).collect();
    let named =
        |name: &str| quoted.iter().any(|words| words.split(['/', '{', '}', ',', ':', '.']).any(|word| word == name));
    let rooms = fs::read_dir(source::path("src")).unwrap().map(|entry| entry.unwrap().path());
    let rooms: Vec<String> = rooms.map(|path| path.file_stem().unwrap().to_str().unwrap().to_string()).collect();
    let crate_root = read("tests/main.rs");
    let modules = crate_root.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let missing: Vec<&str> = rooms.iter().map(String::as_str).chain(modules).filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "not in tests/README.md: {missing:?}");

    let mut count = 0;
    for row in
        map.lines().skip_while(|line| !line.starts_with("| Room")).skip(2).take_while(|line| line.starts_with('|'))
    {
        let cells: Vec<&str> = row.split('|').collect();
        for (below, cell) in [("tests", cells[2]), ("tests/faults", cells[3])] {
            for quoted in cell.split('`').skip(1).step_by(2) {
                let (dir, files) = quoted.split_once("/{").unwrap_or((quoted, ""));
                for file in files.trim_end_matches('}').split(',') {
                    let module = format!("{below}/{dir}/{file}").trim_end_matches('/').to_string();
                    let target = format!("tests/fuzz/targets/{quoted}.rs");
                    let places = [module.clone(), format!("{module}.rs"), target];
                    let exists = quoted == "cargo mutants" || places.iter().any(|place| source::path(place).exists());
                    assert!(exists, "tests/README.md names {module}, which is nowhere");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 40, "the map is written differently: {count}");
}
