//! Users: who runs this process, who owns a file, who is at the other end of a connection, and what rights a user has.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid};

use super::files::others;
use crate::os::files::{self, Place};

/// Bytes of passwd(5) or group(5): 100,000 users.
const MAX_TABLE: u64 = 8 * 1024 * 1024;

/// The group of a user who is in no table: `nogroup`, which owns nothing (the kernel's overflow id). A file's own group
/// would be no proof, since a directory with the set-group-id bit hands its group down.
const NO_GROUP: u32 = 65534;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User(pub(super) u32);

impl User {
    /// With whose rights this process runs.
    pub fn current() -> User {
        User(rustix::process::geteuid().as_raw())
    }

    /// `None` when there is no such file, or it cannot be looked at.
    pub fn owner_of(path: &Path) -> Option<User> {
        let meta = Place::followed(path).and_then(|place| place.look()).ok().flatten()?;
        Some(User(meta.uid()))
    }

    pub fn is_root(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}", self.0)
    }
}

/// A user's rights, for a process that is to have no others (credentials(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// All of them.
    pub(super) groups: Vec<Gid>,
}

impl Credentials {
    pub fn of_user(user: User) -> Credentials {
        // Without the name service, which may ask the network: who is only known there has no group of his own here.
        let table = |path: &str| files::read(Path::new(path), MAX_TABLE).unwrap_or_default();
        let [users, groups] = ["/etc/passwd", "/etc/group"].map(table);
        Credentials::from_tables(user.0, &String::from_utf8_lossy(&users), &String::from_utf8_lossy(&groups))
    }

    pub fn user(&self) -> User {
        User(self.uid.as_raw())
    }

    fn from_tables(uid: u32, users: &str, groups: &str) -> Credentials {
        let entry = |line: &str| -> Option<(String, u32)> {
            let fields: Vec<&str> = line.split(':').collect();
            let gid = fields.get(3)?.parse().ok()?;
            (fields[2].parse() == Ok(uid)).then(|| (fields[0].to_string(), gid))
        };
        let (name, gid) = users.lines().find_map(entry).unwrap_or((String::new(), NO_GROUP));
        let membership = |line: &str| -> Option<u32> {
            let fields: Vec<&str> = line.split(':').collect();
            let is_member = fields.get(3)?.split(',').any(|member| !name.is_empty() && member == name);
            fields[2].parse().ok().filter(|_| is_member)
        };
        let all = [gid].into_iter().chain(groups.lines().filter_map(membership));
        // What is no id is none that a process could have (chown(2)).
        let groups = all.filter(|&gid| gid != u32::MAX).map(Gid::from_raw).collect();
        Credentials { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups }
    }
}

/// Where root runs this process: the other users who could have put something else in the place of files.
#[derive(Debug, Default)]
pub struct Owners {
    /// With what is theirs.
    found: Vec<(u32, PathBuf)>,
    /// A group or everybody could: what, and the command that ends it.
    others: Option<String>,
}

/// What is at a path.
pub struct Content {
    /// `None` when there is nothing.
    pub bytes: Option<Vec<u8>>,
    /// Whether its name may lead to something else by now.
    pub may_change: bool,
}

impl Owners {
    /// Who owns what is at `path`, or a directory on the way to it that is not root's.
    pub fn add(&mut self, path: &Path) -> io::Result<()> {
        if !files::is_root() {
            return Ok(());
        }
        let place = nearest(path)?;
        let found = place.handle()?;
        self.add_found(&place, found.as_ref().map(|(file, _)| file))
    }

    /// As `add`, of the very file that is read.
    ///
    /// # Errors
    /// As for `safe_open::read`.
    pub fn read(&mut self, path: &Path, max_bytes: u64) -> io::Result<Content> {
        let place = match Place::followed(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.add(path)?;
                return Ok(Content { bytes: None, may_change: true });
            }
            place => place?,
        };
        let file = match place.open_safely() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened?),
        };
        if files::is_root() {
            self.add_found(&place, file.as_ref())?;
        }
        let read = |file: &File| files::read_opened(file, max_bytes).map_err(|error| files::named(path, error));
        Ok(Content { bytes: file.as_ref().map(read).transpose()?, may_change: place.may_change() })
    }

    fn add_found(&mut self, place: &Place, file: Option<&File>) -> io::Result<()> {
        let before = self.found.len();
        let named = |error| files::named(&place.path(), error);
        let meta = file.map(File::metadata).transpose().map_err(named)?;
        let file_owner = meta.as_ref().map(|meta| (meta.uid(), place.path()));
        let owners = file_owner.into_iter().chain(place.owners_on_the_way(meta.as_ref()));
        self.found.extend(owners.filter(|(uid, _)| *uid != 0));
        if self.found.len() == before
            && let Some(others) = others(place, file).map_err(named)?
        {
            self.others.get_or_insert(others.reason);
        }
        Ok(())
    }

    /// Of the one user who could; `None` if only root could.
    ///
    /// # Errors
    /// Several users could, or a group or everybody: what, and what to do.
    pub fn credentials(&self) -> io::Result<Option<Credentials>> {
        let denied = |reason| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        let Some((uid, theirs)) = self.found.first() else {
            return self.others.clone().map_or(Ok(None), denied);
        };
        match self.found.iter().find(|(other, _)| other != uid) {
            Some((other, path)) => {
                let (theirs, path) = (theirs.display(), path.display());
                denied(format!(
                    "{theirs} belongs to user {uid} and {path} to user {other}: give both to one user, or to root: \
                     run: chown {uid} {path}"
                ))
            }
            None => Ok(Some(Credentials::of_user(User(*uid)))),
        }
    }
}

/// Where the path leads, or as far as there is anything; or the link on the way that another user may have created.
fn nearest(path: &Path) -> io::Result<Place> {
    for path in path.ancestors() {
        match Place::followed(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if files::is_planted(&error) => {
                if let Ok(place) = Place::new(path) {
                    return Ok(place);
                }
            }
            place => return place,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_groups_that_the_tables_say() {
        let users = "root:x:0:0:root:/root:/bin/sh\n#c\nbroken\nkmagent:x:997:990::/nonexistent:/bin/false\n";
        let groups = "root:x:0:\nadm:x:4:syslog,kmagent\ndocker:x:101:kmagentx\nbad\nkmagent:x:990:\nx:x:7:kmagent";
        let found = |uid, users: &str| {
            let found = Credentials::from_tables(uid, users, groups);
            (found.gid.as_raw(), found.groups.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>())
        };
        assert_eq!(found(997, users), (990, vec![990, 4, 7]));
        for unknown in [(998, users), (997, "")] {
            assert_eq!(found(unknown.0, unknown.1), (NO_GROUP, vec![NO_GROUP]), "{unknown:?}");
        }
        assert_eq!(Credentials::from_tables(997, users, groups).user().to_string(), "user 997");
    }

    #[test]
    fn who_owns_a_file_or_a_directory_above_it_could_replace_it() {
        use super::super::files::test_dir::{Dir, write};
        use std::os::unix::fs::{chown, symlink};

        let dir = Dir::new();
        let (inner, link) = (dir.join("inner"), dir.join("link"));
        let file = inner.join("config.yaml");
        std::fs::create_dir(&inner).unwrap();
        write(&file, "");
        symlink(&file, &link).unwrap();
        let owner = |path: &Path| {
            let mut owners = Owners::default();
            owners.add(path).unwrap();
            owners.credentials().unwrap().map(|found| found.uid.as_raw())
        };
        assert_eq!(owner(&file), None);
        if !crate::needs::root() {
            return;
        }
        for (place, of_missing) in [(&file, None), (&inner, Some(65534))] {
            chown(place, Some(65534), Some(0)).unwrap();
            assert_eq!((owner(&file), owner(&link)), (Some(65534), Some(65534)), "{}", place.display());
            assert_eq!(owner(&inner.join("missing")), of_missing);
            chown(place, Some(0), Some(0)).unwrap();
        }
        // A link of root's own, whose file is yet to be made.
        let made = dir.join("made");
        symlink(inner.join("missing"), &made).unwrap();
        chown(&inner, Some(65534), None).unwrap();
        assert_eq!(owner(&made), Some(65534));
        chown(&inner, Some(0), None).unwrap();
        assert_eq!(owner(&made), None);
        chown(dir.path(), Some(65534), None).unwrap();
        assert_eq!(owner(&file), Some(65534));
    }
}
