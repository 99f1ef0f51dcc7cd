//! DESIGN.md against the source and the program: each citation of it has its heading, its rooms are the directories of
//! `src`, and its examples have the shape of what an agent really sends, answers and keeps.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::source::{self, read};
use crate::support::wait::DEADLINE;

const PAGE: &str = "DESIGN.md";

/// Not Rust, and with comments or texts that may cite the page.
const OTHER_FILES: [&str; 4] = ["CONTRIBUTING.md", "Cargo.toml", "README.md", "tests/dependencies"];

fn headings() -> Vec<String> {
    read(PAGE).lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_string).collect()
}

/// Every Rust file below a directory of the repository, by its path in it.
fn rust_files(directory: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![root.join(directory)];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let (inner, leaves): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(|path| path.is_dir());
        directories.extend(inner.into_iter().filter(|path| !path.ends_with("target")));
        files.extend(leaves.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")));
    }
    files.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
}

/// The text of a file on one line, without the marks of its comments; of Rust the comments only.
fn prose(name: &str, text: &str) -> String {
    let part = |line: &str| -> Option<String> {
        let text = match (name.ends_with(".rs"), name.ends_with(".md")) {
            (true, _) => line.split_once("//")?.1.trim_start_matches(['/', '!']),
            (_, true) => line,
            _ => line.split_once('#')?.1,
        };
        Some(text.trim().to_string())
    };
    text.lines().filter_map(part).collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The headings that a text cites.
fn citations(prose: &str) -> Vec<&str> {
    let mark = format!("{PAGE}, \"");
    let starts: Vec<usize> = prose.match_indices(&mark).map(|(at, mark)| at + mark.len()).collect();
    starts.into_iter().filter_map(|start| prose[start..].split('"').next()).collect()
}

/// What a text has to cite DESIGN.md for, and does not: pages and sections that are nowhere in the repository.
fn strays(prose: &str) -> Vec<String> {
    let words: Vec<&str> = prose.split(' ').map(|word| word.trim_matches(['(', ')', ',', '.', ';', ':'])).collect();
    let is_number = |word: &str| !word.is_empty() && word.split('.').all(|part| part.parse::<u8>().is_ok());
    let is_stray = |words: &[&str]| match words {
        [design, section, ..] if design.eq_ignore_ascii_case("design") && section.starts_with("section") => true,
        [design, number, ..] if design.eq_ignore_ascii_case("design") && is_number(number) => true,
        [article, "design", ..] => article.eq_ignore_ascii_case("the"),
        ["reference", number, ..] => is_number(number),
        ["design.md" | "design-2.md", ..] => true,
        _ => false,
    };
    (0..words.len())
        .filter(|at| is_stray(&words[*at..]))
        .map(|at| words[at..].iter().take(3).copied().collect::<Vec<_>>().join(" "))
        .collect()
}

/// What is wrong with a text's citations, each with the file's name.
fn problems(name: &str, text: &str, headings: &[String]) -> Vec<String> {
    let prose = prose(name, text);
    let unknown = citations(&prose).into_iter().filter(|cited| !headings.iter().any(|heading| heading == cited));
    let unknown = unknown.map(|cited| format!("{name}: {PAGE} has no heading {cited:?}"));
    let strays =
        strays(&prose).into_iter().map(|stray| format!("{name}: {stray:?} is nowhere: cite {PAGE} by heading"));
    unknown.chain(strays).collect()
}

#[test]
fn every_citation_has_its_heading() {
    let headings = headings();
    let mut files = [rust_files("src"), rust_files("tests")].concat();
    files.extend(OTHER_FILES.map(str::to_string));
    assert!(files.len() > 150, "{files:?}");
    let texts: Vec<(String, String)> = files.into_iter().map(|name| (name.clone(), read(&name))).collect();
    let problems: Vec<String> = texts.iter().flat_map(|(name, text)| problems(name, text, &headings)).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    let cited: usize = texts.iter().map(|(name, text)| citations(&prose(name, text)).len()).sum();
    assert!(cited > 10, "{cited} citations: are they written otherwise?");
}

/// The negative controls of the test above.
#[test]
fn a_citation_that_leads_nowhere_is_found() {
    let headings = ["States".to_string()];
    // In pieces, or this file would be found itself.
    let (word, number) = ("design", "1.1");
    let found = |name: &str, text: &str| problems(name, text, &headings).len();
    for (name, text, expected) in [
        ("a.rs", format!("//! As it is ({PAGE}, \"States\")."), 0),
        ("a.rs", format!("/// As it is ({PAGE}, \"No such\n    /// heading\")."), 1),
        ("a.rs", format!("let x = 1; // {PAGE}, \"Nothing\", and {PAGE}, \"States\""), 1),
        ("a.toml", format!("# {PAGE}, \"Nothing\""), 1),
        ("a.md", format!("see {PAGE}, \"Nothing\""), 1),
        ("a.rs", format!("/// Ten times that ({word} section 10)."), 1),
        ("a.rs", format!("/// Ten times that ({word},\n/// section 10)."), 1),
        ("a.rs", format!("//! Vectors of reference {number}, and what the {word} names."), 2),
        ("a.rs", "/// A date (RFC 9110, section 5.6.7), by reference, designed.".into(), 0),
        ("a.rs", "let text = \"the design\";".into(), 0),
    ] {
        assert_eq!(found(name, &text), expected, "{text}");
    }
}

#[test]
fn its_rooms_are_the_directories_of_src() {
    let page = read(PAGE);
    let section = page.split("\n## ").find(|section| section.starts_with("Rooms\n")).unwrap();
    let listed: BTreeSet<String> =
        section.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_string())).collect();
    let entries = fs::read_dir(source::path("src")).unwrap().map(|entry| entry.unwrap());
    let rooms = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap());
    assert_eq!(listed, rooms.collect());
}

/// The examples of the page: what is JSON in a line of its own, or between backquotes.
fn examples() -> Vec<Value> {
    let page = read(PAGE);
    let pieces = page.lines().flat_map(|line| std::iter::once(line).chain(line.split('`')));
    let json = pieces.filter(|piece| piece.starts_with('{')).filter_map(|piece| serde_json::from_str(piece).ok());
    json.collect()
}

/// The one example that has this key.
#[track_caller]
fn example(key: &str) -> Value {
    let mut found: Vec<Value> = examples().into_iter().filter(|example| example.get(key).is_some()).collect();
    found.dedup();
    assert_eq!(found.len(), 1, "{key}: {found:?}");
    found.remove(0)
}

/// Asserts that two values have the same keys, all the way down, and the same types, unless one of them is null.
#[track_caller]
fn assert_alike(example: &Value, real: &Value) {
    match (example, real) {
        (Value::Object(example), Value::Object(real)) => {
            assert_eq!(example.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>());
            example.iter().for_each(|(key, value)| assert_alike(value, &real[key]));
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => assert_eq!(std::mem::discriminant(example), std::mem::discriminant(real), "{example} {real}"),
    }
}

/// The last word, which may follow one that says how long it takes.
fn ask(agent: &Agent, request: &Value) -> Value {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        if answer.get("waiting").is_none() {
            return answer;
        }
        assert_alike(&example("waiting"), &answer);
    }
}

/// The requests to the control socket, as the page has them.
fn command(name: &str) -> Value {
    let found = examples().into_iter().find(|example| example["command"] == name);
    found.unwrap_or_else(|| panic!("the page has no request {name}"))
}

#[test]
fn its_examples_are_like_what_an_agent_says() {
    let api = Api::plain();
    let agent = Agent::builder().api(&api).setting("report-extended", true).config("fake: {}").spawn();
    let mut report = example("agent_status");
    assert_eq!(report.as_object().unwrap().len(), 9);
    report.as_object_mut().unwrap().extend(example("instance_id").as_object().unwrap().clone());
    let request = api.wait_for_next();
    assert_alike(&report, &request.json());
    assert_eq!(request.header("authorization"), Some("test-key"), "as it is, without a scheme");

    let answer = example("restart_required");
    api.answer(answer.clone());
    agent.wait_until("the config of the page", || serde_json::to_value(agent.config()).unwrap() == answer["config"]);
    agent.wait_status("its promotion", |status| status["collector"]["state"] == "running");
    assert_alike(&example("status"), &ask(&agent, &command("status")));
    assert_alike(&example("checked"), &ask(&agent, &command("check")));
    let line = agent.log().into_iter().find(|line| line.msg() == example("ts")["msg"]).expect("the line of the page");
    assert_alike(&example("ts"), &line.json);
    assert_eq!(example("ts")["target"], line.field("target"));

    api.answer_config(serde_json::json!({"fake": {"validate": "fail"}}));
    let kept =
        |name: &str| -> Option<Value> { serde_json::from_slice(&fs::read(agent.state_dir().join(name)).ok()?).ok() };
    assert_alike(&example("problem"), &agent.wait_for("a rejected revision", || kept("rejected.json")));
    assert_alike(&example("honoured_at"), &kept("restart-requests.json").unwrap());
    assert_alike(&example("stamp"), &kept("collector-version.json").unwrap());
    let list = |value: &Value| value["generations"].as_array().unwrap().clone();
    let generations = list(&kept("generations.json").unwrap());
    let unconfirmed = generations.iter().find(|entry| entry["standing"].get("unconfirmed").is_some());
    assert_alike(&list(&example("generations"))[0], unconfirmed.expect("one that has proved itself"));
    assert_alike(&example("done"), &ask(&agent, &command("reload")));
    assert_alike(&example("done"), &ask(&agent, &json!({"command": "restart"})));
    assert_eq!(ask(&agent, &command("stop")), "stopped");
}

#[test]
fn its_example_of_an_unfinished_install_is_like_the_file() {
    let api = Api::plain();
    let builder = Agent::builder().api(&api).config("fake: {}");
    let seen = builder.dir().join("seen.json");
    let record = builder.dir().join("state/unfinished-install.json");
    let agent = builder.setting("on-change", format!("cp {} {}", record.display(), seen.display())).build();
    api.answer_config(serde_json::json!({"fake": {}, "receivers": {}}));
    assert_eq!(agent.run(["--check"]).code, Some(0));
    assert_alike(&example("replaced"), &serde_json::from_slice(&fs::read(seen).unwrap()).unwrap());
}
