//! Files on Windows: what can fail says that it is not supported yet, and a question is answered with no.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::unsupported;
use crate::os::files::{FileId, FileKey, Others, Usage};

/// A directory that stays the same one, wherever its name leads by now.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn open(_path: &Path) -> io::Result<Directory> {
        Err(unsupported())
    }

    /// Whether others than we may make entries here.
    pub fn admits_others(&self) -> bool {
        true
    }

    pub fn entry(&self, name: OsString) -> Place {
        Place { directory: self.clone(), name }
    }

    /// The names in it, as far as it can be read: not at all yet.
    pub fn names(&self) -> impl Iterator<Item = OsString> + use<> {
        std::iter::empty()
    }

    /// Puts the names in it on the disk.
    pub fn sync(&self) -> io::Result<()> {
        Err(unsupported())
    }
}

/// A name in a directory that is held open, and all that is done with it.
#[derive(Clone, Debug)]
pub struct Place {
    directory: Directory,
    name: OsString,
}

impl Place {
    /// The name itself, whatever is there.
    pub fn new(_path: &Path) -> io::Result<Place> {
        Err(unsupported())
    }

    /// Where a path leads, through links that may be followed.
    pub fn followed(_path: &Path) -> io::Result<Place> {
        Err(unsupported())
    }

    pub fn beside(&self, name: OsString) -> Place {
        self.directory.entry(name)
    }

    pub fn name(&self) -> &OsStr {
        &self.name
    }

    pub fn path(&self) -> PathBuf {
        self.directory.0.join(&self.name)
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What is there; `None` if there is nothing.
    pub fn look(&self) -> io::Result<Option<Metadata>> {
        Err(unsupported())
    }

    /// The content of a regular file of at most so many bytes.
    pub fn read(&self, _max_bytes: u64) -> io::Result<Vec<u8>> {
        Err(unsupported())
    }

    /// A file that was not there, for writing; only its owner may read it.
    pub fn create_private(&self) -> io::Result<File> {
        Err(unsupported())
    }

    /// That it cannot be done is no failure.
    pub fn give_to_owner_of_directory(&self, _file: &File) {}

    /// Gives a new file the owner and access list of the one that it will replace. False if there is none.
    pub fn give_owner_and_mode(&self, _file: &File) -> io::Result<bool> {
        Err(unsupported())
    }

    /// Gives what is here the name `target`, in place of what has it; at no time is there nothing.
    pub fn rename(&self, _target: &Place) -> io::Result<()> {
        Err(unsupported())
    }

    /// Gives what is here the name `other`, too.
    pub fn link(&self, _other: &Place) -> io::Result<()> {
        Err(unsupported())
    }

    pub fn remove(&self) -> io::Result<()> {
        Err(unsupported())
    }

    /// Removes what no living process holds.
    pub fn remove_unheld(&self) -> io::Result<()> {
        Err(unsupported())
    }

    /// Windows has no mounts of single files.
    pub fn is_mounted(&self) -> bool {
        false
    }
}

/// Content for a child that may not read the file which has it.
pub fn in_memory(_content: &[u8]) -> io::Result<File> {
    Err(unsupported())
}

/// Where a child that inherits the handle finds it.
pub fn path_in_child(_file: &File) -> PathBuf {
    PathBuf::new()
}

/// What lets a user replace a file in another's directory.
pub fn command_to_link(_path: &Path, _target: &Path) -> Option<String> {
    None
}

/// Nobody is root here.
pub fn confine(_path: &Path, _usage: Usage, _others: &Others) -> io::Result<()> {
    Ok(())
}

/// With all above it that are missing; no other user may look into what is made.
pub fn make_private_directory(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// As `make_private_directory`, but every user may look into it.
pub fn make_readable_directory(_path: &Path) -> io::Result<()> {
    Err(unsupported())
}

/// Locks a new file until it is closed; false when `remove_unheld` has got hold of it before.
pub fn hold(_file: &File) -> bool {
    true
}

/// Which file is at `path`, through links; `None` when there is none.
pub fn identity(_path: &Path) -> io::Result<Option<FileId>> {
    Err(unsupported())
}

/// Reads a file to its end without leaving it in the page cache.
pub fn read_through(_path: &Path, _take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
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

pub fn is_script(_path: &Path) -> bool {
    false
}

pub fn is_readable_by_all(_meta: &Metadata) -> bool {
    false
}

/// Reading where another user may have planted something.
pub mod safe_open {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use super::unsupported;
    use crate::os::files::{FileId, Others};

    /// The content of a regular file of at most so many bytes.
    pub fn read(_path: &Path, _max_bytes: u64) -> io::Result<Vec<u8>> {
        Err(unsupported())
    }

    /// A regular file for reading.
    pub fn open(_path: &Path) -> io::Result<File> {
        Err(unsupported())
    }

    /// As `open`, of a file that says what is to be done; and who else could have written it.
    pub fn open_to_obey(_path: &Path) -> io::Result<(File, Option<Others>)> {
        Err(unsupported())
    }

    /// Which file is at `path`, through links that may be followed.
    pub fn identity(_path: &Path) -> io::Result<Option<FileId>> {
        Err(unsupported())
    }

    /// For a file that another program is to read by its name: whether `read` would.
    pub fn look(_path: &Path) -> io::Result<()> {
        Err(unsupported())
    }
}

pub fn key(_meta: &Metadata) -> FileKey {
    FileKey { device: 0, inode: 0 }
}

pub fn socket_at(_path: &Path) -> Option<FileKey> {
    None
}

pub fn remove_dead_socket(_path: &Path, _known: FileKey) -> io::Result<bool> {
    Ok(false)
}
