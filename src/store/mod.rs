//! The files that decide what runs: the active config, candidates beside it, the generations, the records.
//!
//! ```text
//!   (here)       the config file and the candidates beside it
//!   active       which generation the config file is, how it is installed, and the verdicts on it
//!   spares       files that a roll back renames into its place
//!   roll_back    what takes its place when it has failed
//!   generations  the configs that were active: the list, and its files
//!   record       the small JSON files of the state directory
//!   atomic       files that are whole or not there
//! ```
//! Every change is a rename of a file that is whole and on disk, so a reader sees the old or the new one. Which change
//! to make, and when, is decided elsewhere.

mod active;
pub mod atomic;
pub mod generations;
pub mod record;
mod roll_back;
mod spares;

#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::config::value::{Revision, Value};
use crate::config::yaml;
use crate::error::{Error, Exit, Result};
use crate::os::files::{self, Directory, FileId, Place, safe_open};
use crate::os::{error as os_error, shutdown};
use crate::settings::Settings;
use atomic::NewFile;
use generations::files::Generations;
use generations::{Generation, Limits, Origin};
pub use roll_back::{RolledBack, Target};
use spares::Spares;

/// What marks our own files beside the config, between a dot with its name and a number.
const CANDIDATE_MARK: &str = ".candidate-";

/// Clones are about the same files, and know the same of them.
#[derive(Clone, Debug)]
pub struct Store {
    config: PathBuf,
    state_dir: PathBuf,
    /// Bytes of a config file that is read.
    max_bytes: u64,
    generations: Arc<Generations>,
    /// What a roll back puts into the config's place without a sync.
    spares: Arc<Mutex<Spares>>,
    /// The config was renamed, and its directory not synced since.
    is_unsynced: Arc<AtomicBool>,
}

/// A validated config in a file beside the config; the file is removed with it unless it was renamed away.
#[derive(Debug)]
pub struct Candidate {
    file: Box<NewFile>,
    pub revision: Revision,
    /// `None` until it is kept as one.
    generation: Option<u64>,
}

impl Candidate {
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn generation(&self) -> Option<u64> {
        self.generation
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.file.remove();
    }
}

impl Store {
    /// As the settings say.
    pub fn of(settings: &Settings) -> Store {
        Store::new(&settings.config, &settings.state_dir, settings.max_config_file(), limits(settings))
    }

    /// The same files, with other limits.
    pub fn limited_by(&self, settings: &Settings) -> Store {
        self.generations.limit(limits(settings), settings.max_config_file());
        Store { max_bytes: settings.max_config_file(), ..self.clone() }
    }

    /// No config file of more than `max_bytes` is read: it counts as one that cannot be.
    pub fn new(config: &Path, state_dir: &Path, max_bytes: u64, limits: Limits) -> Store {
        Store {
            config: config.to_path_buf(),
            state_dir: state_dir.to_path_buf(),
            max_bytes,
            generations: Arc::new(Generations::new(state_dir, limits, max_bytes)),
            spares: Arc::default(),
            is_unsynced: Arc::default(),
        }
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

    /// Copies `seed`, if there is anything in it, to where there is no config yet and nothing to fall back to. True if
    /// it did.
    ///
    /// # Errors
    /// 69 for a seed that cannot be read; else 73, naming the path and the remedy.
    pub fn install_seed(&self, seed: &Path) -> Result<bool> {
        if self.has_config() || self.has_fallback() {
            return Ok(false);
        }
        let bytes = match safe_open::read(seed, self.max_bytes) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::because(Exit::Unavailable, "cannot read the default config", error)),
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(false);
        }
        let copied = self.target().and_then(|target| atomic::write_at(&target, &bytes));
        copied.map_err(|error| self.cannot_replace("cannot install the default config", error))?;
        self.know_active(Origin::Default);
        Ok(true)
    }

    /// The active config, as a tree.
    ///
    /// # Errors
    /// It cannot be read, or is no YAML.
    pub fn read_config(&self) -> Result<Value> {
        self.read_tree(&self.config)
    }

    /// A config that is laid over the active one, as a tree.
    ///
    /// # Errors
    /// As for `read_config`.
    pub fn read_overlay(&self, path: &Path) -> Result<Value> {
        self.read_tree(path)
    }

    /// A generation, as a tree.
    ///
    /// # Errors
    /// As for `read_config`.
    pub fn read_generation(&self, number: u64) -> Result<Value> {
        self.read_tree(&self.generation_path(number))
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
        Ok(Candidate { file: Box::new(file), revision, generation: None })
    }

    /// Removes the candidates beside the config that this agent has, and those that a killed one left; not those of a
    /// `--check` that is under way.
    pub fn sweep(&self) {
        let beside = self.target().map(|target| target.directory().clone());
        for directory in beside.into_iter().chain(Directory::open(&self.state_dir)) {
            atomic::sweep(&directory, CANDIDATE_MARK);
        }
        self.generations.sweep(CANDIDATE_MARK);
    }

    /// The generations, the oldest first.
    pub fn generations(&self) -> Vec<Generation> {
        self.generations.list().all().to_vec()
    }

    pub fn generation(&self, number: u64) -> Option<Generation> {
        self.generations.list().find(number).cloned()
    }

    pub fn generation_path(&self, number: u64) -> PathBuf {
        self.generations.path(number)
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

fn limits(settings: &Settings) -> Limits {
    Limits { count: settings.generations, bytes: settings.generations_size }
}
