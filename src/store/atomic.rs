//! Files that are whole or not there: written under another name, synced, then renamed.
//!
//! It knows nothing of configs. A file keeps mode, owner and access list of the one that it replaces; a new one is
//! 0600, and what root makes belongs to whom its directory belongs to. A process holds what it has not put in place
//! yet, so that another one's `sweep` spares it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use fs_err as fs;

use crate::os::files::{self, directory_of, safe_open};

/// Marks unfinished files of `write`.
const WRITING_MARK: &str = ".candidate-";

/// A file that is whole and has not its name yet; held as long as this lives.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    /// It has the lock.
    _file: File,
}

impl NewFile {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes `bytes` to a new file beside `target` and syncs it. Its name is `.<target><mark><pid>-<n>`, used by nobody
/// else.
///
/// # Errors
/// They name `target`, since the new file has another name at each attempt: what is logged once is compared by its
/// words.
pub fn write_new(target: &Path, mark: &str, bytes: &[u8]) -> io::Result<NewFile> {
    let (path, mut file) = create_held(target, mark)?;
    let written = match fs::symlink_metadata(target) {
        Ok(replaced) if replaced.is_file() => {
            files::keep_owner_and_mode(file.file(), target, &replaced).map_err(|error| {
                let what = format!("cannot keep the owner and mode of {}", target.display());
                io::Error::new(error.kind(), format!("{what}: {error}"))
            })
        }
        Ok(_) | Err(_) => {
            files::give_to_owner_of_directory(file.file(), &path);
            Ok(())
        }
    };
    let written = written.and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(&path);
        naming_target(target, &path, &error)
    })?;
    Ok(NewFile { path, _file: file.into_file() })
}

fn create_held(target: &Path, mark: &str) -> io::Result<(PathBuf, fs::File)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut name = OsString::from(".");
        name.push(target.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
        name.push(format!("{}{number}", own_mark(mark)));
        let path = target.with_file_name(name);
        let file = files::create_private(&path).map_err(|error| naming_target(target, &path, &error))?;
        // Else it was swept away before it was held.
        if files::hold(file.file()) {
            return Ok((path, file));
        }
    }
}

fn naming_target(target: &Path, path: &Path, error: &io::Error) -> io::Error {
    let words = error.to_string().replace(&*path.to_string_lossy(), &target.to_string_lossy());
    io::Error::new(error.kind(), words)
}

fn own_mark(mark: &str) -> String {
    format!("{mark}{}-", std::process::id())
}

/// Renames `source` over `target`, both in one directory, and syncs that. Once renamed it is replaced, whatever becomes
/// of the sync: only a power failure could bring the old one back, which is whole too.
///
/// # Errors
/// They name `target` alone, as those of `write_new`.
pub fn replace(source: &Path, target: &Path) -> io::Result<()> {
    files::replace(source, target).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to replace file `{}`: {error}", target.display()))
    })?;
    if let Err(error) = files::sync_directory(directory_of(target)) {
        log::warn!(path:% = target.display(), error:%; "file replaced but not synced; a power failure may undo this");
    }
    Ok(())
}

/// Replaces the content of `target`, which need not exist, and neither need its directory: one that could not be made
/// before, or was removed, is made now, and private.
pub fn write(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = match write_new(target, WRITING_MARK, bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = target.parent().ok_or(error)?;
            files::make_private_directory(directory)?;
            write_new(target, WRITING_MARK, bytes)?
        }
        written => written?,
    };
    replace(new.path(), target).inspect_err(|_| {
        let _ = fs::remove_file(new.path());
    })
}

/// Gives what is at `path` the name `kept` too, in place of what is there: a file stays where it is, anything else
/// moves. That there is nothing is no failure. A file of more than so many bytes may be left without its other name.
pub fn set_aside(path: &Path, kept: &Path, max_bytes: u64) -> io::Result<()> {
    set_aside_by(path, kept, max_bytes, |path, kept| match safe_open::is_shared(path) {
        // If we were killed now, the second name would make the first one suspect.
        true => Err(io::ErrorKind::Unsupported.into()),
        false => fs::hard_link(path, kept),
    })
}

fn set_aside_by(
    path: &Path,
    kept: &Path,
    max_bytes: u64,
    link: impl Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    match fs::remove_file(kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    link(path, kept).or_else(|_| match path.is_file() {
        // Some file systems (vfat) know no hard links either. To move it would leave nobody at `path` for a moment.
        true => write(kept, &safe_open::read(path, max_bytes)?),
        false => fs::rename(path, kept),
    })
}

/// Removes what `write_new` left in `directory` under `mark` when its process was killed, and what this process has
/// made: no other thread is to need it any more.
pub fn sweep(directory: &Path, mark: &str) {
    let own = own_mark(mark);
    for name in files::names(directory) {
        let text = name.as_encoded_bytes();
        let has = |mark: &str| text.windows(mark.len()).any(|part| part == mark.as_bytes());
        if !text.starts_with(b".") || !has(mark) {
            continue;
        }
        let path = directory.join(&name);
        // By the lock, since the pid of a process that was killed may be another's by now.
        let _ = if has(&own) { fs::remove_file(path) } else { files::remove_unheld(&path) };
    }
}

#[cfg(test)]
#[cfg(unix)]
#[path = "atomic_tests.rs"]
mod tests;
