//! Where values come from, and which of them holds: environment, then flags, then the settings file, then the default.
//!
//! It collects every problem and warning on the way, and a row for `--print-settings` per setting. Every value given is
//! checked, also one that a higher source outranks, so that a broken settings file shows at once and not on the day
//! when the variable goes away. It knows the order of sources, not what any one setting means.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::file::{self, Problem, SettingsFile};
use super::origin::Origin;
use super::print::Row;
use super::table::{self, Fallback, Kind, Setting};
use super::{Ignored, parse};
use super::{last_good, list};
use crate::os::files::{self, Others, Usage};

/// Settings that are run.
const COMMANDS: [&str; 3] = ["collector", "collector-args", "on-change"];

/// The value that a setting was given, by the source that ranks highest.
#[derive(Debug)]
pub struct ResolvedValue<T> {
    pub value: T,
    pub text: String,
    pub origin: Origin,
}

/// Parses a text and keeps its value, unless it has one. Fails with what is wrong with the text.
type Accept<'a> = dyn FnMut(&str) -> Result<(), String> + 'a;

pub struct Layers<'a> {
    flags: &'a [(&'static str, String)],
    env: &'a dyn Fn(&str) -> Option<OsString>,
    file_path: PathBuf,
    file: SettingsFile,
    /// For root: which other users can change the file.
    others: Option<Others>,
    /// Whether environment or flags name the settings file.
    named: bool,
    /// The file that stands for the settings file, if that is bad.
    last_good: Option<PathBuf>,
    pub rows: Vec<Row>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    pub ignored: Option<Ignored>,
}

impl<'a> Layers<'a> {
    /// Reads the settings file that environment or flags name, or else `default_file`, if it exists.
    pub fn open(
        flags: &'a [(&'static str, String)],
        env: &'a dyn Fn(&str) -> Option<OsString>,
        default_file: &Path,
    ) -> Layers<'a> {
        let mut layers = Layers::find(flags, env, default_file);
        layers.problems.append(&mut layers.file.problems);
        layers.warnings.append(&mut layers.file.warnings);
        if layers.file.is_empty {
            let kept = layers.last_good_path();
            last_good::problem_of_empty(&layers.file_path, &kept).into_iter().for_each(|text| layers.problem(text));
        }
        layers
    }

    /// The same with the last good settings in the file's place; `None` if there are none. They are looked for in the
    /// state directory that environment and flags name, or the bad file, or else in the default one.
    pub fn open_last_good(
        flags: &'a [(&'static str, String)],
        env: &'a dyn Fn(&str) -> Option<OsString>,
        default_file: &Path,
    ) -> Option<Layers<'a>> {
        let mut layers = Layers::find(flags, env, default_file);
        let path = layers.last_good_path();
        let bad = std::mem::take(&mut layers.file);
        layers.file = last_good::read(path.parent()?, &layers.file_path, bad)?;
        layers.problems.append(&mut layers.file.problems);
        layers.warnings.append(&mut layers.file.warnings);
        layers.last_good = Some(path);
        Some(layers)
    }

    /// Where they are, if there are any.
    pub fn last_good_path(&mut self) -> PathBuf {
        let named = self.winner("state-dir", parse::path).map(|won| won.value);
        named.unwrap_or_else(|| self.value("state-dir", parse::path)).join(last_good::FILE_NAME)
    }

    /// What a later start may fall back to; `None` of what was kept for that.
    pub fn to_keep(&self) -> Option<String> {
        (!self.is_last_good()).then(|| last_good::text(&self.file_path, &self.file.entries))
    }

    pub fn is_last_good(&self) -> bool {
        self.last_good.is_some()
    }

    /// Whether there is a policy of which nothing is known.
    pub fn is_policy_lost(&self) -> bool {
        self.file.policy_lost
    }

    fn find(
        flags: &'a [(&'static str, String)],
        env: &'a dyn Fn(&str) -> Option<OsString>,
        default_file: &Path,
    ) -> Layers<'a> {
        let mut layers = Layers {
            flags,
            env,
            file_path: default_file.to_path_buf(),
            file: SettingsFile::default(),
            others: None,
            named: false,
            last_good: None,
            rows: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            ignored: None,
        };
        let named = layers.winner("agent-config", parse::path);
        if let Some(named) = &named {
            layers.file_path.clone_from(&named.value);
        }
        layers.named = named.is_some();
        layers.file = file::load(&layers.file_path, layers.named);
        layers.others = layers.file.others.take();
        if let Some(others) = layers.others.clone() {
            layers.ignore_commands(&others.reason);
        }
        let source = match (named, layers.file.found) {
            (Some(named), _) => named.origin.to_string(),
            (None, true) => "default".to_string(),
            (None, false) => "default, does not exist".to_string(),
        };
        let value = layers.file_path.display().to_string();
        layers.row("agent-config", &value, &source);
        layers
    }

    /// What the file would have root run is not taken from it: it says what another user wants.
    fn ignore_commands(&mut self, others: &str) {
        let names: Vec<_> = COMMANDS.into_iter().filter(|name| self.line_of(name).is_some()).collect();
        self.file.entries.retain(|entry| !COMMANDS.contains(&entry.setting.name));
        if !names.is_empty() {
            let (what, file) = (names.join(" and "), self.file_path.display());
            let reason = format!("root ignores {what} in {file}, which another user can change: {others}");
            self.warnings.push(reason.clone());
            self.ignored = Some(Ignored { names, reason });
        }
    }

    /// The line of the settings file, if the value is from there.
    fn line_of(&self, name: &str) -> Option<usize> {
        let entry = self.file.entries.iter().find(|entry| entry.setting.name == name)?;
        let is_set = (self.env)(entry.setting.env).is_some_and(|text| !text.is_empty()) || self.has_flag(name);
        (!is_set).then_some(entry.line)
    }

    /// Whether root may use a path: not one that another user has named, unless it is what it would be without that, or
    /// leads to what is that user's affair. A problem if not.
    pub fn may_use(&mut self, name: &'static str, path: &Path, usage: Usage) -> bool {
        let (Some(others), Some(line)) = (&self.others, self.line_of(name)) else { return true };
        let default = match (name, table::find(name).map(|setting| setting.fallback)) {
            ("api-key-file", _) => Some(self.beside_settings_file("api-key")),
            ("policy", _) => Some(self.beside_settings_file("policy.yaml")),
            (_, Some(Fallback::Value(text))) => Some(PathBuf::from(text)),
            _ => None,
        };
        if default.is_some_and(|default| default == path) {
            return true;
        }
        let Err(cause) = files::confine(path, usage, others) else { return true };
        let (file, path) = (self.file_path.display(), path.display());
        let text =
            format!("{file}:{line}: {name}: root does not use {path}, which another user can have named: {cause}");
        // One command helps all of them: said once, below them.
        let remedy = format!("{file}: another user can change it: {}", others.reason);
        self.problems.retain(|problem| problem.text != remedy);
        self.problems.push(Problem { line, text });
        self.problems.push(Problem { line: usize::MAX, text: remedy });
        false
    }

    /// Whether the user named a settings file of which nothing is known.
    pub fn cannot_read_named_file(&self) -> bool {
        self.named && self.file.unknown
    }

    pub fn settings_file(&self) -> &Path {
        &self.file_path
    }

    /// A file of that name in the directory of the settings file, whether that one exists or not.
    pub fn beside_settings_file(&self, name: &str) -> PathBuf {
        self.file_path.with_file_name(name)
    }

    pub fn has_flag(&self, name: &str) -> bool {
        self.flags.iter().any(|(flag, text)| *flag == name && !text.is_empty())
    }

    /// Notes a problem that is not about a line of the settings file.
    pub fn problem(&mut self, text: String) {
        self.problems.push(Problem { line: 0, text });
    }

    pub fn row(&mut self, key: &'static str, value: &str, source: &str) {
        let row = Row::new(key, value, source);
        match self.rows.binary_search_by_key(&table::position(key), |row| table::position(row.key)) {
            Ok(at) => self.rows[at] = row,
            Err(at) => self.rows.insert(at, row),
        }
    }

    /// The variable as text; that it is not UTF-8 is a problem. Empty counts as unset.
    pub fn variable(&mut self, name: &str) -> Option<String> {
        match (self.env)(name)?.into_string() {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(text),
            Err(_) => {
                self.problem(format!("{name}: the value is not UTF-8"));
                None
            }
        }
    }

    /// The value of the highest source, without a row. Problems are collected for every source.
    pub fn winner<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<ResolvedValue<T>> {
        let mut value = None;
        let (text, origin) = self.highest(name, &mut |text| {
            value.get_or_insert(parse(text)?);
            Ok(())
        })?;
        Some(ResolvedValue { value: value?, text, origin })
    }

    /// The highest of what was given that `accept` takes, to which the others come too.
    fn highest(&mut self, name: &str, accept: &mut Accept<'_>) -> Option<(String, Origin)> {
        let setting = table::find(name).expect("a row of the table");
        let mut highest = None;
        for (text, origin) in self.given(setting) {
            match accept(&text) {
                Ok(()) => highest = highest.or(Some((text, origin))),
                Err(cause) => self.problems.push(problem(setting, &text, &origin, &cause)),
            }
        }
        highest
    }

    /// The value that holds, with its row; `None` if it is absent, or computed by the caller, who then adds the row.
    pub fn take<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let mut value = None;
        self.settle(name, &mut |text| {
            value.get_or_insert(parse(text)?);
            Ok(())
        });
        value
    }

    /// Adds the row of the value that holds, which is the first that `accept` takes.
    fn settle(&mut self, name: &'static str, accept: &mut Accept<'_>) {
        if let Some((text, origin)) = self.highest(name, accept) {
            return self.row(name, &text, &origin.to_string());
        }
        match table::find(name).expect("a row of the table").fallback {
            Fallback::Value(text) => {
                self.row(name, text, "default");
                accept(text).expect("a default that parses");
            }
            Fallback::Absent(meaning) => self.row(name, &format!("({meaning})"), "default"),
            Fallback::Computed => {}
        }
    }

    /// As `take`, for a setting whose default is a value.
    pub fn value<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.take(name, parse).expect("a setting with a default")
    }

    /// As `take`, for a path, which is shown as it will be used.
    pub fn path(&mut self, name: &'static str, usage: Usage) -> Option<PathBuf> {
        let path = self.take(name, parse::path)?;
        self.may_use(name, &path, usage);
        self.show(name, &path.display().to_string());
        Some(path)
    }

    /// As `path`, for several.
    pub fn paths(&mut self, name: &'static str, usage: Usage) -> Option<Vec<PathBuf>> {
        let paths = self.take(name, parse::paths)?;
        for path in &paths {
            self.may_use(name, path, usage);
        }
        self.show(name, &list::of_items(paths.iter().filter_map(|path| path.to_str())));
        Some(paths)
    }

    /// Shows a value as it will be used.
    pub fn show(&mut self, name: &'static str, value: &str) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.key == name) {
            *row = Row::new(name, value, &row.source);
        }
    }

    /// What was given for the setting, highest source first.
    fn given(&mut self, setting: &'static Setting) -> Vec<(String, Origin)> {
        let mut flags = self.flags.iter().filter(|(name, _)| *name == setting.name).map(|(_, text)| text.as_str());
        let (variable, flag) = match setting.kind {
            Kind::List => {
                let variable = self.variable(setting.env).map(|text| list::of_items(text.split_whitespace()));
                (variable, Some(list::of_items(flags)))
            }
            // As is usual for flags, the last one counts: what a wrapper gives can be overridden by appending.
            _ => (self.variable(setting.env), flags.next_back().map(str::to_string)),
        };
        let is_given = |text: &String| !text.is_empty();
        let variable = variable.filter(is_given).map(|text| (text, Origin::Environment(setting.env)));
        let flag = flag.filter(is_given).map(|text| (text, Origin::Flag(setting.name)));
        if let (Some((one, _)), Some((other, _))) = (&variable, &flag)
            && one != other
        {
            self.warnings.push(format!("{} in the environment overrides --{}", setting.env, setting.name));
        }
        let entry = self.file.entries.iter().find(|entry| entry.setting == setting);
        let entry = entry.map(|entry| {
            let path = self.last_good.as_ref().filter(|_| last_good::is_kept(entry)).unwrap_or(&self.file_path);
            (entry.text.clone(), Origin::File { path: path.clone(), line: entry.line })
        });
        variable.into_iter().chain(flag).chain(entry).collect()
    }
}

fn problem(setting: &Setting, text: &str, origin: &Origin, cause: &str) -> Problem {
    let (line, place) = match origin {
        Origin::Environment(name) => (0, name.to_string()),
        Origin::Flag(name) => (0, format!("--{name}")),
        Origin::File { path, line } => (*line, format!("{}:{line}: {}", path.display(), setting.name)),
    };
    let text = match setting.kind {
        Kind::Secret => format!("{place}: the value {cause}"),
        Kind::Text | Kind::List | Kind::Switch | Kind::NotInFile => {
            format!("{place}: {:?} {cause}", table::masked(setting.name, text))
        }
    };
    Problem { line, text }
}
