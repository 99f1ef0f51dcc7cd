//! Files that are whole or not there: written under another name, synced, then renamed.
//!
//! It knows nothing of configs. A file keeps the mode and owner of the one that it replaces; a new one is 0600, and what root makes
//! belongs to whom its directory belongs to.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{AtFlags, CWD, Dir, StatxAttributes, StatxFlags};

use super::safe_open;

/// What a file of ours is created with: it may hold credentials.
const PRIVATE: u32 = 0o600;
/// Marks unfinished files of `write`.
const WRITING_MARK: &str = ".candidate-";

/// Writes `bytes` to a new file beside `target` and syncs it. Its name is `.<target><mark><pid>-<n>`, used by nobody else.
pub fn write_new(target: &Path, mark: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut name = OsString::from(".");
    name.push(target.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
    name.push(format!("{mark}{}-{number}", std::process::id()));
    let path = target.with_file_name(name);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&path)?;
    let written = match fs::symlink_metadata(target) {
        Ok(replaced) if replaced.is_file() => imitate(file.file(), &replaced).map_err(|error| {
            let what = format!("cannot give {} the owner and mode of the file that it replaces", path.display());
            io::Error::new(error.kind(), format!("{what}: {error}"))
        }),
        Ok(_) | Err(_) => {
            give_to_owner_of_directory(file.file(), &path);
            Ok(())
        }
    };
    let written = written.and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
    written.inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })?;
    Ok(path)
}

/// Renames `source` over `target`, both in one directory, and syncs that. Once renamed it is replaced, whatever becomes of the
/// sync: only a power failure could bring the old one back, which is whole too.
pub fn replace(source: &Path, target: &Path) -> io::Result<()> {
    fs::rename(source, target)?;
    if let Err(error) = fs::File::open(directory_of(target)).and_then(|directory| directory.sync_all()) {
        log::warn!(path:% = target.display(), error:%; "replaced, but a power failure now may bring the old file back");
    }
    Ok(())
}

/// Replaces the content of `target`, which need not exist, and neither need its directory: one that could not be made before, or
/// was removed, is made now, and private.
pub fn write(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = match write_new(target, WRITING_MARK, bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = target.parent().ok_or(error)?;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            write_new(target, WRITING_MARK, bytes)?
        }
        written => written?,
    };
    replace(&path, target).inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })
}

/// Gives what is at `path` the name `kept` too, in place of what is there: a file stays where it is, anything else moves. That there
/// is nothing is no failure.
pub fn set_aside(path: &Path, kept: &Path) -> io::Result<()> {
    set_aside_by(path, kept, |path, kept| match safe_open::is_shared(path) {
        // If we were killed now, the second name would make the first one suspect.
        true => Err(io::ErrorKind::Unsupported.into()),
        false => fs::hard_link(path, kept),
    })
}

fn set_aside_by(path: &Path, kept: &Path, link: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    match fs::remove_file(kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    link(path, kept).or_else(|_| match path.is_file() {
        // Some file systems (vfat) know no hard links either. To move it would leave nobody at `path` for a moment.
        true => write(kept, &safe_open::read(path)?),
        false => fs::rename(path, kept),
    })
}

/// Removes what `write_new` left in `directory` under `mark` when its process was killed.
pub fn sweep(directory: &Path, mark: &str) {
    // Not the standard library's, which panics when it cannot close a directory.
    let entries = File::open(directory).ok().and_then(|opened| Dir::new(opened).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_bytes();
        if name.starts_with(b".") && name.windows(mark.len()).any(|part| part == mark.as_bytes()) {
            let _ = fs::remove_file(directory.join(OsStr::from_bytes(name)));
        }
    }
}

/// Whether the file itself is mounted there, as container engines mount single files: it cannot be renamed over (EBUSY, rename(2)).
/// False where the kernel does not tell (before 5.8, statx(2)).
pub fn is_mounted(path: &Path) -> bool {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// What a person can do about a file that cannot be written; empty when the error says it all.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => " (free some space)",
        io::ErrorKind::ReadOnlyFilesystem => " (remount the file system read-write, or move the file by its setting)",
        io::ErrorKind::PermissionDenied => " (run the agent as the files' owner, or correct their permissions)",
        io::ErrorKind::NotFound => " (create the directory)",
        // EBUSY: a file that is itself a mount point.
        io::ErrorKind::ResourceBusy => " (mount the directory instead of the single file)",
        _ => "",
    }
}

/// For a file that this process has just made at `path`: what somebody does as root, a `--check` for instance, must not lock the
/// agent out that runs as another user. That it cannot be done is no failure.
pub fn give_to_owner_of_directory(file: &File, path: &Path) {
    if rustix::process::geteuid().is_root()
        && let Ok(directory) = fs::metadata(directory_of(path))
        && directory.uid() != 0
    {
        let _ = std::os::unix::fs::fchown(file, Some(directory.uid()), Some(directory.gid()));
    }
}

/// Gives a new file the owner and mode of the one that it will replace.
fn imitate(file: &File, replaced: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
        std::os::unix::fs::fchown(file, Some(replaced.uid()), Some(replaced.gid()))?;
    }
    // After the owner, since a mode must not be granted to the wrong owner. No config is a program, so without the set-id bits.
    file.set_permissions(std::fs::Permissions::from_mode(replaced.mode() & 0o777))
}

/// Where a file is, also when that is the current directory.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
#[path = "atomic_tests.rs"]
mod tests;
