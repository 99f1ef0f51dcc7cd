//! Tells that names in a directory were removed (inotify(7)).

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::wait::Waitable;

#[derive(Debug)]
pub struct DirWatch(OwnedFd);

impl DirWatch {
    /// # Errors
    /// The user has too many of them (fs.inotify.max_user_instances), or the system no descriptor left.
    pub fn new() -> io::Result<DirWatch> {
        Ok(DirWatch(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?))
    }

    /// Watches the directory that has this name now. One that is watched already is so once.
    ///
    /// # Errors
    /// There is none, or the user watches too many.
    pub fn add(&self, directory: &Path) -> io::Result<()> {
        let removals = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        inotify::add_watch(&self.0, directory, removals | WatchFlags::ONLYDIR)?;
        Ok(())
    }

    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.0)
    }

    /// Whether anything was removed since the last call; never blocks.
    pub fn take(&self) -> bool {
        let mut seen = false;
        // Room for several events, each of which has a name of 255 bytes at most.
        while matches!(rustix::io::read(&self.0, &mut [0u8; 1024]), Ok(1..)) {
            seen = true;
        }
        seen
    }
}
