//! One agent, or one `--check` that runs alone, per run directory: a flock(2), which the kernel drops with its holder.
//!
//! The file stays where it is; only the lock means something. Never a pid file.

use std::fs::{File, TryLockError};
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use crate::error::{Error, Exit, Result};
use crate::store::atomic;

/// ListenerCopy as long as this lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// # Errors
    /// 73 when the run directory cannot be used, 75 when somebody else holds the lock.
    pub fn take(run_dir: &Path) -> Result<Lock> {
        let path = run_dir.join("lock");
        let file = open(&path).map_err(|error| unusable(run_dir, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { file }),
            Err(TryLockError::WouldBlock) => {
                let what = format!("another agent, or a --check, holds {}", path.display());
                let remedy = "end the agent with `kmagent stop`, or try again later";
                Err(Error::new(Exit::TryAgain, format!("{what}: {remedy}")))
            }
            Err(TryLockError::Error(error)) => Err(unusable(run_dir, error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it to a child between fork and exec, which has a copy of the descriptor.
        let _ = self.file.unlock();
    }
}

/// Made if it is missing; made by us and by nobody else, or a link in its place would have us give away what it leads to.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            atomic::give_to_owner_of_directory(file.file(), path);
            Ok(file.into_file())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Ok(options.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path)?.into_file())
        }
        Err(error) => Err(error),
    }
}

fn unusable(run_dir: &Path, error: std::io::Error) -> Error {
    let remedy = "run as root, or choose another with the setting `run-dir`";
    let what = format!("cannot use the run directory {} ({remedy})", run_dir.display());
    Error::because(Exit::CannotWrite, what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = std::env::temp_dir().join(format!("kmagent-lock-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let lock = Lock::take(&dir).unwrap();
        assert_eq!(Lock::take(&dir).unwrap_err().exit(), Exit::TryAgain);
        drop(lock);
        drop(Lock::take(&dir).unwrap());
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(Lock::take(&dir).unwrap_err().exit(), Exit::CannotWrite);
    }
}
