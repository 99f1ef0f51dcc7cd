//! One agent, or one `--check` that runs alone, per run directory: a flock(2), which the kernel drops with its holder.
//!
//! The file stays where it is; only the lock means something. Never a pid file.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;

use crate::error::{Error, Result};
use crate::exit::Exit;

/// Held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody holds the lock. A shared lock, which `take` tells from a holder's.
    ///
    /// # Errors
    /// 73 when the run directory cannot be used.
    pub fn wait(run_dir: &Path) -> Result<()> {
        match fs::File::open(run_dir.join("lock")).and_then(|file| file.into_file().lock_shared()) {
            // The directory went with the agent, as systemd's RuntimeDirectory= does.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            free => free.map_err(unusable),
        }
    }

    /// # Errors
    /// 73 when the run directory cannot be used, 75 when somebody else holds the lock.
    pub fn take(run_dir: &Path) -> Result<Lock> {
        let path = run_dir.join("lock");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(unusable)?.into_file();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                // Whoever lets us share it is one that waits, and lets go at once.
                Err(TryLockError::WouldBlock) if file.try_lock_shared().is_ok() => {
                    file.unlock().map_err(unusable)?;
                    std::thread::yield_now();
                }
                Err(TryLockError::WouldBlock) => {
                    let what = format!("another agent, or a --check, holds {}", path.display());
                    let remedy = "end the agent with `kmagent stop`, or try again later";
                    return Err(Error::new(Exit::TryAgain, format!("{what}: {remedy}")));
                }
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
        }
    }
}

fn unusable(error: std::io::Error) -> Error {
    let what = "cannot use the run directory (run as root, or choose another with the setting `run-dir`)";
    Error::because(Exit::CannotWrite, what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_waits_is_no_holder() {
        let dir = std::env::temp_dir().join(format!("kmagent-lock-wait-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        drop(Lock::take(&dir).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..1000).for_each(|_| Lock::wait(&dir).unwrap()));
            }
            for _ in 0..1000 {
                drop(Lock::take(&dir).unwrap());
            }
        });
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn one_holder_at_a_time() {
        let dir = std::env::temp_dir().join(format!("kmagent-lock-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let lock = Lock::take(&dir).unwrap();
        assert_eq!(Lock::take(&dir).unwrap_err().exit(), Exit::TryAgain);
        drop(lock);
        Lock::wait(&dir).unwrap();
        drop(Lock::take(&dir).unwrap());
        fs::remove_dir_all(&dir).unwrap();
        Lock::wait(&dir).unwrap();
        assert_eq!(Lock::take(&dir).unwrap_err().exit(), Exit::CannotWrite);
    }
}
