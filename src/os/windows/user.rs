//! Users: who runs this process, who owns a file, who is at the other end of a connection, and what rights a user has.

use std::fmt;
use std::io;
use std::path::Path;

use crate::os::files::safe_open;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User;

impl User {
    /// With whose rights this process runs.
    pub fn current() -> User {
        User
    }

    /// `None` when there is no such file, or it cannot be looked at.
    pub fn owner_of(_path: &Path) -> Option<User> {
        None
    }

    pub fn is_root(self) -> bool {
        false
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user")
    }
}

/// A user's rights, for a process that is to have no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials;

impl Credentials {
    pub fn of_user(_user: User) -> Credentials {
        Credentials
    }

    pub fn user(&self) -> User {
        User
    }
}

/// The other users who could have put something else in the place of files.
#[derive(Debug, Default)]
pub struct Owners;

/// What is at a path.
pub struct Content {
    /// `None` when there is nothing.
    pub bytes: Option<Vec<u8>>,
    /// Whether its name may lead to something else by now.
    pub may_change: bool,
}

impl Owners {
    pub fn add(&mut self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    pub fn read(&mut self, path: &Path, max_bytes: u64) -> io::Result<Content> {
        let bytes = safe_open::read(path, max_bytes)?;
        Ok(Content { bytes: Some(bytes), may_change: true })
    }

    /// No process runs with another user's rights here.
    pub fn credentials(&self) -> io::Result<Option<Credentials>> {
        Ok(None)
    }
}
