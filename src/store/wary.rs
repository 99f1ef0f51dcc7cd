//! Reading where somebody else may have planted something: in a directory of another user, or one that everybody may write in.
//!
//! A link there could lead us to what only we may read, and the next roll back would publish it; so links of others are refused. In
//! a directory that is ours alone everything is read as it is.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::OFlags;

use super::atomic::directory_of;

/// The content of a regular file.
///
/// # Errors
/// `PermissionDenied` for a link that somebody else may have made.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let directory = fs::metadata(directory_of(path))?;
    if !is_shared(&directory) {
        return fs::read(path);
    }
    let found = resolve(path)?;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&found)?;
    let opened = file.metadata()?;
    // A second name of a file that is not the directory's owner's: whoever made it may not be able to read it.
    if !opened.is_file() || opened.nlink() > 1 && opened.uid() != directory.uid() {
        return Err(planted(path));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where a path leads, when it is a link that may be followed.
///
/// # Errors
/// `PermissionDenied` for a symbolic link that somebody else may have made.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_symlink() {
        return Ok(path.to_path_buf());
    }
    let own = rustix::process::geteuid().as_raw();
    if ![0, own].contains(&found.uid()) && is_shared(&fs::metadata(directory_of(path))?) {
        return Err(planted(path));
    }
    fs::canonicalize(path)
}

/// Whether others than we and root may make files there.
fn is_shared(directory: &Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    ![0, own].contains(&directory.uid()) || directory.mode() & 0o002 != 0
}

fn planted(path: &Path) -> io::Error {
    let what = format!("{} is a link that another user may have made: remove it", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

#[cfg(test)]
#[path = "wary_tests.rs"]
mod tests;
