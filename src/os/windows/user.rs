//! Users: who runs this process, who owns a file, who is at the other end of a connection, and what rights a user has.

use std::fmt;
use std::io;
use std::path::Path;

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
    /// No process runs with another user's rights here.
    pub fn of_owner(_path: &Path) -> io::Result<Option<Credentials>> {
        Ok(None)
    }

    pub fn user(&self) -> User {
        User
    }
}
