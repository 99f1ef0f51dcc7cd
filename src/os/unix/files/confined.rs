//! Paths that come from a settings file which another user can change: root uses them only where what they lead to is
//! that user's affair.
//!
//! Where root writes it is if directory and file belong to such a user; what root reads, if it does or every user can
//! read it. Judged is each walk to such a path, so what is exchanged after the settings were read is refused when it is
//! used. Paths that root itself names are not in here.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use super::walk::{Directory, Last, Walked};
use super::{Place, is_readable_by_all, safe_open};
use crate::os::files::{Others, Usage};

/// One for each path and usage.
static CONFINED: Mutex<Vec<Rule>> = Mutex::new(Vec::new());

#[derive(Clone, Debug)]
struct Rule {
    path: PathBuf,
    usage: Usage,
    users: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Relation {
    Same,
    Below,
    Above,
}

/// From now on this path is used as said above.
///
/// # Errors
/// It cannot be used so: why. Who has named it is not heard then, and it is used as it was before. That nothing is
/// there is no error, if such a user's directory is where it would be made.
pub fn confine(path: &Path, usage: Usage, others: &Others) -> io::Result<()> {
    if others.users.is_empty() {
        return Err(denied(format!("{} may be the wish of more than one user", path.display())));
    }
    let rule = Rule { path: path.to_path_buf(), usage, users: others.users.clone() };
    let former = replace(path, usage, Some(rule.clone()));
    let used = match usage {
        Usage::Read => safe_open::open(path).map(|_| ()),
        Usage::Replace => Place::followed(path).map(|_| ()),
        Usage::Fill => Directory::open(path).map(|_| ()),
    };
    let used = match used {
        Err(error) if error.kind() == io::ErrorKind::NotFound && usage == Usage::Read => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => rule.check_nearest_directory(),
        used => used,
    };
    if used.is_err() {
        replace(path, usage, former);
    }
    used
}

/// The one that there was.
fn replace(path: &Path, usage: Usage, rule: Option<Rule>) -> Option<Rule> {
    let mut rules = CONFINED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = rules.iter().position(|known| (known.path.as_path(), known.usage) == (path, usage));
    let former = known.map(|index| rules.remove(index));
    rules.extend(rule);
    former
}

impl Rule {
    fn relation(&self, path: &Path) -> Option<Relation> {
        match (path.starts_with(&self.path), self.path.starts_with(path)) {
            (true, true) => Some(Relation::Same),
            (true, false) => Some(Relation::Below),
            (false, true) => Some(Relation::Above),
            (false, false) => None,
        }
    }

    fn check_nearest_directory(&self) -> io::Result<()> {
        for path in self.path.ancestors().skip(1) {
            match Directory::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => {
                    let directory = opened?;
                    return self.check_owner(&directory.path, "a directory", directory.meta.uid());
                }
            }
        }
        Ok(())
    }

    fn check_owner(&self, path: &Path, what: &str, owner: u32) -> io::Result<()> {
        if self.users.contains(&owner) {
            return Ok(());
        }
        Err(denied(format!("{} is {what} of user {owner}, not of {}", path.display(), names(&self.users))))
    }
}

/// What a walk has to heed.
pub(super) struct Confinement {
    rules: Vec<(Rule, Relation)>,
    /// Owners of directories on the way that not every user may pass.
    closed: Vec<u32>,
}

impl Confinement {
    pub(super) fn of(path: &Path) -> Confinement {
        let rules = CONFINED.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rules.iter().filter_map(|rule| Some((rule.clone(), rule.relation(path)?)));
        Confinement { rules: found.collect(), closed: Vec::new() }
    }

    pub(super) fn pass(&mut self, directory: &Directory) {
        if !self.rules.is_empty() && directory.meta.mode() & 0o001 == 0 {
            self.closed.push(directory.meta.uid());
        }
    }

    fn written(&self) -> impl Iterator<Item = &(Rule, Relation)> {
        self.rules.iter().filter(|(rule, _)| rule.usage != Usage::Read)
    }

    pub(super) fn is_written(&self) -> bool {
        self.written().next().is_some()
    }

    /// Of one in which another is to be made.
    pub(super) fn check_directory(&self, directory: &Directory) -> io::Result<()> {
        self.written().try_for_each(|(rule, _)| rule.check_owner(&directory.path, "a directory", directory.meta.uid()))
    }

    pub(super) fn check(&self, walked: &Walked, last: Last) -> io::Result<()> {
        let Walked { directory, name, .. } = walked;
        for (rule, relation) in &self.rules {
            let is_used = match (rule.usage, relation) {
                (Usage::Replace, Relation::Same) => last == Last::Followed,
                (Usage::Fill, Relation::Same) => name.is_none(),
                (Usage::Fill, Relation::Below) => true,
                _ => false,
            };
            if !is_used {
                continue;
            }
            rule.check_owner(&directory.path, "a directory", directory.meta.uid())?;
            if let (Usage::Replace, Some(name)) = (rule.usage, name)
                && let Ok((_, meta)) = directory.look(name, OFlags::NOFOLLOW)
            {
                rule.check_owner(&directory.path.join(name), "a file", meta.uid())?;
            }
        }
        Ok(())
    }

    pub(super) fn into_readers(self) -> Option<Readers> {
        let is_read = |(rule, relation): &&(Rule, Relation)| rule.usage == Usage::Read && *relation == Relation::Same;
        let users = self.rules.iter().find(is_read)?.0.users.clone();
        let is_open = self.closed.iter().all(|owner| users.contains(owner));
        Some(Readers { users, is_open })
    }
}

/// Whose affair a file has to be that is read.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    users: Vec<u32>,
    /// They can reach it, as every user can.
    is_open: bool,
}

impl Readers {
    pub(super) fn check(&self, path: &Path, file: &Metadata) -> io::Result<()> {
        if self.users.contains(&file.uid()) || self.is_open && is_readable_by_all(file) {
            return Ok(());
        }
        let owner = file.uid();
        let text = format!("{} is a file of user {owner} that {} may not read", path.display(), names(&self.users));
        Err(denied(text))
    }
}

fn names(users: &[u32]) -> String {
    let users: Vec<_> = users.iter().map(|user| format!("user {user}")).collect();
    users.join(" or ")
}

fn denied(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}
