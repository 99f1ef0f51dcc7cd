//! Builds what a Dockerfile says, as far as ours goes: an unknown instruction, flag or variable is a failure, so that
//! nothing in the file can go untested.
//!
//! No engine is needed: our image takes nothing but files. Semantics are those of BuildKit
//! (docs.docker.com/reference/dockerfile).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an engine knows of an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// Its root file system.
    pub root: PathBuf,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub volumes: Vec<String>,
    pub ports: Vec<String>,
    pub stop_signal: String,
    pub healthcheck: Healthcheck,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Healthcheck {
    /// Of `--interval` and so on.
    pub options: BTreeMap<String, String>,
    pub test: Vec<String>,
}

/// One instruction, its continuation lines joined.
#[derive(Clone, Debug)]
struct Instruction {
    word: String,
    rest: String,
}

struct Stage {
    name: String,
    base: String,
    instructions: Vec<Instruction>,
}

pub struct Dockerfile {
    path: PathBuf,
    /// The arguments before the first stage, and those of the platform.
    args: BTreeMap<String, String>,
    stages: Vec<Stage>,
}

impl Dockerfile {
    /// For an architecture as Go names it.
    pub fn read(path: &Path, arch: &str) -> Dockerfile {
        let mut file = Dockerfile { path: path.to_path_buf(), args: BTreeMap::new(), stages: Vec::new() };
        file.args.insert("TARGETARCH".into(), arch.into());
        for instruction in instructions(&fs::read_to_string(path).unwrap()) {
            match (instruction.word.as_str(), file.stages.last_mut()) {
                ("FROM", _) => {
                    let text = expand(&instruction.rest, &file.args);
                    let (base, name) = match text.split_whitespace().collect::<Vec<_>>()[..] {
                        [base] => (base.to_string(), String::new()),
                        [base, "AS", name] => (base.to_string(), name.to_string()),
                        _ => panic!("cannot read FROM {text}"),
                    };
                    file.stages.push(Stage { name, base, instructions: Vec::new() });
                }
                ("ARG", None) => {
                    let (name, value) = instruction.rest.split_once('=').expect("a global ARG without a default");
                    file.args.insert(name.into(), value.into());
                }
                (word, None) => panic!("{word} before the first FROM"),
                (_, Some(stage)) => stage.instructions.push(instruction),
            }
        }
        file
    }

    /// `--build-arg`.
    pub fn with(mut self, name: &str, value: &str) -> Dockerfile {
        let old = self.args.insert(name.into(), value.into());
        assert!(old.is_some(), "there is no ARG {name}");
        self
    }

    /// Its last stage, from the files in `context`; the root file system is made below `to`, which must not exist.
    pub fn build(&self, context: &Path, to: &Path) -> Image {
        fs::create_dir(to).unwrap();
        let ignored = fs::read_to_string(format!("{}.dockerignore", self.path.display())).unwrap();
        let context = Context { directory: context.to_path_buf(), ignored: instructions_of_ignore(&ignored) };
        self.build_stage(self.stages.len() - 1, &context, to)
    }

    fn build_stage(&self, number: usize, context: &Context, to: &Path) -> Image {
        let stage = &self.stages[number];
        let root = to.join(number.to_string());
        let mut image = match (stage.base.as_str(), self.stages.iter().position(|it| it.name == stage.base)) {
            ("scratch", _) => {
                fs::create_dir(&root).unwrap();
                Image { stop_signal: "SIGTERM".into(), ..Image::default() }
            }
            (_, Some(base)) => {
                let base = self.build_stage(base, context, to);
                run(Command::new("cp").args(["-al", "--"]).arg(&base.root).arg(&root));
                base
            }
            (base, None) => panic!("there is nothing to stand in for the image {base}"),
        };
        image.root = root;
        let mut args = BTreeMap::new();
        for instruction in &stage.instructions {
            self.perform(instruction, &mut image, &mut args, context, to);
        }
        image
    }

    fn perform(
        &self,
        instruction: &Instruction,
        image: &mut Image,
        args: &mut BTreeMap<String, String>,
        context: &Context,
        to: &Path,
    ) {
        let known: BTreeMap<String, String> =
            args.iter().chain(&image.env).map(|(k, v)| (k.clone(), v.clone())).collect();
        let text = expand(&instruction.rest, &known);
        match instruction.word.as_str() {
            "ARG" => {
                let value = self.args.get(&text).unwrap_or_else(|| panic!("ARG {text} has no value"));
                args.insert(text, value.clone());
            }
            "ADD" | "COPY" => {
                let (options, rest) = options(&text);
                let mut words: Vec<&str> = rest.split_whitespace().collect();
                let target = image.root.join(words.pop().unwrap().trim_start_matches('/'));
                let is_directory = rest.ends_with('/');
                let from = options.get("from").map(|name| {
                    let number = self.stages.iter().position(|stage| stage.name == *name);
                    let number = number.unwrap_or_else(|| panic!("COPY --from={name}: no such stage"));
                    let built = to.join(number.to_string());
                    if built.is_dir() { built } else { self.build_stage(number, context, to).root }
                });
                for word in words {
                    let sources = match &from {
                        Some(root) => matches(root, word.trim_start_matches('/')),
                        None => context.matches(word),
                    };
                    assert!(!sources.is_empty(), "{} {word}: there is no such file", instruction.word);
                    for source in sources {
                        if instruction.word == "ADD" {
                            assert!(options.is_empty() && is_directory, "cannot read ADD {text}");
                            unpack(&source, &target);
                        } else {
                            let link = from.is_some() && !options.contains_key("chmod");
                            copy(&source, &target, is_directory, link, options.get("chmod").map(String::as_str));
                        }
                    }
                }
                let unknown = options.keys().find(|name| !["from", "chmod"].contains(&name.as_str()));
                assert!(unknown.is_none(), "unknown option: {text}");
            }
            "ENV" => image.env.extend(pairs(&text)),
            "LABEL" => image.labels.extend(pairs(&text)),
            "VOLUME" => image.volumes.extend(exec_form(&text)),
            "EXPOSE" => image.ports.extend(text.split_whitespace().map(str::to_string)),
            "STOPSIGNAL" => image.stop_signal = text,
            "ENTRYPOINT" => image.entrypoint = exec_form(&text),
            "CMD" => image.cmd = exec_form(&text),
            "HEALTHCHECK" => {
                let (options, rest) = options(&text);
                let test = exec_form(rest.strip_prefix("CMD ").expect("HEALTHCHECK without CMD"));
                image.healthcheck = Healthcheck { options, test };
            }
            other => panic!("unknown instruction {other} {text}: teach it to tests/containers/dockerfile.rs"),
        }
    }
}

/// What is sent to the builder.
struct Context {
    directory: PathBuf,
    ignored: Vec<String>,
}

impl Context {
    fn matches(&self, pattern: &str) -> Vec<PathBuf> {
        let found = matches(&self.directory, pattern);
        for path in &found {
            let path = path.strip_prefix(&self.directory).unwrap();
            assert!(self.is_sent(path), "{} is not sent to the builder: see .dockerignore", path.display());
        }
        found
    }

    /// The last pattern that fits the path, or a directory that it is in, decides.
    fn is_sent(&self, path: &Path) -> bool {
        let fits = |pattern: &str| path.ancestors().any(|part| glob(pattern, part.to_str().unwrap()));
        let last = self.ignored.iter().rfind(|pattern| fits(pattern.trim_start_matches('!')));
        last.is_none_or(|pattern| pattern.starts_with('!'))
    }
}

fn instructions_of_ignore(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_string).collect()
}

/// Joins what is continued; comments may stand in between.
fn instructions(text: &str) -> Vec<Instruction> {
    let mut found = Vec::new();
    let mut open = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(part) => open += part,
            None => {
                let whole = std::mem::take(&mut open) + line;
                let (word, rest) = whole.split_once(' ').unwrap_or_else(|| panic!("cannot read {whole}"));
                found.push(Instruction { word: word.to_string(), rest: rest.trim().to_string() });
            }
        }
    }
    assert!(open.is_empty(), "the last line is continued");
    found
}

/// `--name=value` at the beginning, and what follows.
fn options(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(' ').unwrap();
        let (name, value) = option.split_once('=').unwrap_or_else(|| panic!("cannot read {text}"));
        found.insert(name.to_string(), value.to_string());
        rest = after.trim_start();
    }
    (found, rest)
}

/// `${NAME}` and `$NAME`.
fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut parts = text.split('$');
    let mut expanded = parts.next().unwrap().to_string();
    for part in parts {
        let (name, rest) = match part.strip_prefix('{') {
            Some(braced) => braced.split_once('}').expect("an open brace"),
            None => part.split_at(part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len())),
        };
        expanded += known.get(name).unwrap_or_else(|| panic!("unknown variable {name} in {text}"));
        expanded += rest;
    }
    expanded
}

fn exec_form(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("there is no shell for {text}: write it as JSON"))
}

/// `name=value`, the value quoted or without blanks.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=').unwrap_or_else(|| panic!("cannot read {text}"));
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("an open quote"),
            None => value.split_at(value.find(' ').unwrap_or(value.len())),
        };
        found.insert(name.to_string(), value.to_string());
        rest = after.trim_start();
    }
    found
}

/// The files below `root` that a pattern stands for.
fn matches(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_path_buf()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let children = |directory: &PathBuf| -> Vec<PathBuf> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.filter(|entry| glob(part, entry.file_name().to_str().unwrap())).map(|entry| entry.path()).collect()
        };
        found = found.iter().flat_map(children).collect();
    }
    found
}

/// `*` is anything within a name.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let within = rest.find('/').unwrap_or(rest.len());
            (0..=within).any(|at| rest.is_char_boundary(at) && glob(after, &rest[at..]))
        }),
    }
}

/// A tarball, by its content and not its name.
fn unpack(source: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    run(Command::new("tar").args(["--numeric-owner", "-xf"]).arg(source).arg("-C").arg(target));
}

/// What is in a directory, or a file; `link` when the source is ours and stays as it is.
fn copy(source: &Path, target: &Path, is_directory: bool, link: bool, mode: Option<&str>) {
    let into = if is_directory { target } else { target.parent().unwrap() };
    fs::create_dir_all(into).unwrap();
    let mut command = Command::new("cp");
    command.args(["-dR", "--preserve=mode,timestamps", "--no-target-directory"]);
    if link {
        command.arg("--link");
    }
    let from = if source.is_dir() { source.join(".") } else { source.to_path_buf() };
    let to = if is_directory && source.is_file() { target.join(source.file_name().unwrap()) } else { target.into() };
    run(command.arg("--").arg(from).arg(&to));
    if let Some(mode) = mode {
        assert!(source.is_file(), "--chmod of a directory");
        let mode = u32::from_str_radix(mode, 8).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_it_does_not_know_is_a_failure() {
    let directory = super::TempDir::new();
    let path = directory.join("Dockerfile");
    fs::write(directory.join("Dockerfile.dockerignore"), "*\n!sent\n").unwrap();
    fs::create_dir(directory.join("sent")).unwrap();
    for (number, (instruction, expected)) in [
        ("RUN true", Some("unknown instruction RUN")),
        ("COPY --link sent/ /", Some("cannot read")),
        ("COPY --parents=x sent/ /", Some("unknown option")),
        ("COPY Dockerfile /", Some("is not sent")),
        ("COPY absent /", Some("no such file")),
        ("COPY --from=absent / /", Some("no such stage")),
        ("CMD kmagent start", Some("no shell")),
        ("ENV A=$B", Some("unknown variable B")),
        ("ENV A=b \\\n  # between\n  C=\"d $A e\"", Some("unknown variable A")),
        ("ENV A=\"b c\" \\\n  # between\n  C=d", None),
        ("COPY sent/ /", None),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&path, format!("FROM scratch\n{instruction}\n")).unwrap();
        let to = directory.join(number.to_string());
        let built = std::panic::catch_unwind(|| Dockerfile::read(&path, "amd64").build(directory.path(), &to));
        let problem = built.err().map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default());
        match (&problem, expected) {
            (None, None) => {}
            (Some(problem), Some(expected)) if problem.contains(expected) => {}
            _ => panic!("{instruction}: {problem:?}, not {expected:?}"),
        }
    }
}
