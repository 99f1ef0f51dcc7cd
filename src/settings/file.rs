//! The settings file: a YAML mapping of setting names to scalars → entries with line numbers, and everything wrong with
//! it.
//!
//! A value is kept as it stands in the file: `0123` and `1e5` stay what the user wrote. It checks names and shapes
//! only; what a value means is for `parse`. Reading never fails as a whole: problems are collected for one report.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::flat_yaml::{self, Pair, Shape};
use super::table::{self, Kind, SETTINGS, Setting};
use super::{list, suggest};
use crate::config::yaml;
use crate::os::error as os_error;
use crate::os::files::{self, Others, safe_open};

/// Ten times a settings file with a comment for each setting. It is read once for each line that is reported, and a
/// mistaken name (a collector's config, a log) should be noticed at once.
const MAX_BYTES: u64 = 64 * 1024;

/// Levels of brackets in a file that has none; its parser takes the square of their number.
const MAX_NESTING: usize = 64;

/// Enough to fix a file with; a file with more is not a settings file.
const MAX_PROBLEMS: usize = 20;

/// What is looked for in a file that is no mapping: where the agent and its last good settings are, and the program
/// and the policy that these do not name.
const ON_A_LINE: [&str; 5] = ["collector", "collector-args", "policy", "run-dir", "state-dir"];

/// Names that stand in settings files of the 1.x agent, as its documents had them; it ignored what it did not know.
const OLD_NAMES: [(&str, &str); 4] = [
    ("key", "api-key"),
    ("endpoint", "collector-endpoint"),
    ("interval", "config-check-interval"),
    ("debug", "\"log-level: debug\""),
];

#[derive(Debug)]
pub struct Entry {
    pub setting: &'static Setting,
    /// The scalar's own text, or that of a list; never empty.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// The file has the key more than once.
    pub is_repeated: bool,
}

/// One thing that is wrong with the settings.
#[derive(Debug)]
pub struct Problem {
    /// The line of the settings file, for the order of the report; 0 if it is not about a line of it, the largest
    /// number of what goes for those above.
    pub line: usize,
    /// One line, which begins with the place that the user must go to.
    pub text: String,
}

#[derive(Debug, Default)]
pub struct SettingsFile {
    /// Whether there is a file at all.
    pub found: bool,
    /// It could not be read as a mapping, so what it says is not known.
    pub unknown: bool,
    /// There is nothing in it, not even a comment: a host that lost its power while it was written leaves that.
    pub is_empty: bool,
    /// The last good settings stand in for it, and which policy it names is not known.
    pub policy_lost: bool,
    /// Of a file that is no mapping, some of `ON_A_LINE`.
    pub entries: Vec<Entry>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    /// For root: which other users could have written it.
    pub others: Option<Others>,
}

/// Reads the file at `path`. That there is none is a problem only if it `must_exist`.
pub fn load(path: &Path, must_exist: bool) -> SettingsFile {
    let name = path.display();
    match content(path, safe_open::open_to_obey(path), MAX_BYTES) {
        Ok(None) if !must_exist => SettingsFile::default(),
        Ok(None) => failed(format!("cannot read the settings file: {name}: it does not exist")),
        Err(cause) => failed(format!("cannot read the settings file: {name}: {cause}")),
        Ok(Some((text, open_to_all, others))) => {
            let mut file = parse(&name.to_string(), &text);
            if open_to_all && file.entries.iter().any(|entry| entry.setting.kind == Kind::Secret) {
                file.warnings.push(readable_by_all(path));
            }
            file.others = others;
            file
        }
    }
}

fn failed(text: String) -> SettingsFile {
    SettingsFile { found: true, unknown: true, problems: vec![Problem { line: 0, text }], ..SettingsFile::default() }
}

/// The warning of a file with the API key in it that every user can read.
pub fn readable_by_all(path: &Path) -> String {
    let name = path.display();
    format!("every user can read the API key in {name}: chmod o= {name}")
}

/// The text of a small file that root is to obey, and who else can change it.
pub fn read_to_obey(path: &Path, max_bytes: u64) -> Result<Option<(String, Option<Others>)>, String> {
    Ok(content(path, safe_open::open_to_obey(path), max_bytes)?.map(|(text, _, others)| (text, others)))
}

/// The text of a small file, and whether every user can read it; `None` if it does not exist. Fails with the cause.
pub fn read(path: &Path, max_bytes: u64) -> Result<Option<(String, bool)>, String> {
    let opened = safe_open::open(path).map(|file| (file, None));
    Ok(content(path, opened, max_bytes)?.map(|(text, open_to_all, _)| (text, open_to_all)))
}

type Opened = (File, Option<Others>);
type Content = (String, bool, Option<Others>);

fn content(path: &Path, opened: io::Result<Opened>, max_bytes: u64) -> Result<Option<Content>, String> {
    let (file, others) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(without_path(path, &error)),
    };
    let open_to_all = files::is_readable_by_all(&file.metadata().map_err(|error| error.to_string())?);
    let bytes = files::read_opened(&file, max_bytes).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())?;
    Ok(Some((text, open_to_all, others)))
}

/// The error of a file that a link leads to names that one.
fn without_path(path: &Path, error: &io::Error) -> String {
    let (text, name) = (error.to_string(), path.display().to_string());
    match text.strip_prefix(&name) {
        // Its remedy is in the text.
        Some(rest) if rest.starts_with(" is ") => format!("it{rest}"),
        Some(rest) => format!("{}{}", rest.trim_start_matches(": "), os_error::remedy_for_read(error)),
        None => format!("{text}{}", os_error::remedy_for_read(error)),
    }
}

pub(super) fn parse(name: &str, text: &str) -> SettingsFile {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut file = SettingsFile { found: true, is_empty: text.trim().is_empty(), ..SettingsFile::default() };
    let pairs = match yaml::nesting(text.as_bytes()) {
        0..=MAX_NESTING => flat_yaml::parse(text),
        _ => Err((1, "expected \"key: value\" lines, not nested lists or mappings".to_string())),
    };
    let pairs = match pairs {
        Ok(pairs) => pairs,
        Err((line, cause)) => {
            file.problems.push(Problem { line, text: format!("{name}:{line}: {cause}") });
            file.unknown = true;
            file.entries = ON_A_LINE.iter().filter_map(|name| on_a_line(text, name)).collect();
            return file;
        }
    };
    for (index, pair) in pairs.iter().enumerate() {
        let outcome = match pairs[..index].iter().position(|earlier| earlier.key == pair.key) {
            Some(first) => {
                for entry in file.entries.iter_mut().filter(|entry| entry.setting.name == pair.key) {
                    entry.is_repeated = true;
                }
                let first = flat_yaml::line_of(text, first);
                Err(format!("duplicate key {:?}: it is already on line {first}", pair.key))
            }
            None => accept(&pair.key, pair.shape),
        };
        match outcome {
            Ok(_) if pair.text.is_empty() => {}
            Ok(setting) => {
                let line = flat_yaml::line_of(text, index);
                file.entries.push(Entry { setting, text: text_of(setting, pair), line, is_repeated: false });
            }
            Err(_) if file.problems.len() == MAX_PROBLEMS => {
                file.problems.push(Problem { line: usize::MAX, text: format!("{name}: more problems follow") });
                break;
            }
            Err(cause) => {
                let line = flat_yaml::line_of(text, index);
                file.problems.push(Problem { line, text: format!("{name}:{line}: {cause}") });
            }
        }
    }
    file
}

fn text_of(setting: &Setting, pair: &Pair) -> String {
    match (setting.kind, pair.shape) {
        (Kind::List, Shape::Text) => list::of_items(pair.text.split_whitespace()),
        _ => pair.text.clone(),
    }
}

/// The setting of that name, if exactly one line of a text begins with it, and is whole by itself.
fn on_a_line(text: &str, name: &str) -> Option<Entry> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
    let at = lines.iter().position(begins)?;
    let is_whole = yaml::nesting(lines[at].as_bytes()) == 0
        && !lines[at + 1..].iter().any(begins)
        && !lines.get(at + 1).is_some_and(|next| next.starts_with([' ', '\t']));
    let pairs = if is_whole { flat_yaml::parse(lines[at]).ok()? } else { return None };
    let [pair] = &pairs[..] else { return None };
    let setting = accept(&pair.key, pair.shape).ok().filter(|_| !pair.text.is_empty())?;
    Some(Entry { setting, text: text_of(setting, pair), line: at + 1, is_repeated: false })
}

/// The setting that `key` names, if it may stand in a file with a value of that shape.
fn accept(key: &str, shape: Shape) -> Result<&'static Setting, String> {
    if let Some((_, now)) = OLD_NAMES.iter().find(|(old, _)| *old == key) {
        return Err(format!("unknown key {key:?}: write {now}"));
    }
    let Some(setting) = table::find(key) else {
        let known = SETTINGS.iter().filter(|setting| setting.kind != Kind::NotInFile).map(|setting| setting.name);
        return Err(format!("unknown key {key:?}{}", suggest::hint(key, known)));
    };
    match (setting.kind, shape) {
        (Kind::NotInFile, _) => {
            Err(format!("{key} names this file, so it cannot be set in it: use --{key} or {}", setting.env))
        }
        (_, Shape::Null) => Err(format!("{key} has no value: give one, or remove the line")),
        (Kind::List, Shape::List) => Ok(setting),
        (Kind::List, Shape::Collection) => Err(format!("{key} takes a list of texts: nothing else may be in it")),
        (_, Shape::List | Shape::Collection) => Err(format!("{key} is a list or a mapping: give a single value")),
        (Kind::Text | Kind::List | Kind::Secret, Shape::Boolean) => {
            Err(format!("{key} takes text: if true or false is meant, quote it"))
        }
        (Kind::Switch, Shape::Boolean) | (_, Shape::Text) => Ok(setting),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &SettingsFile) -> Vec<String> {
        file.problems.iter().map(|problem| problem.text.clone()).collect()
    }

    fn entries(text: &str) -> Vec<(&'static str, String, usize)> {
        let file = parse("f", text);
        assert!(file.problems.is_empty(), "{text}: {:?}", file.problems);
        file.entries.into_iter().map(|entry| (entry.setting.name, entry.text, entry.line)).collect()
    }

    #[test]
    fn values_stay_as_written() {
        for (text, expected) in [
            ("", vec![]),
            ("# nothing\n", vec![]),
            ("---\n", vec![]),
            ("null\n", vec![]),
            ("\u{feff}config: /a\n", vec![("config", "/a", 1)]),
            ("config: /a\r\ncollector: /b\r\n", vec![("config", "/a", 1), ("collector", "/b", 2)]),
            ("\n# x\nconfig-check-interval: 60\n", vec![("config-check-interval", "60", 3)]),
            ("config-check-interval: \"60s\"", vec![("config-check-interval", "60s", 1)]),
            ("api-key: 0123", vec![("api-key", "0123", 1)]),
            ("api-key: 1e5", vec![("api-key", "1e5", 1)]),
            ("api-key: 0x1F", vec![("api-key", "0x1F", 1)]),
            ("api-key: 123456789012345678901234567890", vec![("api-key", "123456789012345678901234567890", 1)]),
            (
                "api-key: 99999999999999999999999999999999999999999999",
                vec![("api-key", "99999999999999999999999999999999999999999999", 1)],
            ),
            ("api-key: 1_000", vec![("api-key", "1_000", 1)]),
            ("api-key: 'null'", vec![("api-key", "null", 1)]),
            ("api-key: \"\"\nconfig: /a", vec![("config", "/a", 2)]),
            ("docker-mode: true\nallow-http: 'yes'", vec![("docker-mode", "true", 1), ("allow-http", "yes", 2)]),
            ("host-name: yes", vec![("host-name", "yes", 1)]),
            ("{config: /a, collector: /b}", vec![("config", "/a", 1), ("collector", "/b", 1)]),
            (
                "on-change: |\n  collector: x\ncollector: /b",
                vec![("on-change", "collector: x\n", 1), ("collector", "/b", 3)],
            ),
            ("'config' : &a /x\nlocal-config: *a", vec![("config", "/x", 1), ("local-config", "/x", 2)]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(key, text, line)| (key, text.to_string(), line)).collect();
            assert_eq!(entries(text), expected, "{text}");
        }
    }

    #[test]
    fn reports_every_problem_with_its_line() {
        let file = parse(
            "f",
            "# a comment\n\ncolector: /x\napi-key:\ncollector: [a, b]\nconfig: {a: 1}\nhost-name: true\n\
             config: /b\nagent-config: /c\ndebug: true\nca-file: ~\nstop-timeout: 5s\nkey: k\nendpoint: e\ninterval: 1\n",
        );
        let expected = [
            "f:3: unknown key \"colector\": did you mean \"collector\"?",
            "f:4: api-key has no value: give one, or remove the line",
            "f:5: collector is a list or a mapping: give a single value",
            "f:6: config is a list or a mapping: give a single value",
            "f:7: host-name takes text: if true or false is meant, quote it",
            "f:8: duplicate key \"config\": it is already on line 6",
            "f:9: agent-config names this file, so it cannot be set in it: use --agent-config or KM_AGENT_CONFIG",
            "f:10: unknown key \"debug\": write \"log-level: debug\"",
            "f:11: ca-file has no value: give one, or remove the line",
            "f:13: unknown key \"key\": write api-key",
            "f:14: unknown key \"endpoint\": write collector-endpoint",
            "f:15: unknown key \"interval\": write config-check-interval",
        ];
        assert_eq!(texts(&file), expected);
        assert_eq!(file.entries.len(), 1);
    }

    #[test]
    fn reports_syntax_with_its_line_and_never_the_text() {
        for (text, line) in [
            ("config: /a\napi-key: \"SECRET\n", 2..=3),
            ("config: /a\n\tapi-key: SECRET\n", 2..=2),
            ("config: /a\napi-key: [SECRET\n", 2..=3),
            ("config: *SECRET\n", 1..=1),
            ("SECRET", 1..=1),
            ("- SECRET\n", 1..=1),
            ("config: /a\napi-key: !x SECRET\n", 2..=2),
            ("{SECRET: a}: b\n", 1..=1),
            ("config: /a\n---\nconfig: /SECRET\n", 1..=3),
            ("config: a: SECRET\n", 1..=1),
            ("config: /a\napi-key: SEC\u{0}RET\n", 1..=2),
        ] {
            let file = parse("f", text);
            let [problem] = &texts(&file)[..] else { panic!("{text}: {:?}", file.problems) };
            assert!(line.clone().any(|line| problem.starts_with(&format!("f:{line}: "))), "{text}: {problem}");
            assert!(!problem.contains("SECRET") && !problem.contains(" line "), "{text}: {problem}");
        }
    }

    /// A value that goes on in the next line, or stands twice, is not known.
    #[test]
    fn of_a_file_that_is_no_mapping_a_line_may_be_known() {
        for (text, expected) in [
            ("collector: /a b # c\nbad\tx: [\n", Some("/a b")),
            ("\"x\ncollector: '/a'\r\nx", Some("/a")),
            ("x: [\ncollector: /a\n  b\n", None),
            ("x: [\ncollector: |\n", None),
            ("x: [\ncollector: [/a]\n", None),
            ("x: [\ncollector: '/a\n'\n", None),
            ("x: [\ncollector: /a\ncollector: /b\n", None),
            ("x: [\ncollector:\n", None),
            ("x: [\n collector: /a\ncollectors: /a\n", None),
        ] {
            let file = parse("f", text);
            assert!(file.unknown && file.problems.len() == 1, "{text}");
            let found = file.entries.iter().find(|entry| entry.setting.name == "collector");
            assert_eq!(found.map(|entry| entry.text.as_str()), expected, "{text}");
        }
    }

    #[test]
    fn gives_up_after_many_problems() {
        let text: String = (0..5_000).map(|n| format!("k{n}: 1\n")).collect();
        let file = parse("f", &text);
        assert_eq!(file.problems.len(), MAX_PROBLEMS + 1);
        assert!(texts(&file)[MAX_PROBLEMS].contains("more problems"));
    }

    /// The largest of each kind; what is no limit's word here would take minutes, or gigabytes.
    #[test]
    fn what_would_take_long_is_refused() {
        let most = MAX_BYTES as usize;
        let aliases = |value: &str| {
            let start = format!("config: &x {value}\n");
            let count = (most - start.len()) / "k0000: *x\n".len();
            start + &(0..count).map(|n| format!("k{n:04}: *x\n")).collect::<String>()
        };
        for (text, problem) in [
            (aliases(&"x".repeat(most / 2)), "its YAML aliases expand to too much"),
            (aliases(&format!("[{}1]", "1,".repeat(most / 4))), "its YAML aliases expand to too much"),
            (format!("config: {}", "{a: ".repeat(most / 5)), "not nested lists or mappings"),
            ("[".repeat(most), "not nested lists or mappings"),
            ("? ".repeat(most / 2), "expected \"key: value\" lines"),
            ((0..most / 8).map(|n| format!("k{n:04}:\n")).collect(), "unknown key"),
        ] {
            let file = parse("f", &text);
            assert!(texts(&file)[0].contains(problem), "{:.60}: {:?}", text, texts(&file));
        }
    }

    #[test]
    #[cfg(unix)]
    fn files_on_disk() {
        use std::os::unix::fs::PermissionsExt;

        let dir = std::env::temp_dir().join(format!("kmagent-settings-file-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("agent.yaml");
        let missing = load(&path, false);
        assert!(!missing.found && missing.problems.is_empty());
        assert!(texts(&load(&path, true))[0].contains("agent.yaml: it does not exist"));
        assert!(!load(&dir, true).problems.is_empty(), "a directory is no settings file");
        for (bytes, mode, problem, warning) in [
            (b"api-key: abc\n".to_vec(), 0o600, None, None),
            (b"api-key: abc\n".to_vec(), 0o640, None, None),
            (b"api-key: abc\n".to_vec(), 0o644, None, Some("chmod o=")),
            (b"config: /a\n".to_vec(), 0o644, None, None),
            (b"config: \xff\n".to_vec(), 0o600, Some("not UTF-8"), None),
            (vec![b'#'; 64 * 1024], 0o600, None, None),
            (vec![b'#'; 64 * 1024 + 1], 0o600, Some("larger than 65536 bytes"), None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = load(&path, false);
            for (got, expected) in [(texts(&file), problem), (file.warnings, warning)] {
                assert_eq!(got.len(), usize::from(expected.is_some()), "{got:?}");
                assert!(got.iter().all(|line| line.contains(expected.unwrap_or_default())), "{got:?}");
            }
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
