//! One agent, or one `--check` that runs alone, per run directory: a flock(2), which the kernel drops with its holder.
//!
//! The file stays where it is; only the lock means something. Never a pid file. What cleans run directories may remove
//! it, or the whole directory, under the agent that holds it. So a second lock is in the state directory, which nobody
//! cleans; its file says for which run directory it is held, since other agents may have the same state.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::files::{self, FileKey, safe_open};
use super::user::User;
use super::{error, host};
use crate::error::{Error, Exit, Result};

/// In the run directory, and in the state directory.
pub const NAME: &str = "lock";
/// Of the file in the state directory: two paths (PATH_MAX), and which host it is.
const MAX_BYTES: u64 = 16 * 1024;
const CHECK: &str = "check";

/// What holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Agent,
    /// A `--check` that runs alone.
    Check,
}

/// Held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// `None` where the state directory is not to be written in, or another agent has it.
    in_state: Option<File>,
}

impl Lock {
    /// # Errors
    /// 73 when the run directory cannot be used, 75 when another process holds the lock.
    pub fn take(run_dir: &Path, state_dir: &Path, role: Role) -> Result<Lock> {
        Ok(Lock { file: lock(run_dir)?, in_state: lock_state(run_dir, state_dir, role)? })
    }

    /// Takes it anew if its file has lost its name. True if it had.
    ///
    /// # Errors
    /// As for `take`.
    pub fn restore(&mut self, run_dir: &Path) -> Result<bool> {
        let path = run_dir.join(NAME);
        // A lock that cannot be looked at is held all the same: to take it anew would find ourselves holding it.
        let unknown = |error| Error::because(Exit::CannotWrite, "cannot look at the lock in the run directory", error);
        let own = FileKey::of_opened(&self.file).map_err(|error| unknown(files::named(&path, error)))?;
        let is_lost = FileKey::of(&path).map_err(unknown)? != Some(own);
        if is_lost {
            self.file = lock(run_dir)?;
        }
        Ok(is_lost)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it to a child between fork and exec, which has a copy of the descriptor.
        for file in [Some(&self.file), self.in_state.as_ref()].into_iter().flatten() {
            let _ = file.unlock();
        }
    }
}

fn lock(run_dir: &Path) -> Result<File> {
    let file = files::open_lock(&run_dir.join(NAME)).map_err(|error| unusable(run_dir, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(held(&file, run_dir)),
        Err(TryLockError::Error(error)) => Err(unusable(run_dir, error)),
    }
}

fn lock_state(run_dir: &Path, state_dir: &Path, role: Role) -> Result<Option<File>> {
    let path = state_dir.join(NAME);
    let (Some(holder), Ok(file)) = (Holder::of(run_dir), files::open_lock(&path)) else { return Ok(None) };
    let written = holder.written(&path);
    match file.try_lock() {
        Err(TryLockError::WouldBlock) if written.is_some() => Err(held(&file, run_dir)),
        Err(_) => Ok(None),
        Ok(()) => {
            // Not in another user's directory, where the file could have a second name that is a file of ours.
            if written != Some(role) && User::owner_of(state_dir) == Some(User::current()) {
                let _ = write(&file, &holder.text(role));
            }
            Ok(Some(file))
        }
    }
}

/// Which agent holds the lock of this run directory in the state directory.
pub fn agent_in_state(run_dir: &Path, state_dir: &Path) -> Option<u32> {
    let path = state_dir.join(NAME);
    // The directory itself may be gone.
    let role = Holder::of(run_dir)?.written(&path)?;
    files::lock_holder(&files::open_regular(&path).ok()?).filter(|_| role == Role::Agent)
}

/// For which run directory a lock is held, and on which host: containers may have the same state, and so may hosts, by
/// a network file system.
struct Holder {
    host: String,
    /// As it is set.
    name: PathBuf,
    /// Where that is: it may have several names, and any of them may become a link to another directory.
    real: PathBuf,
}

impl Holder {
    fn of(run_dir: &Path) -> Option<Holder> {
        let name = std::path::absolute(run_dir).ok()?;
        // What has been removed may be the directory above it, too, as that of a user at a logout.
        let (there, real) = name.ancestors().find_map(|path| Some((path, fs_err::canonicalize(path).ok()?)))?;
        let gone = name.strip_prefix(there).unwrap_or(Path::new(""));
        // Without a slash at the end.
        let real = real.components().chain(gone.components()).collect();
        Some(Holder { host: host::instance()?, name, real })
    }

    /// Which holder the lock's file names, if it is one for this directory, by one of its names, as they are shown.
    fn written(&self, path: &Path) -> Option<Role> {
        let text = String::from_utf8(safe_open::read(path, MAX_BYTES).ok()?).ok()?;
        let mut lines = text.lines();
        let first = lines.next()?;
        let (host, real) = first.split_at_checked(first.find(" /")?)?;
        // Earlier versions wrote the first line alone.
        let (name, role) = (lines.next(), lines.next());
        let is_its = host == self.host
            && (real[1..] == *self.real.to_string_lossy() || name == Some(&*self.name.to_string_lossy()));
        is_its.then_some(if role == Some(CHECK) { Role::Check } else { Role::Agent })
    }

    fn text(&self, role: Role) -> String {
        let role = if role == Role::Check { format!("{CHECK}\n") } else { String::new() };
        format!("{} {}\n{}\n{role}", self.host, self.real.display(), self.name.display())
    }
}

fn write(mut file: &File, text: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

fn held(file: &File, run_dir: &Path) -> Error {
    let holder = files::lock_holder(file).map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let what = format!("another kmagent{holder} already uses {}", run_dir.display());
    Error::new(Exit::TryAgain, format!("{what}: stop it with `kmagent stop`, or try again later"))
}

fn unusable(run_dir: &Path, error: io::Error) -> Error {
    let what = format!("cannot use the run directory {} ({})", run_dir.display(), error::REMEDY_FOR_RUN_DIR);
    Error::because(Exit::CannotWrite, what, error)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use fs_err as fs;

    use super::*;
    use crate::os::unix::files::test_dir::Dir;

    #[test]
    fn one_holder_at_a_time() {
        let dir = Dir::new();
        let (run, state) = (dir.join("run"), dir.join("state"));
        fs::create_dir(&run).unwrap();
        let take = || Lock::take(&run, &state, Role::Agent);
        let lock = take().unwrap();
        let refused = take().unwrap_err();
        assert_eq!(refused.exit(), Exit::TryAgain);
        let words = format!("another kmagent (pid {}) already uses {}: ", std::process::id(), run.display());
        assert!(refused.to_string().starts_with(&words), "{refused}");
        drop(lock);
        drop(take().unwrap());
        fs::remove_dir_all(&run).unwrap();
        assert_eq!(take().unwrap_err().exit(), Exit::CannotWrite);
    }

    #[test]
    fn a_lock_outlives_its_file_and_its_directory() {
        let dir = Dir::new();
        let (run, state) = (dir.join("run"), dir.join("state"));
        fs::create_dir(&run).unwrap();
        fs::create_dir(&state).unwrap();
        let mut lock = Lock::take(&run, &state, Role::Agent).unwrap();
        assert!(!lock.restore(&run).unwrap());
        for clean in [|run: &Path| fs::remove_file(run.join(NAME)), |run: &Path| fs::remove_dir_all(run)] {
            clean(&run).unwrap();
            assert_eq!(agent_in_state(&run, &state), Some(std::process::id()));
            let _ = fs::create_dir(&run);
            assert_eq!(Lock::take(&run, &state, Role::Agent).unwrap_err().exit(), Exit::TryAgain);
            assert!(lock.restore(&run).unwrap());
            assert!(!lock.restore(&run).unwrap());
        }
        // By another name, too, and not for another run directory, whose agent has the same state.
        let (link, other) = (dir.join("link"), dir.join("other"));
        std::os::unix::fs::symlink(&run, &link).unwrap();
        fs::create_dir(&other).unwrap();
        fs::remove_file(run.join(NAME)).unwrap();
        assert_eq!(Lock::take(&link, &state, Role::Agent).unwrap_err().exit(), Exit::TryAgain);
        drop(Lock::take(&other, &state, Role::Agent).unwrap());
        assert_eq!(agent_in_state(&other, &state), None);
        // The name leads elsewhere now, and what it led to has another name.
        fs::rename(&run, dir.join("moved")).unwrap();
        std::os::unix::fs::symlink(&other, &run).unwrap();
        assert_eq!(Lock::take(&run, &state, Role::Agent).unwrap_err().exit(), Exit::TryAgain);
        assert_eq!(agent_in_state(&run, &state), Some(std::process::id()));
        fs::remove_file(&run).unwrap();
        drop(lock);
        assert_eq!(agent_in_state(&run, &state), None);
        fs::create_dir(&run).unwrap();
        let check = Lock::take(&run, &state, Role::Check).unwrap();
        assert_eq!(agent_in_state(&run, &state), None);
        assert_eq!(Lock::take(&run, &state, Role::Agent).unwrap_err().exit(), Exit::TryAgain);
        drop(check);
        drop(Lock::take(&run, &state, Role::Agent).unwrap());
    }
}
