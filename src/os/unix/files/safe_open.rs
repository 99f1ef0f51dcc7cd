//! Reading where another user may have planted something: in a directory of another user, or one that others may write
//! in.
//!
//! A link there could lead us to what only we may read, and the next roll back would publish it; so links of others are
//! refused. In a directory that is ours alone everything is read as it is.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::regular;
use crate::os::files::{self, directory_of};

/// As the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The content of a regular file of at most so many bytes.
///
/// # Errors
/// `PermissionDenied` for a link that another user may have made.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let found = follow(path)?;
    let Some(directory) = found.directory else { return files::read(&found.path, max_bytes) };
    let file = open(&found.path, &directory)?;
    files::read_opened(&file, max_bytes).map_err(|error| files::named(&found.path, error))
}

/// For a file that another program is to read by its name: whether `read` would. It sees what was there before; who
/// owns the directory can still put something else in place.
///
/// # Errors
/// As `read`; that there is nothing is none.
pub fn look(path: &Path) -> io::Result<()> {
    let found = follow(path)?;
    let Some(directory) = found.directory else { return look_at_kind(&found.path) };
    match open(&found.path, &directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A collector would wait for a FIFO without a word. What a directory is it says itself.
fn look_at_kind(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path).ok().filter(|meta| !meta.is_dir()).and_then(|meta| regular::refused(&meta)) {
        Some(error) => Err(files::named(path, error)),
        None => Ok(()),
    }
}

/// Where a path leads, through the links that may be followed; there need not be anything.
///
/// # Errors
/// `PermissionDenied` for a symbolic link that another user may have made.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let Found { path, directory } = follow(path)?;
    if directory.is_some() {
        return Ok(path);
    }
    match fs::canonicalize(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(match fs::read_link(&path) {
            Ok(named) => path.with_file_name(named),
            Err(_) => path,
        }),
        found => found,
    }
}

/// Whether others than we and root may make files in the directory of `path`.
pub fn is_shared(path: &Path) -> bool {
    fs::metadata(directory_of(path)).is_ok_and(|directory| admits_others(&directory))
}

struct Found {
    path: PathBuf,
    /// The directory, if it is shared: then `path` is no link. Otherwise it may be one, to be followed as it is.
    directory: Option<Metadata>,
}

/// Follows links one by one, as long as they are in shared directories. Each is looked at and read as one and the same,
/// since it may be replaced at any time.
fn follow(path: &Path) -> io::Result<Found> {
    let (named, mut path) = (path, path.to_path_buf());
    for _ in 0..MAX_LINKS {
        let directory = match fs::metadata(directory_of(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found { path, directory: None }),
            found => found?,
        };
        if !admits_others(&directory) {
            return Ok(Found { path, directory: None });
        }
        // Not std's open, which takes O_PATH for an access mode where musl does, and leaves it out.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Found { path, directory: Some(directory) }),
            link => link.map(std::fs::File::from)?,
        };
        let found = link.metadata()?;
        if !found.is_symlink() {
            return Ok(Found { path, directory: Some(directory) });
        }
        if !is_trusted(found.uid()) {
            return Err(planted(&path, "a link"));
        }
        let target = rustix::fs::readlinkat(&link, c"", Vec::new())?;
        path = directory_of(&path).join(OsString::from_vec(target.into_bytes()));
    }
    Err(io::Error::other(format!("{}: {}", named.display(), io::Error::from(Errno::LOOP))))
}

/// Opens what is no symbolic link, in a directory that is shared.
fn open(path: &Path, directory: &Metadata) -> io::Result<File> {
    let file = match regular::open_with(path, OpenOptions::new().read(true), OFlags::NOFOLLOW) {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory) => {
            return Err(planted(path, "a special file or directory"));
        }
        opened => opened.map_err(|error| files::named(path, error))?,
    };
    let opened = file.metadata()?;
    // A hard link: the user who made it may not be able to read the file. The directory's owner can, who owns the file
    // too, and if only that user could have made the name, nothing is given away.
    let is_secret = opened.uid() != directory.uid() || is_open(directory);
    match opened.nlink() > 1 && is_secret {
        true => Err(planted(path, "a link")),
        false => Ok(file),
    }
}

fn is_trusted(user: u32) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&user)
}

fn admits_others(directory: &Metadata) -> bool {
    !is_trusted(directory.uid()) || is_open(directory)
}

/// Whether it may be written by everybody, or by a group that is not ours: root's 0770 for the group of an agent that
/// runs as another user, say. Who is in our own group is one of us: many users have a group of their own and
/// directories with 0775.
fn is_open(directory: &Metadata) -> bool {
    let mode = directory.mode();
    mode & 0o002 != 0 || mode & 0o020 != 0 && directory.gid() != rustix::process::getegid().as_raw()
}

fn planted(path: &Path, what: &str) -> io::Error {
    let text = format!("{} is {what} that another user may have created: remove it", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

#[cfg(test)]
#[path = "safe_open_tests.rs"]
mod tests;
