//! Where a path leads, walked component by component on descriptors: what was looked at is what is then used, whatever
//! another user puts in its place meanwhile.
//!
//! A link is followed here and not by the kernel. In a directory where another user may write it has to be ours or
//! root's, or it could lead us out of what that user may use himself. `..` is the directory that the walk came through.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::attributes;
use super::confined::{Confinement, Readers};
use crate::os::files;

/// As the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Sticky: only its owner renames or removes an entry, and the directory's.
const STICKY: u32 = 0o1000;

/// A directory that stays the same one, wherever its name leads by now.
#[derive(Clone, Debug)]
pub struct Directory {
    /// O_PATH.
    pub(super) handle: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) meta: Metadata,
}

/// What is to become of the last component.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Last {
    /// It may be anything, and is not looked at.
    Named,
    /// If it is a link, that is followed.
    Followed,
    /// It is a directory, made with this mode if it is missing.
    Made(u32),
    Entered,
}

pub(super) struct Walked {
    pub(super) directory: Directory,
    /// `None` of a directory that was entered.
    pub(super) name: Option<OsString>,
    /// Directories on the way in which another user may exchange the next step.
    pub(super) exposed: Vec<Directory>,
    pub(super) readers: Option<Readers>,
}

enum Step {
    Directory(Directory),
    Link(Metadata, PathBuf),
    Other(Metadata),
    Missing,
}

enum Part {
    Root,
    Parent,
    Name(OsString),
}

/// # Errors
/// `PermissionDenied` for a link that another user may have made; `NotFound` for a directory that is missing. They name
/// the path.
pub(super) fn walk(path: &Path, last: Last) -> io::Result<Walked> {
    let absolute = std::path::absolute(path)?;
    let mut confinement = Confinement::of(&absolute);
    let walked = steps(path, &absolute, last, &mut confinement)?;
    confinement.check(&walked, last)?;
    Ok(Walked { readers: confinement.into_readers(), ..walked })
}

fn steps(path: &Path, absolute: &Path, last: Last, confinement: &mut Confinement) -> io::Result<Walked> {
    let root = || Directory::root().map_err(|error| files::named(path, error));
    let mut here = root()?;
    let mut exposed = Vec::new();
    let mut left = parts(absolute);
    let mut links = 0;
    while let Some(part) = left.pop() {
        let name = match part {
            Part::Root => {
                here = root()?;
                continue;
            }
            // Once more from the start: the kernel's `..` is where the directory is by now, and to keep those on the
            // way open would take as many descriptors.
            Part::Parent => {
                left.extend(parts(here.path.parent().unwrap_or(&here.path)));
                continue;
            }
            Part::Name(name) => name,
        };
        confinement.pass(&here);
        let is_last = left.is_empty();
        if is_last && last == Last::Named {
            return Ok(found(here, name, exposed));
        }
        let failed = |errno: Errno, left: &[Part]| Err(files::named(&full(&here, &name, left), errno.into()));
        let step = match here.step(&name) {
            Ok(step) => step,
            Err(errno) => return failed(errno, &left),
        };
        let may_be_exchanged = match &step {
            Step::Directory(Directory { meta, .. }) | Step::Link(meta, _) | Step::Other(meta) => {
                here.may_be_exchanged(meta)
            }
            Step::Missing => last == Last::Followed && here.admits_others(),
        };
        if may_be_exchanged {
            exposed.push(here.clone());
        }
        match step {
            Step::Link(meta, target) => {
                links += 1;
                if here.admits_others() && (!is_trusted(meta.uid()) || meta.nlink() > 1) {
                    return Err(planted(&here.path.join(name), "a link"));
                }
                if links > MAX_LINKS {
                    return failed(Errno::LOOP, &left);
                }
                left.extend(parts(&target));
            }
            _ if is_last && last == Last::Followed => return Ok(found(here, name, exposed)),
            Step::Directory(directory) => here = directory,
            Step::Other(_) => return failed(Errno::NOTDIR, &left),
            Step::Missing => {
                let Last::Made(mode) = last else { return failed(Errno::NOENT, &left) };
                confinement.check_directory(&here)?;
                match rustix::fs::mkdirat(&here.handle, &name, Mode::from_raw_mode(mode)) {
                    Err(errno) if errno != Errno::EXIST => return failed(errno, &left),
                    Ok(()) if confinement.is_written() || here.meta.uid() != 0 => here.give_to_owner(&name),
                    Ok(()) | Err(_) => {}
                }
                // Looked at again, as anything else.
                left.push(Part::Name(name));
            }
        }
    }
    Ok(Walked { directory: here, name: None, exposed, readers: None })
}

fn found(directory: Directory, name: OsString, exposed: Vec<Directory>) -> Walked {
    Walked { directory, name: Some(name), exposed, readers: None }
}

/// The next one last.
fn parts(path: &Path) -> Vec<Part> {
    let part = |component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Parent),
        Component::Normal(name) => Some(Part::Name(name.to_os_string())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

fn full(here: &Directory, name: &OsStr, left: &[Part]) -> PathBuf {
    let mut path = here.path.join(name);
    path.extend(left.iter().rev().map(|part| match part {
        Part::Root => OsStr::new("/"),
        Part::Parent => OsStr::new(".."),
        Part::Name(name) => name,
    }));
    path
}

impl Directory {
    fn root() -> io::Result<Directory> {
        let handle = File::from(open_at(CWD, OsStr::new("/"), DIRECTORY, 0)?);
        Ok(Directory { meta: handle.metadata()?, handle: Arc::new(handle), path: PathBuf::from("/") })
    }

    /// # Errors
    /// As `walk`.
    pub fn open(path: &Path) -> io::Result<Directory> {
        walk(path, Last::Entered).map(|walked| walked.directory)
    }

    fn step(&self, name: &OsStr) -> Result<Step, Errno> {
        let directory = |handle: File, meta| {
            Step::Directory(Directory { handle: Arc::new(handle), path: self.path.join(name), meta })
        };
        match self.look(name, DIRECTORY) {
            Ok((handle, meta)) => return Ok(directory(handle, meta)),
            Err(Errno::NOENT) => return Ok(Step::Missing),
            // A file, or a link.
            Err(Errno::NOTDIR) => {}
            Err(errno) => return Err(errno),
        }
        let (handle, meta) = match self.look(name, OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Step::Missing),
            looked => looked?,
        };
        if meta.is_dir() {
            return Ok(directory(handle, meta));
        }
        if !meta.is_symlink() {
            return Ok(Step::Other(meta));
        }
        // A process's root and the like have no path that leads there. Only the kernel makes links in there.
        if rustix::fs::fstatfs(&handle)?.f_type == rustix::fs::PROC_SUPER_MAGIC
            && !self.admits_others()
            && let Ok((handle, meta)) = self.look(name, OFlags::DIRECTORY)
        {
            return Ok(directory(handle, meta));
        }
        let target = rustix::fs::readlinkat(&handle, c"", Vec::new())?;
        Ok(Step::Link(meta, PathBuf::from(OsString::from_vec(target.into_bytes()))))
    }

    /// A directory that root has just made here is for the owner of this one. The name may lead to another by now: an
    /// empty one of root's does no harm. That it cannot be given away is no failure.
    fn give_to_owner(&self, name: &OsStr) {
        let Ok(made) = open_at(&self.handle, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0) else {
            return;
        };
        let made = File::from(made);
        let is_roots = made.metadata().is_ok_and(|meta| meta.uid() == 0);
        if is_roots && made.try_clone().is_ok_and(|opened| super::place::names_of(Some(opened)).all(is_dots)) {
            let _ = fchown(&made, Some(self.meta.uid()), Some(self.meta.gid()));
        }
    }

    /// An entry without opening it.
    pub(super) fn look(&self, name: &OsStr, flags: OFlags) -> Result<(File, Metadata), Errno> {
        // Not std's open, which takes O_PATH for an access mode where musl does, and leaves it out.
        let handle = File::from(open_at(&self.handle, name, flags | OFlags::PATH, 0)?);
        let meta = handle.metadata().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok((handle, meta))
    }

    /// The directory itself, to be read or synced.
    pub(super) fn opened(&self) -> io::Result<File> {
        Ok(open_at(&self.handle, OsStr::new("."), OFlags::RDONLY | OFlags::DIRECTORY, 0)?.into())
    }

    /// Whether others than we and root may make entries here.
    pub fn admits_others(&self) -> bool {
        !is_trusted(self.meta.uid()) || self.is_open()
    }

    /// Whether more than its owner may.
    pub(super) fn is_open(&self) -> bool {
        is_writable_by_others(&self.handle, &self.meta)
    }

    /// Whether others may put something else in the place of this entry.
    pub(super) fn may_be_exchanged(&self, entry: &Metadata) -> bool {
        let is_kept = is_sticky(&self.meta) && is_trusted(entry.uid());
        !is_trusted(self.meta.uid()) || self.is_open() && !is_kept
    }
}

fn is_dots(name: OsString) -> bool {
    name == "." || name == ".."
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// A signal does not end it: some file systems of the network let it through (signal(7)).
pub(super) fn open_at(directory: impl AsFd, name: &OsStr, flags: OFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let (flags, mode) = (flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode));
    rustix::io::retry_on_intr(|| rustix::fs::openat(&directory, name, flags, mode))
}

pub(super) fn is_sticky(directory: &Metadata) -> bool {
    directory.mode() & STICKY != 0
}

/// Root and we.
pub(super) fn is_trusted(user: u32) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&user)
}

/// Whether it may be written by everybody, or by a user or group that is not ours: root's 0770 for the group of an
/// agent that runs as another user, say. Who is in our own group is one of us: many users have a group of their own
/// and directories with 0775.
pub(super) fn is_writable_by_others(handle: &File, meta: &Metadata) -> bool {
    let mode = meta.mode();
    let own_group = rustix::process::getegid().as_raw();
    // Whoever an access list names can write only if the group's bit says so (acl(5)).
    mode & 0o002 != 0
        || mode & 0o020 != 0 && (meta.gid() != own_group || attributes::grants_write(handle, is_trusted, own_group))
}

pub(super) fn planted(path: &Path, what: &str) -> io::Error {
    let text = format!("{} is {what} that another user may have created: remove it", path.display());
    io::Error::new(io::ErrorKind::PermissionDenied, files::Planted(text))
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
