//! Files on Unix: modes, owners and groups, inodes, mounts.
//!
//! The facade of `os::files` says what each function is for; here is how. Every function is about one file, and none
//! decides what is written where.

mod attributes;
mod authority;
mod confined;
mod dead_socket;
mod memory;
mod place;
mod regular;
pub mod safe_open;
#[cfg(test)]
pub(crate) mod test_dir;
mod walk;

use std::ffi::OsString;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use fs_err as fs;
use rustix::fs::{Mode, OFlags};

pub use authority::command_to_link;
pub(in crate::os::unix) use authority::others;
pub use confined::confine;
pub use dead_socket::{remove_dead_socket, socket_at};
pub use memory::{in_memory, path_in_child};
pub use place::Place;
pub use regular::open_regular;
pub use walk::Directory;

use crate::os::files::{self, FileId, FileKey};

/// The names in a directory of the kernel's own, as far as it can be read.
pub fn names_in_proc(directory: &Path) -> impl Iterator<Item = OsString> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    place::names_of(rustix::fs::open(directory, flags, Mode::empty()).ok())
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
    walk::walk(path, walk::Last::Made(mode)).map(|_| ())
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

/// Reads a file to its end without leaving it in the page cache (posix_fadvise(2)), where it would displace what the
/// host works with; what a running program has mapped stays.
pub fn read_through(path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut file = open_regular(path)?;
    let mut block = vec![0u8; 64 * 1024];
    loop {
        match file.read(&mut block) {
            Ok(0) => break,
            Ok(count) => take(&block[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // No more than a favour.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

/// Which file a program or another file of the system is, through links; `None` when there is none.
pub fn identity(path: &Path) -> io::Result<Option<FileId>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(file_id(&meta))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn file_id(meta: &Metadata) -> FileId {
    let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
    FileId { inode: meta.ino(), size: meta.size(), changed }
}

pub fn key(meta: &Metadata) -> FileKey {
    FileKey { device: meta.dev(), inode: meta.ino() }
}

/// Made if it is missing; made by us and by nobody else, or a link in its place would have us give away what it leads
/// to.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let place = Place::new(path)?;
    let opened = match place.create_private() {
        Ok(file) => {
            place.give_to_owner_of_directory(&file);
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => place.open(OFlags::WRONLY),
        Err(error) => Err(error),
    };
    opened.map_err(|error| files::named(path, error))
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

/// Whether the system runs it by way of another program (execve(2)).
pub fn is_script(path: &Path) -> bool {
    let mut start = [0u8; 2];
    fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok()) && start == *b"#!"
}

pub fn is_readable_by_all(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o004 != 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::test_dir::Dir;
    use super::*;

    fn place(path: &Path) -> Place {
        Place::new(path).unwrap()
    }

    #[test]
    fn mounts_are_reported_from_files() {
        let dir = Dir::new();
        let is_mounted = |path: &Path| place(path).is_mounted();
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
        let file = place(&path).create_private().unwrap();
        assert!(hold(&file));
        place(&path).remove_unheld().unwrap();
        assert!(path.exists());
        // Another open file of this process is no more than another process's.
        assert!(!hold(&File::open(&path).unwrap()));
        // Closing alone would leave it to the child of another test, between fork and exec.
        file.unlock().unwrap();
        place(&path).remove_unheld().unwrap();
        assert!(!path.exists());
        assert_eq!(place(&path).remove_unheld().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_was_removed_before_it_was_held_is_not_held() {
        let dir = Dir::new();
        let file = place(&dir.join("x")).create_private().unwrap();
        place(&dir.join("x")).remove_unheld().unwrap();
        assert!(!hold(&file));
    }

    #[test]
    fn what_is_no_file_is_removed_as_it_is() {
        let dir = Dir::new();
        let path = dir.join("x");
        test_dir::write(dir.join("target"), "");
        std::os::unix::fs::symlink("target", &path).unwrap();
        place(&path).remove_unheld().unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        place(&path).remove_unheld().unwrap();
        assert_eq!(dir.names("."), ["target"]);
    }

    #[test]
    fn names_are_all_but_of_what_cannot_be_read() {
        let dir = Dir::new();
        test_dir::write(dir.join(".x"), "");
        assert!(Directory::open(dir.path()).unwrap().names().any(|name| name == ".x"));
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o311)).unwrap();
        assert!(is_root() || Directory::open(dir.path()).unwrap().names().count() == 0);
    }
}
