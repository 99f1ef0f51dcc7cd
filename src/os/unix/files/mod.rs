//! Files on Unix: modes, owners and groups, inodes, mounts.
//!
//! The facade of `os::files` says what each function is for; here is how. Every function is about one file, and none
//! decides what is written where.

mod attributes;
mod memory;
mod regular;
pub mod safe_open;
#[cfg(test)]
pub(crate) mod test_dir;

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{AtFlags, CWD, Dir, OFlags, StatxAttributes, StatxFlags};

pub use memory::{in_memory, path_in_child};
pub use regular::open_regular;

use crate::os::files::{self, FileId, directory_of};

/// What a file of ours is created with: it may hold credentials.
const PRIVATE: u32 = 0o600;

/// A file that was not there, for writing; only its owner may read it.
///
/// # Errors
/// `AlreadyExists` for a link too, wherever it leads.
pub fn create_private(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)
}

/// Gives a new file the owner, mode, access list and attributes of the one at `path`, which it will replace.
pub fn keep_owner_and_mode(file: &File, path: &Path, replaced: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
        fchown(file, Some(replaced.uid()), Some(replaced.gid()))?;
    }
    // After the owner, since a mode must not be granted to the wrong owner. No config is a program, so without the
    // set-id bits.
    let mode = replaced.mode() & 0o777;
    // Of a file with a list the group bits are what this grants at most (acl(5)), and others may have less by name.
    let mode = match attributes::copy_access_list(path, file) {
        Ok(()) => mode,
        Err(error) => {
            log::warn!(path:% = path.display(), error:%; "access list not copied: only the owner may use the new file");
            mode & 0o700
        }
    };
    file.set_permissions(Permissions::from_mode(mode))?;
    attributes::copy_attributes(path, file);
    Ok(())
}

/// For a file that this process has just made at `path`: what is done as root, by a `--check` for instance, must not
/// lock the agent out that runs as another user. That it cannot be done is no failure.
pub fn give_to_owner_of_directory(file: &File, path: &Path) {
    if is_root()
        && let Ok(directory) = fs::metadata(directory_of(path))
        && directory.uid() != 0
    {
        let _ = fchown(file, Some(directory.uid()), Some(directory.gid()));
    }
}

/// With all above it that are missing; no other user may look into what is made.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    make_directory(path, 0o700)
}

/// As `make_private_directory`, but every user may look into it.
pub fn make_readable_directory(path: &Path) -> io::Result<()> {
    make_directory(path, 0o755)
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Gives the file at `source` the name `target`, in place of what has it; at no time is there nothing. The error names
/// neither.
pub fn replace(source: &Path, target: &Path) -> io::Result<()> {
    std::fs::rename(source, target)
}

/// Puts the names in a directory on the disk.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    open_directory(path)?.sync_all()
}

/// What is none is not waited for.
fn open_directory(path: &Path) -> io::Result<fs::File> {
    let flags = OFlags::DIRECTORY | OFlags::NONBLOCK;
    fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Whether the file itself is mounted there, as container engines mount single files: it cannot be renamed over (EBUSY,
/// rename(2)). False where the kernel does not tell (before 5.8, statx(2)).
pub fn is_mounted(path: &Path) -> bool {
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The names in a directory, as far as it can be read.
pub fn names(directory: &Path) -> impl Iterator<Item = OsString> {
    // Not the standard library's, which panics when it cannot close a directory.
    let entries = open_directory(directory).ok().and_then(|opened| Dir::new(opened).ok());
    let names = entries.into_iter().flatten().flatten();
    names.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_os_string())
}

/// Locks a new file (flock(2)) until it is closed, by its process or by the kernel at that one's end; false when
/// `remove_unheld` has removed it, or is about to. What cannot be locked or looked at is as good as held.
pub fn hold(file: &File) -> bool {
    match file.try_lock() {
        Ok(()) => !file.metadata().is_ok_and(|meta| meta.nlink() == 0),
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => true,
    }
}

/// Removes what no living process holds. A file that we may not open is left to its owner.
pub fn remove_unheld(path: &Path) -> io::Result<()> {
    // Neither a link nor a pipe is anything that was held.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
    match &opened {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Ok(file) if matches!(file.file().try_lock(), Err(TryLockError::WouldBlock)) => return Ok(()),
        Ok(_) | Err(_) => {}
    }
    // Before the lock is let go.
    fs::remove_file(path)
}

/// Which file is at `path`, through links; `None` when there is none.
pub fn identity(path: &Path) -> io::Result<Option<FileId>> {
    match fs::metadata(path) {
        Ok(meta) => {
            let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
            Ok(Some(FileId { inode: meta.ino(), size: meta.size(), changed }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Made if it is missing; made by us and by nobody else, or a link in its place would have us give away what it leads
/// to.
pub fn open_lock(path: &Path) -> io::Result<File> {
    match create_private(path) {
        Ok(file) => {
            give_to_owner_of_directory(file.file(), path);
            Ok(file.into_file())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let opened = regular::open_with(path, OpenOptions::new().write(true), OFlags::NOFOLLOW);
            opened.map_err(|error| files::named(path, error))
        }
        Err(error) => Err(error),
    }
}

/// From the kernel's table (proc_locks(5)): number, `FLOCK`, kind, mode, pid, `major:minor:inode`, range. Another pid
/// namespace's processes are missing in it, and btrfs has other device numbers in stat(2).
pub fn lock_holder(file: &File) -> Option<u32> {
    let meta = file.metadata().ok()?;
    let device = format!("{:02x}:{:02x}", rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let table = files::read_text(Path::new("/proc/locks"), files::MAX_KERNEL_FILE).ok()?;
    let entry = |line: &str| -> Option<(u32, bool)> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (on, inode) = fields.get(5)?.rsplit_once(':')?;
        let is_ours = fields[1] == "FLOCK" && inode.parse() == Ok(meta.ino());
        Some((fields[4].parse().ok()?, on == device)).filter(|(pid, _)| is_ours && *pid > 0)
    };
    let holders: Vec<(u32, bool)> = table.lines().filter_map(entry).collect();
    match holders[..] {
        [(pid, _)] => Some(pid),
        _ => holders.iter().find(|(_, is_device)| *is_device).map(|(pid, _)| *pid),
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether only root can have put it there, or can change it; what an ordinary user runs is that user's affair. Any
/// group that may write is one too many, for here is a way out: the setting `collector` names a program wherever it is.
pub fn owner_may_command(path: &Path) -> bool {
    !is_root() || fs::metadata(path).is_ok_and(|meta| meta.uid() == 0 && meta.permissions().mode() & 0o022 == 0)
}

/// Whether it is an executable file.
pub fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

pub fn is_readable_by_all(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o004 != 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::fs::{FileType, Mode, mknodat};

    use super::test_dir::Dir;
    use super::*;

    #[test]
    fn mounts_are_reported_from_files() {
        let dir = Dir::new();
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(Path::new("/proc/self")) && !is_mounted(dir.path()) && !is_mounted(&dir.join("missing")));
    }

    #[test]
    fn an_identity_is_that_of_the_kernel() {
        let dir = Dir::new();
        let path = dir.join("x");
        assert_eq!((identity(&path).unwrap(), FileId::of(&path)), (None, None));
        test_dir::write(&path, "old: 1\n");
        let (seen, meta) = (identity(&path).unwrap().unwrap(), std::fs::metadata(&path).unwrap());
        let changed = Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32).as_nanos();
        assert_eq!((seen.inode, seen.size, seen.changed), (meta.ino(), 7, changed as i128));
        // A file in its way is no directory.
        assert_eq!(identity(&path.join("below")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(FileId::of(&path.join("below")), None);
    }

    #[test]
    fn a_file_that_some_class_of_users_may_execute_is_a_program() {
        let dir = Dir::new();
        let path = dir.join("x");
        test_dir::write(&path, "");
        for (mode, expected) in [(0o644, false), (0o100, true), (0o010, true), (0o001, true)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_program(&path), expected, "{mode:o}");
        }
        assert!(!is_program(dir.path()) && !is_program(&dir.join("missing")));
    }

    #[test]
    fn what_is_held_is_not_removed_until_it_is_let_go() {
        let dir = Dir::new();
        let path = dir.join("x");
        let file = create_private(&path).unwrap();
        assert!(hold(file.file()));
        remove_unheld(&path).unwrap();
        assert!(path.exists());
        // Another open file of this process is no more than another process's.
        assert!(!hold(&File::open(&path).unwrap()));
        // Closing alone would leave it to the child of another test, between fork and exec.
        file.file().unlock().unwrap();
        remove_unheld(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(remove_unheld(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_was_removed_before_it_was_held_is_not_held() {
        let dir = Dir::new();
        let file = create_private(&dir.join("x")).unwrap();
        remove_unheld(&dir.join("x")).unwrap();
        assert!(!hold(file.file()));
    }

    #[test]
    fn what_is_no_file_is_removed_as_it_is() {
        let dir = Dir::new();
        let path = dir.join("x");
        test_dir::write(dir.join("target"), "");
        std::os::unix::fs::symlink("target", &path).unwrap();
        remove_unheld(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        remove_unheld(&path).unwrap();
        assert_eq!(dir.names("."), ["target"]);
    }

    #[test]
    fn names_are_all_but_of_what_cannot_be_read() {
        let dir = Dir::new();
        test_dir::write(dir.join(".x"), "");
        assert!(names(dir.path()).any(|name| name == ".x"));
        assert_eq!(names(&dir.join("missing")).count(), 0);
    }
}
