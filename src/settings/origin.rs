//! Where a value comes from, as `--print-settings` and problems name it.

use std::fmt;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment(&'static str),
    Flag(&'static str),
    File { path: PathBuf, line: usize },
}

impl Origin {
    /// Lower wins.
    pub fn rank(&self) -> usize {
        match self {
            Origin::Environment(_) => 0,
            Origin::Flag(_) => 1,
            Origin::File { .. } => 2,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag --{name}"),
            Origin::File { path, line } => write!(f, "file {}:{line}", path.display()),
        }
    }
}
