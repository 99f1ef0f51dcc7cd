//! What a disk may hold after a power failure: a model of files and directories, fed with the system calls that strace
//! saw.
//!
//! A file's content is certain after its fsync(2), a name after its directory's. Of the names that are not certain, a
//! journal keeps those that were changed first, so every number of them may have made it; a content that is not certain
//! may be whole or gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files by path; what a power failure leaves.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create(PathBuf),
    Truncate(PathBuf),
    Write(PathBuf, Vec<u8>),
    /// Of a file or of a directory.
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Unlink(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    certain: Vec<u8>,
}

/// A change of one directory.
#[derive(Clone, Debug)]
enum Change {
    Set(PathBuf, usize),
    Remove(PathBuf),
    Move(PathBuf, PathBuf, usize),
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    certain: BTreeMap<PathBuf, usize>,
    /// Oldest first.
    uncertain: Vec<Change>,
}

impl Disk {
    /// All that is there already is certain.
    pub fn new(files: &Files) -> Disk {
        let mut disk = Disk::default();
        for (path, content) in files {
            disk.names.insert(path.clone(), disk.inodes.len());
            disk.inodes.push(Inode { content: content.clone(), certain: content.clone() });
        }
        disk.certain = disk.names.clone();
        disk
    }

    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Create(path) => {
                self.inodes.push(Inode::default());
                self.change(Change::Set(path.clone(), self.inodes.len() - 1));
            }
            Step::Truncate(path) => {
                if let Some(&inode) = self.names.get(path) {
                    self.inodes[inode].content.clear();
                }
            }
            Step::Write(path, bytes) => {
                if let Some(&inode) = self.names.get(path) {
                    self.inodes[inode].content.extend_from_slice(bytes);
                }
            }
            Step::Sync(path) => match self.names.get(path) {
                Some(&inode) => self.inodes[inode].certain = self.inodes[inode].content.clone(),
                None => self.sync_directory(path),
            },
            Step::Rename(from, to) => {
                if let Some(&inode) = self.names.get(from) {
                    self.change(Change::Move(from.clone(), to.clone(), inode));
                }
            }
            Step::Link(from, to) => {
                if let Some(&inode) = self.names.get(from) {
                    self.change(Change::Set(to.clone(), inode));
                }
            }
            Step::Unlink(path) => {
                if self.names.contains_key(path) {
                    self.change(Change::Remove(path.clone()));
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.uncertain.push(change);
    }

    fn sync_directory(&mut self, directory: &Path) {
        let (synced, others) = std::mem::take(&mut self.uncertain).into_iter().partition(|change| match change {
            Change::Set(path, _) | Change::Remove(path) | Change::Move(path, ..) => path.parent() == Some(directory),
        });
        for change in &synced {
            apply(&mut self.certain, change);
        }
        let _: Vec<Change> = synced;
        self.uncertain = others;
    }

    /// All that may be left if the power fails now.
    pub fn remains(&self) -> BTreeSet<Files> {
        let mut all = BTreeSet::new();
        for kept in 0..=self.uncertain.len() {
            let mut names = self.certain.clone();
            self.uncertain[..kept].iter().for_each(|change| apply(&mut names, change));
            for is_lost in [true, false] {
                let content = |inode: &usize| {
                    let inode = &self.inodes[*inode];
                    if is_lost { inode.certain.clone() } else { inode.content.clone() }
                };
                all.insert(names.iter().map(|(path, inode)| (path.clone(), content(inode))).collect());
            }
        }
        all
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Set(path, inode) => _ = names.insert(path.clone(), *inode),
        Change::Remove(path) => _ = names.remove(path),
        Change::Move(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
    }
}

/// The steps below `root`, with paths relative to it, of what `strace -f -y` wrote.
pub fn steps(trace: &Path, root: &Path) -> Vec<Step> {
    let text = fs::read_to_string(trace).unwrap();
    let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
    let mut steps = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let call = if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, start.to_string());
            continue;
        } else if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            unfinished.remove(pid).unwrap_or_default() + end
        } else {
            rest.to_string()
        };
        steps.extend(step(&call).and_then(|step| below(step, root)));
    }
    steps
}

/// `None` for a call that failed, or that changes no file.
fn step(call: &str) -> Option<Step> {
    let (call, result) = call.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    let (name, arguments) = call.split_once('(')?;
    let strings = strings(arguments);
    // `-y`: 3</the/directory>, "name"
    let string = |index: usize| {
        let (before, bytes) = strings.get(index)?;
        let directory = before.strip_suffix(">, ").and_then(|before| before.rsplit_once('<')).map_or("", |it| it.1);
        Some(Path::new(directory).join(String::from_utf8_lossy(bytes).into_owned()))
    };
    // `-y`: 3</the/path>
    let opened = |text: &str| Some(PathBuf::from(text.split_once('<')?.1.split_once('>')?.0));
    match name {
        "open" | "openat" | "creat" if call.contains("O_CREAT") && call.contains("O_EXCL") => {
            Some(Step::Create(string(0)?))
        }
        "open" | "openat" if call.contains("O_TRUNC") => Some(Step::Truncate(string(0)?)),
        "write" => Some(Step::Write(opened(arguments)?, strings.first()?.1.clone())),
        "fsync" | "fdatasync" => Some(Step::Sync(opened(arguments)?)),
        "rename" | "renameat" | "renameat2" => Some(Step::Rename(string(0)?, string(1)?)),
        "link" | "linkat" => Some(Step::Link(string(0)?, string(1)?)),
        "unlink" | "unlinkat" => Some(Step::Unlink(string(0)?)),
        _ => None,
    }
}

fn below(step: Step, root: &Path) -> Option<Step> {
    let own = |path: PathBuf| path.strip_prefix(root).ok().map(Path::to_path_buf);
    Some(match step {
        Step::Create(path) => Step::Create(own(path)?),
        Step::Truncate(path) => Step::Truncate(own(path)?),
        Step::Write(path, bytes) => Step::Write(own(path)?, bytes),
        Step::Sync(path) => Step::Sync(own(path)?),
        Step::Rename(from, to) => Step::Rename(own(from)?, own(to)?),
        Step::Link(from, to) => Step::Link(own(from)?, own(to)?),
        Step::Unlink(path) => Step::Unlink(own(path)?),
    })
}

/// What stands between double quotes, with C's escapes undone, after what is before it.
fn strings(arguments: &str) -> Vec<(&str, Vec<u8>)> {
    let mut found = Vec::new();
    let mut bytes = arguments.bytes().enumerate().map(|(at, byte)| (byte, at)).peekable();
    while let Some((_, quote)) = bytes.by_ref().find(|&(byte, _)| byte == b'"') {
        let mut string = Vec::new();
        while let Some((byte, _)) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => match bytes.next().map(|(byte, _)| byte) {
                    Some(b'n') => string.push(b'\n'),
                    Some(b't') => string.push(b'\t'),
                    Some(b'r') => string.push(b'\r'),
                    Some(digit @ b'0'..=b'7') => {
                        let mut value = u32::from(digit - b'0');
                        // Of three at most: what follows a shorter one is written with three.
                        for _ in 0..2 {
                            let Some((digit @ b'0'..=b'7', _)) = bytes.peek().copied() else { break };
                            value = value * 8 + u32::from(digit - b'0');
                            bytes.next();
                        }
                        string.push(value as u8);
                    }
                    Some(other) => string.push(other),
                    None => {}
                },
                other => string.push(other),
            }
        }
        found.push((&arguments[..quote], string));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Files {
        entries.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect()
    }

    fn remains(steps: &[Step]) -> BTreeSet<Files> {
        let mut disk = Disk::new(&files(&[("etc/config", "old")]));
        steps.iter().for_each(|step| disk.take(step));
        disk.remains()
    }

    /// The negative control of all that stands on this: what was not synced may be lost, and is.
    #[test]
    fn a_rename_without_a_sync_may_leave_an_empty_file() {
        let path = |text: &str| PathBuf::from(text);
        let create = Step::Create(path("etc/new"));
        let write = Step::Write(path("etc/new"), b"new".to_vec());
        let rename = Step::Rename(path("etc/new"), path("etc/config"));
        let careless = remains(&[create.clone(), write.clone(), rename.clone()]);
        assert!(careless.contains(&files(&[("etc/config", "")])), "{careless:?}");
        let careful = remains(&[create, write, Step::Sync(path("etc/new")), rename]);
        assert_eq!(
            careful,
            BTreeSet::from([
                files(&[("etc/config", "old")]),
                files(&[("etc/config", "old"), ("etc/new", "new")]),
                files(&[("etc/config", "new")]),
            ])
        );
    }

    #[test]
    fn strace_is_understood() {
        let root = Path::new("/r");
        let own = |call: &str| step(call).and_then(|step| below(step, root));
        let path = |text: &str| PathBuf::from(text);
        for (call, expected) in [
            (
                r#"openat(AT_FDCWD</>, "/r/etc/new", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 9</r/etc/new>"#,
                Some(Step::Create(path("etc/new"))),
            ),
            (r#"openat(AT_FDCWD</>, "/r/etc/new", O_WRONLY|O_CREAT|O_EXCL, 0600) = -1 EEXIST (File exists)"#, None),
            (
                r#"write(9</r/etc/new>, "a: \"b\"\n\33\\", 10) = 10"#,
                Some(Step::Write(path("etc/new"), b"a: \"b\"\n\x1b\\".to_vec())),
            ),
            (r#"write(2<pipe:[5]>, "log", 3) = 3"#, None),
            (r#"fsync(9</r/etc>) = 0"#, Some(Step::Sync(path("etc")))),
            (r#"rename("/r/etc/new", "/r/etc/config") = 0"#, Some(Step::Rename(path("etc/new"), path("etc/config")))),
            (
                r#"linkat(AT_FDCWD</>, "/r/etc/config", AT_FDCWD</>, "/r/etc/kept", 0) = 0"#,
                Some(Step::Link(path("etc/config"), path("etc/kept"))),
            ),
            (r#"unlink("/r/etc/kept") = 0"#, Some(Step::Unlink(path("etc/kept")))),
            (r#"unlinkat(7</r/etc>, "kept", 0) = 0"#, Some(Step::Unlink(path("etc/kept")))),
            (
                r#"renameat(7</r/etc>, "new", 8</r/state>, "old") = 0"#,
                Some(Step::Rename(path("etc/new"), path("state/old"))),
            ),
        ] {
            assert_eq!(own(call), expected, "{call}");
        }
    }
}
