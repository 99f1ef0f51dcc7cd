//! A name in a directory that is held open, and all that is done with it: by `*at` calls, so that it is the directory
//! that was looked at in which something is read, made or replaced.
//!
//! Errors of what changes something name no path: who calls knows which file it is about. All others do.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::confined::Readers;
use super::walk::{Directory, Last, Walked, open_at, planted, walk};
use super::{attributes, is_root, regular};
use crate::os::files::{self, FileId};

/// What a file of ours is created with: it may hold credentials.
const PRIVATE: u32 = 0o600;

#[derive(Clone, Debug)]
pub struct Place {
    directory: Directory,
    name: OsString,
    /// Directories on the way in which another user may exchange the next step; these names lead elsewhere then.
    pub(super) exposed: Vec<Directory>,
    /// Whose affair a file has to be that is read here.
    readers: Option<Readers>,
}

impl Place {
    /// The name itself, whatever is there: for what is made, replaced or removed.
    ///
    /// # Errors
    /// `PermissionDenied` for a link on the way that another user may have made; `NotFound` when a directory is
    /// missing. They name the path.
    pub fn new(path: &Path) -> io::Result<Place> {
        Place::of(walk(path, Last::Named)?)
    }

    /// Where a path leads, through links that may be followed; there need not be anything.
    ///
    /// # Errors
    /// As for `new`.
    pub fn followed(path: &Path) -> io::Result<Place> {
        Place::of(walk(path, Last::Followed)?)
    }

    fn of(walked: Walked) -> io::Result<Place> {
        let Walked { directory, name, exposed, readers } = walked;
        Ok(Place { directory, name: name.ok_or(io::ErrorKind::InvalidFilename)?, exposed, readers })
    }

    pub fn beside(&self, name: OsString) -> Place {
        Place { name, readers: None, ..self.clone() }
    }

    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Where it was found.
    pub fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }

    /// Of directories in which another user may exchange the next step, or what was found here, the nearest first.
    pub fn owners_on_the_way(&self, found: Option<&Metadata>) -> impl Iterator<Item = (u32, PathBuf)> {
        let last = found.filter(|meta| self.directory.may_be_exchanged(meta)).map(|_| &self.directory);
        let exposed = last.into_iter().chain(self.exposed.iter().rev());
        exposed.map(|directory| (directory.meta.uid(), directory.path.clone()))
    }

    /// Whether another user may ever put something else here.
    pub fn may_change(&self) -> bool {
        !self.exposed.is_empty() || self.directory.admits_others()
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What is there; `None` if there is nothing.
    pub fn look(&self) -> io::Result<Option<Metadata>> {
        self.handle().map(|found| found.map(|(_, meta)| meta))
    }

    pub(in crate::os::unix) fn handle(&self) -> io::Result<Option<(File, Metadata)>> {
        match self.directory.look(&self.name, OFlags::NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(files::named(&self.path(), errno.into())),
        }
    }

    /// Which file is there; `None` when there is none.
    pub fn identity(&self) -> io::Result<Option<FileId>> {
        Ok(self.look()?.map(|meta| super::file_id(&meta)))
    }

    /// Opens a regular file, without waiting, for reading or for writing.
    ///
    /// # Errors
    /// It is none: what it is, and what to do.
    pub(super) fn open(&self, mode: OFlags) -> io::Result<File> {
        // A terminal must not become ours either.
        let flags = mode | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open_at(&self.directory.handle, &self.name, flags, 0) {
            // A socket, or for writing a FIFO that nobody reads.
            Err(Errno::NXIO) => {
                let meta = self.look().ok().flatten();
                return Err(meta.and_then(|meta| regular::refused(&meta)).unwrap_or(Errno::NXIO.into()));
            }
            opened => File::from(opened?),
        };
        regular::refused(&file.metadata()?).map_or(Ok(file), Err)
    }

    /// For reading; not what another user may have put there to have us read, and maybe publish, another file.
    ///
    /// # Errors
    /// They name the path.
    pub fn open_safely(&self) -> io::Result<File> {
        let is_shared = self.directory.admits_others();
        let file = match self.open(OFlags::RDONLY) {
            Err(error) if is_shared && is_special(&error) => {
                return Err(planted(&self.path(), "a special file or directory"));
            }
            opened => opened.map_err(|error| files::named(&self.path(), error))?,
        };
        let opened = file.metadata().map_err(|error| files::named(&self.path(), error))?;
        if let Some(readers) = &self.readers {
            readers.check(&self.path(), &opened)?;
        }
        // A hard link: the user who made it may not be able to read the file. The directory's owner can, who owns the
        // file too, and if only that user could have made the name, nothing is given away.
        let is_secret = || opened.uid() != self.directory.meta.uid() || self.directory.is_open();
        match is_shared && opened.nlink() > 1 && is_secret() {
            true => Err(planted(&self.path(), "a link")),
            false => Ok(file),
        }
    }

    /// The content of a regular file of at most so many bytes.
    ///
    /// # Errors
    /// As for `open_safely`.
    pub fn read(&self, max_bytes: u64) -> io::Result<Vec<u8>> {
        let file = self.open_safely()?;
        files::read_opened(&file, max_bytes).map_err(|error| files::named(&self.path(), error))
    }

    /// A file that was not there, for writing; only its owner may read it.
    ///
    /// # Errors
    /// `AlreadyExists` for a link too, wherever it leads.
    pub fn create_private(&self) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        Ok(open_at(&self.directory.handle, &self.name, flags, PRIVATE)?.into())
    }

    /// For a file that this process has just made here: what is done as root, by a `--check` for instance, must not
    /// lock the agent out that runs as another user. That it cannot be done is no failure.
    pub fn give_to_owner_of_directory(&self, file: &File) {
        let directory = &self.directory.meta;
        if is_root() && directory.uid() != 0 {
            let _ = fchown(file, Some(directory.uid()), Some(directory.gid()));
        }
    }

    /// Gives a new file the owner, mode, access list and attributes of the file that is here, which it will replace.
    /// False if none is.
    pub fn give_owner_and_mode(&self, file: &File) -> io::Result<bool> {
        let Some((handle, replaced)) = self.replaced()? else { return Ok(false) };
        let own = file.metadata().map_err(|error| files::named(&self.path(), error))?;
        if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
            fchown(file, Some(replaced.uid()), Some(replaced.gid()))?;
        }
        // After the owner, since a mode must not be granted to the wrong owner. No config is a program, so without the
        // set-id bits.
        let mode = replaced.mode() & 0o777;
        // Of a file with a list the group bits are what this grants at most (acl(5)), and others may have less by name.
        let mode = match attributes::copy_access_list(&handle, file) {
            Ok(()) => mode,
            Err(error) => {
                log::warn!(path:% = self.path().display(), error:%; "access list not copied: only the owner may use the new file");
                mode & 0o700
            }
        };
        file.set_permissions(Permissions::from_mode(mode))?;
        attributes::copy_attributes(&handle, file);
        Ok(true)
    }

    /// Open for reading if it can be: the attributes of what is open with O_PATH are to be had by /proc alone.
    fn replaced(&self) -> io::Result<Option<(File, Metadata)>> {
        if let Ok(file) = self.open(OFlags::RDONLY) {
            let meta = file.metadata().map_err(|error| files::named(&self.path(), error))?;
            return Ok(Some((file, meta)).filter(|(_, meta)| meta.is_file()));
        }
        Ok(self.handle()?.filter(|(_, meta)| meta.is_file()))
    }

    /// Gives what is here the name `target`, in place of what has it; at no time is there nothing.
    pub fn rename(&self, target: &Place) -> io::Result<()> {
        let directories = (&self.directory.handle, &target.directory.handle);
        Ok(rustix::fs::renameat(directories.0, &self.name, directories.1, &target.name)?)
    }

    /// Gives what is here the name `other`, too.
    pub fn link(&self, other: &Place) -> io::Result<()> {
        let directories = (&self.directory.handle, &other.directory.handle);
        Ok(rustix::fs::linkat(directories.0, &self.name, directories.1, &other.name, AtFlags::empty())?)
    }

    pub fn remove(&self) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory.handle, &self.name, AtFlags::empty())?)
    }

    /// Removes what no living process holds. A file that we may not open is left to its owner.
    pub fn remove_unheld(&self) -> io::Result<()> {
        // Neither a link nor a pipe is anything that was held.
        let opened = self.open(OFlags::RDONLY);
        match &opened {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Ok(file) if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) => return Ok(()),
            Ok(_) | Err(_) => {}
        }
        // Before the lock is let go.
        self.remove()
    }

    /// Whether the file itself is mounted there, as container engines mount single files: it cannot be renamed over
    /// (EBUSY, rename(2)). False where the kernel does not tell (before 5.8, statx(2)).
    pub fn is_mounted(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statx(&self.directory.handle, &self.name, flags, StatxFlags::empty());
        found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    /// A path for calls that know no descriptors: the plain one, unless another user may exchange a step of it.
    ///
    /// # Errors
    /// `Unsupported` without /proc, where there is no other.
    pub fn path_of_descriptor(&self) -> io::Result<PathBuf> {
        if !self.may_change() {
            return Ok(self.path());
        }
        descriptor(&self.directory.handle, &self.path()).map(|directory| directory.join(&self.name))
    }

    /// As `path_of_descriptor`, for what is there, and stays the same whatever takes its place; `NotFound` if there is
    /// nothing. The file keeps the path valid.
    pub fn path_of_found(&self) -> io::Result<(PathBuf, File)> {
        let (found, _) = self.handle()?.ok_or(io::ErrorKind::NotFound)?;
        match !self.may_change() {
            true => Ok((self.path(), found)),
            false => Ok((descriptor(&found, &self.path())?, found)),
        }
    }
}

impl Directory {
    pub fn entry(&self, name: OsString) -> Place {
        Place { directory: self.clone(), name, exposed: Vec::new(), readers: None }
    }

    /// The names in it, as far as it can be read.
    pub fn names(&self) -> impl Iterator<Item = OsString> + use<> {
        names_of(self.opened().ok())
    }

    /// Puts the names in it on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.opened()?.sync_all()
    }
}

/// Not the standard library's, which panics when it cannot close a directory.
pub(super) fn names_of(directory: Option<impl Into<OwnedFd>>) -> impl Iterator<Item = OsString> {
    let entries = directory.and_then(|opened| Dir::new(opened).ok());
    let names = entries.into_iter().flatten().flatten();
    names.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_os_string())
}

fn descriptor(handle: &File, path: &Path) -> io::Result<PathBuf> {
    let descriptors = Path::new("/proc/self/fd");
    if !descriptors.exists() {
        let text = format!("{} is in a directory of another user, and /proc is not mounted: mount it", path.display());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(descriptors.join(handle.as_raw_fd().to_string()))
}

fn is_special(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory)
}
