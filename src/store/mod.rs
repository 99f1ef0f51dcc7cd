//! The files that decide what runs: the active config, candidates beside it, the last known good, the rejected
//! revision.
//!
//! Every change is a rename of a file that is whole and on disk, so a reader sees the old or the new one. What a roll
//! back replaces is kept beside the config as `<config>.rejected`. Which change to make, and when, is decided
//! elsewhere; `record` keeps the small JSON files of the state directory.

pub mod atomic;
pub mod record;

#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::value::{Revision, Value};
use crate::config::yaml;
use crate::error::{Error, Exit, Result};
use crate::os::files::{self, Directory, FileId, Place, named, safe_open};
use crate::os::{error as os_error, shutdown};
use atomic::NewFile;

/// What marks our own files beside the config, between a dot with its name and a number.
const CANDIDATE_MARK: &str = ".candidate-";
const LAST_KNOWN_GOOD: &str = "last-known-good.yaml";
const PREVIOUS: &str = "previous.yaml";

#[derive(Clone, Debug)]
pub struct Store {
    config: PathBuf,
    state_dir: PathBuf,
    /// Bytes of a config file that is read.
    max_bytes: u64,
}

/// A validated config in a file beside the config; the file is removed with it unless it was renamed away.
#[derive(Debug)]
pub struct Candidate {
    file: Box<NewFile>,
    pub revision: Revision,
}

impl Candidate {
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.file.remove();
    }
}

/// How the active config compares with the last known good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the last known good.
    Same,
    /// There is a last known good, and the active config is another.
    Different,
    /// There is no last known good.
    NoFallback,
}

impl Store {
    /// No config file of more than `max_bytes` is read: it counts as one that cannot be.
    pub fn new(config: &Path, state_dir: &Path, max_bytes: u64) -> Store {
        Store { config: config.to_path_buf(), state_dir: state_dir.to_path_buf(), max_bytes }
    }

    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The config file itself when the setting names a symbolic link: the target is replaced, or made, and the link
    /// stays.
    fn target(&self) -> io::Result<Place> {
        Place::followed(&self.config)
    }

    fn last_known_good(&self) -> PathBuf {
        self.state_dir.join(LAST_KNOWN_GOOD)
    }

    /// The config file as it is now; `None` when there is none.
    ///
    /// # Errors
    /// 69 when it cannot be looked at, which does not mean that it is missing.
    pub fn look(&self) -> Result<Option<FileId>> {
        let what = |error| {
            Error::because(
                Exit::Unavailable,
                format!("cannot stat the config{}", os_error::remedy_for_write(&error)),
                error,
            )
        };
        safe_open::identity(&self.config).map_err(what)
    }

    /// Whether there is a config file, or something that cannot be looked at.
    pub fn has_config(&self) -> bool {
        !matches!(self.look(), Ok(None))
    }

    /// Whether the config is a mount of its own, which can be replaced neither by a candidate nor by a roll back.
    pub fn is_mounted(&self) -> bool {
        self.target().is_ok_and(|target| target.is_mounted())
    }

    /// Copies `default`, if there is such a file, to where there is no config yet and nothing to fall back to. True if
    /// it did.
    ///
    /// # Errors
    /// 73, naming the path and the remedy.
    pub fn install_default(&self, default: &Path) -> Result<bool> {
        if self.has_config() || self.has_fallback() || FileId::of(default).is_none() {
            return Ok(false);
        }
        let copied = safe_open::read(default, self.max_bytes)
            .and_then(|bytes| self.target().and_then(|target| atomic::write_at(&target, &bytes)));
        copied.map(|()| true).map_err(|error| self.cannot_replace("cannot install the default config", error))
    }

    /// Whether there is a last known good to go back to, or something that cannot be looked at.
    pub fn has_fallback(&self) -> bool {
        !matches!(safe_open::identity(&self.last_known_good()), Ok(None))
    }

    /// The active config, as a tree.
    ///
    /// # Errors
    /// It cannot be read, or is no YAML.
    pub fn read_config(&self) -> Result<Value> {
        self.read_tree(&self.config)
    }

    /// The last known good, as a tree.
    ///
    /// # Errors
    /// As for `read_config`.
    pub fn read_last_known_good(&self) -> Result<Value> {
        self.read_tree(&self.last_known_good())
    }

    /// A config that is laid over the active one, as a tree.
    ///
    /// # Errors
    /// As for `read_config`.
    pub fn read_overlay(&self, path: &Path) -> Result<Value> {
        self.read_tree(path)
    }

    fn read_tree(&self, path: &Path) -> Result<Value> {
        let bytes = self.read(path).map_err(|error| Error::because(Exit::Unavailable, "cannot read", error))?;
        let what = || format!("cannot parse {}", path.display());
        yaml::parse(&bytes).map_err(|error| Error::because(Exit::ConfigRefused, what(), error))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        safe_open::read(path, self.max_bytes).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => {
                io::Error::new(error.kind(), format!("{error}; make it smaller, or raise max-config-size"))
            }
            _ => error,
        })
    }

    /// Writes a candidate beside the config, with the mode, owner and access list of the config or 0600, and syncs
    /// it.
    ///
    /// # Errors
    /// 73, naming the path and the remedy.
    pub fn write_candidate(&self, text: &str, revision: Revision) -> Result<Candidate> {
        let _step = shutdown::step();
        let file = self
            .target()
            .and_then(|target| atomic::write_new(&target, CANDIDATE_MARK, text.as_bytes()))
            .map_err(|error| self.cannot_replace("cannot write the new config", error))?;
        Ok(Candidate { file: Box::new(file), revision })
    }

    /// Makes a candidate the active config.
    ///
    /// # Errors
    /// 73, with the config as it was.
    pub fn install(&self, candidate: &Candidate) -> Result<()> {
        self.target()
            .and_then(|target| candidate.file.replace(&target))
            .map_err(|error| self.cannot_replace("cannot install the new config", error))
    }

    /// Compares the active config with the last known good, byte by byte.
    pub fn compare(&self) -> Comparison {
        match (self.read(&self.config), self.read(&self.last_known_good())) {
            (Ok(config), Ok(good)) if config == good => Comparison::Same,
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => Comparison::NoFallback,
            // One that cannot be read now may be when it is needed; if not, the roll back says why.
            (_, Ok(_) | Err(_)) => Comparison::Different,
        }
    }

    /// Keeps the active config as last known good, if it is still this file and not kept already. True if it was
    /// written.
    ///
    /// # Errors
    /// 73; the former last known good is whole.
    pub fn promote(&self, file: FileId) -> Result<bool> {
        let bytes = self.read(&self.config).map_err(|error| self.cannot_write("cannot read the config", error))?;
        let good = self.last_known_good();
        let same = self.read(&good).is_ok_and(|kept| kept == bytes);
        if same || self.look()? != Some(file) {
            return Ok(false);
        }
        atomic::write(&good, &bytes).map_err(|error| self.cannot_write("cannot save the last known good", error))?;
        Ok(true)
    }

    /// Puts the last known good over the config, and keeps what it replaces as `<config>.rejected`.
    ///
    /// # Errors
    /// 73, with the config as it was.
    pub fn roll_back(&self) -> Result<()> {
        self.restore(&self.last_known_good())
    }

    fn restore(&self, source: &Path) -> Result<()> {
        let failed = |error| self.cannot_replace("cannot restore the previous config", error);
        let bytes = self.read(source).map_err(failed)?;
        let target = self.target().map_err(failed)?;
        let restored = atomic::write_new(&target, CANDIDATE_MARK, &bytes).map_err(failed)?;
        let kept = target.beside(with_suffix(target.name().into(), ".rejected"));
        if let Err(error) = atomic::set_aside(&target, &kept, self.max_bytes) {
            log::warn!(error:% = error; "cannot save the rejected config");
        }
        restored.replace(&target).map_err(|error| {
            restored.remove();
            failed(error)
        })
    }

    /// Keeps the active config for `restore_previous`, whether or not it has proved itself.
    ///
    /// # Errors
    /// 73.
    pub fn keep_previous(&self) -> Result<()> {
        let kept = self.read(&self.config).and_then(|bytes| atomic::write(&self.state_dir.join(PREVIOUS), &bytes));
        kept.map_err(|error| self.cannot_write("cannot save the current config", error))
    }

    /// Puts what `keep_previous` kept over the config.
    ///
    /// # Errors
    /// 73, with the config as it was.
    pub fn restore_previous(&self) -> Result<()> {
        self.restore(&self.state_dir.join(PREVIOUS))
    }

    /// Of a symbolic link the target.
    ///
    /// # Errors
    /// 73.
    pub fn remove_config(&self) -> Result<()> {
        self.target()
            .and_then(|target| target.remove().map_err(|error| named(&target.path(), error)))
            .map_err(|error| self.cannot_replace("cannot remove the config", error))
    }

    /// Where a roll back keeps what it replaced.
    pub fn rejected_path(&self) -> PathBuf {
        let path = self.target().map_or_else(|_| self.config.clone(), |target| target.path());
        with_suffix(path.into(), ".rejected").into()
    }

    /// Removes the candidates beside the config that this agent has, and those that a killed one left; not those of a
    /// `--check` that is under way.
    pub fn sweep(&self) {
        let beside = self.target().map(|target| target.directory().clone());
        for directory in beside.into_iter().chain(Directory::open(&self.state_dir)) {
            atomic::sweep(&directory, CANDIDATE_MARK);
        }
    }

    /// What root is to run where the agent may not write in the config's directory: as installed there is a link to the
    /// agent's own, in whose place configuration management has put a file.
    pub fn command_to_link(&self) -> Option<String> {
        files::command_to_link(&self.config, &self.state_dir.join(self.config.file_name()?))
    }

    fn cannot_replace(&self, what: &str, error: io::Error) -> Error {
        let is_refused = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
        match self.command_to_link().filter(|_| is_refused) {
            Some(command) => {
                let remedy = "the agent may not write there: as root, run";
                Error::because(Exit::CannotWrite, format!("{what} ({remedy}: {command})"), error)
            }
            None => self.cannot_write(what, error),
        }
    }

    fn cannot_write(&self, what: &str, error: io::Error) -> Error {
        Error::because(Exit::CannotWrite, format!("{what}{}", os_error::remedy_for_write(&error)), error)
    }
}

fn with_suffix(mut name: OsString, suffix: &str) -> OsString {
    name.push(suffix);
    name
}
