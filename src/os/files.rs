//! Files as the operating systems differ in them: who may read and change them, which file it is, what another user may
//! have planted.
//!
//! ```text
//!   Place, Directory            a name in a directory that is held open, and all that is done with it: read, made,
//!                               replaced, removed, locked, whatever another user does to the path meanwhile
//!   safe_open                   reading by a path, where another user may have planted something
//!   open_regular, read, read_text
//!                               files of the kernel and the system, by name
//!   read_through                a file as large as a program, from its beginning to its end
//!   read_opened                 every file is read so: not more than a limit
//!   make_private_directory, make_readable_directory
//!   command_to_link             what lets a user replace a file in root's directory
//!   confine                     a path that another user has named, of which root uses only what is that user's affair
//!   hold                        a file that its process is about to put in place
//!   identity                    whether it is still the same file
//!   FileKey                     which file it is, whatever is done to it
//!   open_lock, lock_holder      the file that a lock is taken on, and the process that holds it
//!   socket_at, remove_dead_socket
//!                               the file of a Unix socket, which outlives a process that is killed
//!   is_planted                  why a path was refused
//!   is_root, owner_may_command, is_program, is_script, is_readable_by_all
//!   in_memory, path_in_child    content for a child that may not read the file which has it
//! ```
//! It knows nothing of configs and decides nothing.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::remedy_for_shortage;
pub use super::platform::files::{
    Directory, Place, command_to_link, confine, hold, identity, in_memory, is_program, is_readable_by_all, is_root,
    is_script, key, lock_holder, make_private_directory, make_readable_directory, open_lock, open_regular,
    owner_may_command, path_in_child, read_through, remove_dead_socket, safe_open, socket_at,
};

/// Who besides root could have written what root is about to obey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Others {
    /// Who it is, and the command that ends it.
    pub reason: String,
    /// Empty when it may be anybody.
    pub(super) users: Vec<u32>,
}

/// What a path is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Read,
    /// A file that is made or replaced.
    Replace,
    /// A directory in which files are made.
    Fill,
}

/// Tells whether a file is still the one that was seen. State files hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Of the last change, in nanoseconds since 1970.
    pub(super) changed: i128,
}

impl FileId {
    /// `None` when there is no such file, or it cannot be looked at.
    pub fn of(path: &Path) -> Option<FileId> {
        identity(path).ok().flatten()
    }
}

/// Which file it is, whatever is written to it and whatever its name is, as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileKey {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileKey {
    /// Of what is there itself, and not where a link leads; `None` when there is nothing. What cannot be looked at is
    /// not missing.
    pub fn of(path: &Path) -> io::Result<Option<FileKey>> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(key(&meta))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(named(path, error)),
        }
    }

    pub fn of_opened(file: &File) -> io::Result<FileKey> {
        file.metadata().map(|meta| key(&meta))
    }
}

/// A file as it was seen, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFile {
    pub path: PathBuf,
    /// `None` when it was missing, or could not be looked at.
    pub file: Option<FileId>,
}

impl SeenFile {
    pub fn now(path: &Path) -> SeenFile {
        SeenFile { path: path.to_path_buf(), file: FileId::of(path) }
    }

    pub fn has_changed(&self) -> bool {
        FileId::of(&self.path) != self.file
    }
}

/// Bytes of a file that the kernel makes: what a process can have as its environment is 6 MiB (execve(2)).
pub const MAX_KERNEL_FILE: u64 = 8 * 1024 * 1024;

/// The content of a regular file of the kernel or the system of at most so many bytes. Each caller says how many its
/// kind of file may have. Where others may write use `safe_open`.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    open_regular(path).and_then(|file| read_opened(&file, max_bytes)).map_err(|error| named(path, error))
}

/// As `read`; UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    let no_text = |_| named(path, io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"));
    String::from_utf8(read(path, max_bytes)?).map_err(no_text)
}

/// As `read`, of a file that is open; no error names the path.
pub fn read_opened(file: &File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let too_large = |size: String| {
        let text = format!("it is larger than {max_bytes} bytes: it has {size}");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
    };
    // First, so that nothing is read of one that is far too large.
    let size = file.metadata()?.len();
    if size > max_bytes {
        return too_large(size.to_string());
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(size).unwrap_or_default())?;
    // It may grow meanwhile, and a file that the kernel makes has no size.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max_bytes {
        true => too_large("more".to_string()),
        false => Ok(bytes),
    }
}

/// An error with the path that it is about.
pub fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Named { path: path.to_path_buf(), error })
}

#[derive(Debug)]
pub(super) struct Named {
    path: PathBuf,
    pub(super) error: io::Error,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.path.display(), self.error, remedy_for_shortage(&self.error))
    }
}

impl Error for Named {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The error itself is in the words already.
        self.error.source()
    }
}

/// What another user may have put where it was found.
#[derive(Debug)]
pub(super) struct Planted(pub(super) String);

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Planted {}

/// Whether a path was refused for what another user may have put there.
pub fn is_planted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Planted>())
}

/// There is nothing, nor could there be.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Where a file is, also when that is the current directory.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_is_read_up_to_its_limit() {
        use crate::os::unix::files::test_dir::{Dir, write};

        let dir = Dir::new();
        let path = dir.join("x");
        write(&path, "12345678");
        assert_eq!(read(&path, 8).unwrap(), b"12345678");
        let words = format!("{}: it is larger than 7 bytes: it has 8", path.display());
        for error in [read(&path, 7).unwrap_err(), read_text(&path, 7).unwrap_err()] {
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::FileTooLarge, words.clone()));
        }
        // 2 GiB without a block on disk.
        File::options().write(true).open(&path).unwrap().set_len(1 << 31).unwrap();
        assert!(read(&path, MAX_KERNEL_FILE).unwrap_err().to_string().ends_with("it has 2147483648"));
        // Which says that it has no bytes.
        let status = Path::new("/proc/self/status");
        assert!(read_text(status, MAX_KERNEL_FILE).unwrap().contains("VmRSS"));
        assert!(read(status, 10).unwrap_err().to_string().ends_with("it is larger than 10 bytes: it has more"));
    }

    #[test]
    fn the_directory_of_a_bare_name_is_the_present_one() {
        assert_eq!(directory_of(Path::new("/a/b")), Path::new("/a"));
        assert_eq!(directory_of(Path::new("a/b")), Path::new("a"));
        assert_eq!(directory_of(Path::new("b")), Path::new("."));
    }

    /// Of state files that earlier versions wrote, too.
    #[test]
    fn an_identity_in_a_state_file_keeps_its_form() {
        let id = FileId { inode: 7, size: 4096, changed: 1_795_356_277_123_456_789 };
        let text = r#"{"inode":7,"size":4096,"changed":1795356277123456789}"#;
        assert_eq!(serde_json::to_string(&id).unwrap(), text);
        assert_eq!(serde_json::from_str::<FileId>(text).unwrap(), id);
    }
}
