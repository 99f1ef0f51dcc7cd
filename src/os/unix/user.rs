//! Users: who runs this process, who owns a file, who is at the other end of a connection.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::os::files::Place;

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
