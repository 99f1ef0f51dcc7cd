//! Files on Windows: what can fail says that it is not supported yet, and a question is answered with no.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::unsupported;
use crate::os::files::FileId;

/// A file that was not there, for writing; only its owner may read it.
pub fn create_private(_path: &Path) -> io::Result<fs_err::File> {
    Err(unsupported())
}

/// Content for a child that may not read the file which has it.
pub fn in_memory(_content: &[u8]) -> io::Result<File> {
    Err(unsupported())
}

/// Where a child that inherits the handle finds it.
pub fn path_in_child(_file: &File) -> PathBuf {
    PathBuf::new()
}

/// Gives a new file the owner and access list of the one that it will replace.
pub fn keep_owner_and_mode(_file: &File, _path: &Path, _replaced: &Metadata) -> io::Result<()> {
    Err(unsupported())
}

/// That it cannot be done is no failure.
pub fn give_to_owner_of_directory(_file: &File, _path: &Path) {}

/// With all above it that are missing; no other user may look into what is made.
pub fn make_private_directory(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// As `make_private_directory`, but every user may look into it.
pub fn make_readable_directory(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// Gives the file at `source` the name `target`, in place of what has it; at no time is there nothing.
pub fn replace(_source: &Path, _target: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// Puts the names in a directory on the disk.
pub fn sync_directory(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// Windows has no mounts of single files.
pub fn is_mounted(_path: &Path) -> bool {
    false
}

/// The names in a directory, as far as it can be read: not at all yet.
pub fn names(_directory: &Path) -> impl Iterator<Item = OsString> {
    std::iter::empty()
}

/// Locks a new file until it is closed; false when `remove_unheld` has got hold of it before.
pub fn hold(_file: &File) -> bool {
    true
}

/// Removes what no living process holds.
pub fn remove_unheld(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// Which file is at `path`, through links; `None` when there is none.
pub fn identity(_path: &Path) -> io::Result<Option<FileId>> {
    Err(unsupported())
}

/// For reading.
pub fn open_regular(_path: &Path) -> io::Result<File> {
    Err(unsupported())
}

/// Made if it is missing.
pub fn open_lock(_path: &Path) -> io::Result<File> {
    Err(unsupported())
}

/// The process that holds a lock on the file, as far as it is known.
pub fn lock_holder(_file: &File) -> Option<u32> {
    None
}

/// Whether an ordinary user's files must not decide what runs.
pub fn is_root() -> bool {
    false
}

/// Whether nobody but the system and administrators can have put it there, or can change it.
pub fn owner_may_command(_path: &Path) -> bool {
    false
}

pub fn is_program(_path: &Path) -> bool {
    false
}

pub fn is_readable_by_all(_meta: &Metadata) -> bool {
    false
}

/// Reading where another user may have planted something.
pub mod safe_open {
    use std::io;
    use std::path::{Path, PathBuf};

    use super::unsupported;

    /// The content of a regular file of at most so many bytes.
    pub fn read(_path: &Path, _max_bytes: u64) -> io::Result<Vec<u8>> {
        Err(unsupported())
    }

    /// For a file that another program is to read by its name: whether `read` would.
    pub fn look(_path: &Path) -> io::Result<()> {
        Err(unsupported())
    }

    /// Where a path leads, through the links that may be followed; there need not be anything.
    pub fn resolve(_path: &Path) -> io::Result<PathBuf> {
        Err(unsupported())
    }

    /// Whether others than we may make files in the directory of `path`: yes, so that nothing is linked there.
    pub fn is_shared(_path: &Path) -> bool {
        true
    }
}
