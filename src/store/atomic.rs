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

use crate::os::files::{self, Directory, Place, directory_of, named};

/// Marks unfinished files of `write`.
const WRITING_MARK: &str = ".candidate-";

/// A file that is whole and has not its name yet; held as long as this lives.
#[derive(Debug)]
pub struct NewFile {
    place: Place,
    path: PathBuf,
    /// It has the lock.
    _file: File,
}

impl NewFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Unless it was put in place.
    pub fn remove(&self) {
        let _ = self.place.remove();
    }

    /// Renames it over `target` and syncs that directory. Once renamed it is replaced, whatever becomes of the sync:
    /// only a power failure could bring the old one back, which is whole too.
    ///
    /// # Errors
    /// They name `target` alone, as those of `write_new`.
    pub fn replace(&self, target: &Place) -> io::Result<()> {
        self.rename(target)?;
        sync_directory(target);
        Ok(())
    }

    /// As `replace`, without the sync.
    pub fn rename(&self, target: &Place) -> io::Result<()> {
        put_in_place(&self.place, target)
    }
}

/// Renames a whole file over `target`, without a sync.
pub fn put_in_place(file: &Place, target: &Place) -> io::Result<()> {
    file.rename(target).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to replace file `{}`: {error}", target.path().display()))
    })
}

/// After a rename to `target`.
pub fn sync_directory(target: &Place) {
    if let Err(error) = target.directory().sync() {
        let path = target.path();
        log::warn!(path:% = path.display(), error:%; "file replaced but not synced; a power failure may undo this");
    }
}

/// Gives the file at `target` another name beside it, by which `put_in_place` brings it back; `None` where it must have
/// one name only (`Place::open_safely`), or the file system knows no hard links.
pub fn second_name(target: &Place, mark: &str) -> Option<Place> {
    if target.directory().admits_others() {
        return None;
    }
    let place = next_place(target, mark);
    match target.link(&place) {
        Ok(()) => Some(place),
        Err(error) => {
            log::warn!(path:% = target.path().display(), error:%; "cannot give the config a second name; a copy takes its place");
            None
        }
    }
}

/// Writes `bytes` to a new file beside `target` and syncs it. Its name is `.<target><mark><pid>-<n>`, used by nobody
/// else.
///
/// # Errors
/// They name `target`, since the new file has another name at each attempt: what is logged once is compared by its
/// words.
pub fn write_new(target: &Place, mark: &str, bytes: &[u8]) -> io::Result<NewFile> {
    let path = target.path();
    let (place, mut file) = create_held(target, mark).map_err(|error| named(&path, error))?;
    let kept = target.give_owner_and_mode(&file).map_err(|error| {
        let what = format!("cannot keep the owner and mode of {}", path.display());
        io::Error::new(error.kind(), format!("{what}: {error}"))
    });
    let written = kept.and_then(|is_kept| {
        if !is_kept {
            place.give_to_owner_of_directory(&file);
        }
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| named(&path, error))
    });
    let new = NewFile { path: place.path(), place, _file: file };
    written.inspect_err(|_| new.remove())?;
    Ok(new)
}

fn next_place(target: &Place, mark: &str) -> Place {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut name = OsString::from(".");
    name.push(target.name());
    name.push(format!("{}{number}", own_mark(mark)));
    target.beside(name)
}

fn create_held(target: &Place, mark: &str) -> io::Result<(Place, File)> {
    loop {
        let place = next_place(target, mark);
        let file = place.create_private()?;
        // Else it was swept away before it was held.
        if files::hold(&file) {
            return Ok((place, file));
        }
    }
}

fn own_mark(mark: &str) -> String {
    format!("{mark}{}-", std::process::id())
}

/// Replaces the content of the file at `path`, which need not exist, and neither need its directory: one that could not
/// be made before, or was removed, is made now, and private.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = match Place::new(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            files::make_private_directory(directory_of(path))?;
            Place::new(path)?
        }
        place => place?,
    };
    write_at(&target, bytes)
}

/// Replaces the content of `target`, which need not exist.
pub fn write_at(target: &Place, bytes: &[u8]) -> io::Result<()> {
    let new = write_new(target, WRITING_MARK, bytes)?;
    new.replace(target).inspect_err(|_| new.remove())
}

/// Gives what is at `place` the name `kept` too, in place of what is there: a file stays where it is, anything else
/// moves. That there is nothing is no failure. A file of more than so many bytes may be left without its other name.
pub fn set_aside(place: &Place, kept: &Place, max_bytes: u64) -> io::Result<()> {
    set_aside_by(place, kept, max_bytes, |place, kept| match place.directory().admits_others() {
        // If we were killed now, the second name would make the first one suspect.
        true => Err(io::ErrorKind::Unsupported.into()),
        false => place.link(kept),
    })
}

fn set_aside_by(
    place: &Place,
    kept: &Place,
    max_bytes: u64,
    link: impl Fn(&Place, &Place) -> io::Result<()>,
) -> io::Result<()> {
    let Some(found) = place.look()? else { return Ok(()) };
    match kept.remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = format!("cannot remove {}", kept.path().display());
            return Err(io::Error::new(error.kind(), format!("{what}: {error}")));
        }
        Ok(()) | Err(_) => {}
    }
    link(place, kept).or_else(|_| match found.is_file() {
        // Some file systems (vfat) know no hard links either. To move it would leave nobody at `place` for a moment.
        true => write_at(kept, &place.read(max_bytes)?),
        false => place.rename(kept).map_err(|error| named(&kept.path(), error)),
    })
}

/// Removes what `write_new` left in a directory under `mark` when its process was killed, and what this process has
/// made: no other thread is to need it any more.
pub fn sweep(directory: &Directory, mark: &str) {
    let own = own_mark(mark);
    for name in directory.names() {
        let text = name.as_encoded_bytes();
        let has = |mark: &str| text.windows(mark.len()).any(|part| part == mark.as_bytes());
        if !text.starts_with(b".") || !has(mark) {
            continue;
        }
        let is_own = has(&own);
        let place = directory.entry(name);
        // By the lock, since the pid of a process that was killed may be another's by now.
        let _ = if is_own { place.remove() } else { place.remove_unheld() };
    }
}

#[cfg(test)]
#[cfg(unix)]
#[path = "atomic_tests.rs"]
mod tests;
