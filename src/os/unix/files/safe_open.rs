//! Reading where another user may have planted something: in a directory of another user, or one that others may write
//! in.
//!
//! A link there could lead us to what only we may read, and the next roll back would publish it; so links of others are
//! refused, in the middle of a path too. In a directory that is ours alone everything is read as it is.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{Place, authority, regular};
use crate::os::files::{self, FileId, Others};

/// The content of a regular file of at most so many bytes.
///
/// # Errors
/// `PermissionDenied` for a link that another user may have made. They name the path.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    Place::followed(path)?.read(max_bytes)
}

/// A regular file for reading.
///
/// # Errors
/// As for `read`.
pub fn open(path: &Path) -> io::Result<File> {
    Place::followed(path)?.open_safely()
}

/// As `open`, of a file that says what is to be done; and for root, if another user could have written it, who that is
/// and the command that ends it.
///
/// # Errors
/// As for `read`.
pub fn open_to_obey(path: &Path) -> io::Result<(File, Option<Others>)> {
    let place = Place::followed(path)?;
    let file = place.open_safely()?;
    let others = authority::others(&place, Some(&file))?;
    Ok((file, others))
}

/// Which file is at `path`, through links that may be followed; `None` when there is none.
///
/// # Errors
/// As for `read`.
pub fn identity(path: &Path) -> io::Result<Option<FileId>> {
    match Place::followed(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        place => place?.identity(),
    }
}

/// For a file that another program is to read by its name: whether `read` would. It sees what was there before; who
/// owns the directory can still put something else in place.
///
/// # Errors
/// As for `read`; that there is nothing is none.
pub fn look(path: &Path) -> io::Result<()> {
    let looked = Place::followed(path).and_then(|place| match place.directory().admits_others() {
        true => place.open_safely().map(|_| ()),
        // A collector would wait for a FIFO without a word. What a directory is it says itself.
        false => match place.look()?.filter(|meta| !meta.is_dir()).and_then(|meta| regular::refused(&meta)) {
            Some(error) => Err(files::named(&place.path(), error)),
            None => Ok(()),
        },
    });
    match looked {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "safe_open_tests.rs"]
mod tests;
