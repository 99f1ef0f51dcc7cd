//! One agent, or one `--check` that runs alone, per run directory: a flock(2), which the kernel drops with its holder.
//!
//! The file stays where it is; only the lock means something. Never a pid file.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::{error, files};
use crate::error::{Error, Exit, Result};

/// In the run directory.
pub const NAME: &str = "lock";

/// Held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// # Errors
    /// 73 when the run directory cannot be used, 75 when another process holds the lock.
    pub fn take(run_dir: &Path) -> Result<Lock> {
        let path = run_dir.join(NAME);
        let file = files::open_lock(&path).map_err(|error| unusable(run_dir, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { file }),
            Err(TryLockError::WouldBlock) => {
                let holder = files::lock_holder(&file).map_or_else(String::new, |pid| format!(" (pid {pid})"));
                let what = format!("another kmagent{holder} already uses {}", run_dir.display());
                let remedy = "stop it with `kmagent stop`, or try again later";
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

fn unusable(run_dir: &Path, error: std::io::Error) -> Error {
    let what = format!("cannot use the run directory {} ({})", run_dir.display(), error::REMEDY_FOR_RUN_DIR);
    Error::because(Exit::CannotWrite, what, error)
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = std::env::temp_dir().join(format!("kmagent-lock-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let lock = Lock::take(&dir).unwrap();
        let refused = Lock::take(&dir).unwrap_err();
        assert_eq!(refused.exit(), Exit::TryAgain);
        let words = format!("another kmagent (pid {}) already uses {}: ", std::process::id(), dir.display());
        assert!(refused.to_string().starts_with(&words), "{refused}");
        drop(lock);
        drop(Lock::take(&dir).unwrap());
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(Lock::take(&dir).unwrap_err().exit(), Exit::CannotWrite);
    }
}
