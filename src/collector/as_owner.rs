//! `validate` and `--version`, run to their end: with the rights of the config's owner where root makes a check alone.
//!
//! What that user owns must not command root, so the collector does not read it as root. It may then be refused what
//! the real one, which the service manager starts, may use: that says nothing about the config. A resident agent's
//! `validate` has the rights of the collector that would run the config.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{self, Ended};
use super::{Collector, cannot_pass, cannot_run, config_uri};
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::os::child;
use crate::os::files::{self, safe_open};
use crate::os::user::{Credentials, User};

/// The system's refusals (EACCES, EPERM), in Go's words.
const DENIALS: [&str; 2] = ["permission denied", "operation not permitted"];

/// With whose rights it is run to be asked something.
#[derive(Clone, Debug)]
pub(super) enum RunAs {
    Agent,
    Owner(Credentials),
    /// A group or everybody may change the config: what, and the command that ends it.
    Unclear(String),
}

/// A config that is passed as a descriptor, since its new reader may be refused its file.
struct Copy {
    file: File,
    /// Where the child finds it.
    path: PathBuf,
    name: PathBuf,
}

impl Collector {
    /// For a check without an agent: as root, what it runs has the rights of the user who owns the config, or a
    /// directory on the way to it.
    pub fn as_owner_of(self, config: &Path) -> Collector {
        let run_as = match Credentials::of_owner(config) {
            Ok(None) => RunAs::Agent,
            Ok(Some(owner)) => RunAs::Owner(owner),
            Err(error) => RunAs::Unclear(error.to_string()),
        };
        Collector { run_as, ..self }
    }

    /// # Errors
    /// 69 when it cannot be run or be given a config, 75 when the reason is its user.
    pub(super) fn run(&self, program: &Path, verb: &str, config: Option<&Path>, timeout: Duration) -> Result<Ended> {
        let configs = config.map(|config| self.configs(config)).unwrap_or_default();
        let background = Collector::background();
        let owner = match &self.run_as {
            RunAs::Owner(owner) => owner,
            RunAs::Agent => {
                let command = self.command(program, Some((verb, background)), &configs)?;
                return process::run(command, timeout, background).map_err(|error| cannot_run(program, error));
            }
            RunAs::Unclear(reason) => {
                let what = "no config is judged, since other users can change the active one, and root does not run \
                            the collector for them";
                return Err(Error::new(Exit::TryAgain, format!("{what}: {reason}")));
            }
        };
        let mut command = self.command(program, Some((verb, background)), &[])?;
        self.environment.hide_key(&mut command);
        let mut copies = Vec::new();
        for config in configs {
            let copy = self.copy(config).map_err(cannot_pass)?;
            command
                .arg("--config")
                .arg(copy.as_ref().map_or_else(|| config_uri(config), |copy| copy.path.clone().into()));
            copies.extend(copy);
        }
        let (files, names): (Vec<_>, Vec<_>) =
            copies.into_iter().map(|copy| (copy.file, (copy.path, copy.name))).unzip();
        child::run_as(&mut command, owner.clone(), files);
        let ended =
            process::run(command, timeout, background).map_err(|error| not_run(program, owner.user(), error))?;
        Ok(with_names(ended, &names))
    }

    /// `None` when there is no such file: the collector says so itself.
    fn copy(&self, config: &Path) -> io::Result<Option<Copy>> {
        let bytes = match safe_open::read(config, self.max_config_file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let file = files::in_memory(&bytes)?;
        Ok(Some(Copy { path: files::path_in_child(&file), file, name: config.to_path_buf() }))
    }

    /// As whom it was run, if that may be why it has printed this.
    pub(super) fn denied_to(&self, output: &str) -> Option<User> {
        let output = output.to_ascii_lowercase();
        match &self.run_as {
            RunAs::Owner(owner) => Some(owner.user()).filter(|_| DENIALS.iter().any(|denial| output.contains(denial))),
            RunAs::Agent | RunAs::Unclear(_) => None,
        }
    }
}

/// The files by their names, where the collector has named them as it was given them.
fn with_names(ended: Ended, names: &[(PathBuf, PathBuf)]) -> Ended {
    let named = |output: Masked| {
        Masked::from(names.iter().fold(output.to_string(), |output, (path, name)| {
            output.replace(&path.display().to_string(), &name.display().to_string())
        }))
    };
    match ended {
        Ended::Exited { status, end, output } => Ended::Exited { status, end, output: named(output) },
        Ended::TimedOut { output } => Ended::TimedOut { output: named(output) },
    }
}

fn not_run(program: &Path, user: User, error: io::Error) -> Error {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => {
            "let that user execute it, and give the check CAP_SETUID, CAP_SETGID and CAP_KILL if it lacks them"
        }
        _ => "try again",
    };
    let what = format!("cannot run the collector {} as {user}, who owns the config ({remedy})", program.display());
    Error::because(Exit::TryAgain, what, error)
}
