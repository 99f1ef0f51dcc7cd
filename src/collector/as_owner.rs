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
use crate::os::files;
use crate::os::user::{Credentials, Owners, User};

/// The system's refusals (EACCES, EPERM), in Go's words.
const DENIALS: [&str; 2] = ["permission denied", "operation not permitted"];

/// With whose rights it is run to be asked something.
#[derive(Clone, Debug)]
pub(super) enum RunAs {
    Agent,
    /// Who owns the active config at this path, or what is read with it.
    OwnerOf(PathBuf),
}

/// What a collector that was asked something said, and as which user, if not as ours.
pub(super) struct Answer {
    pub ended: Ended,
    pub user: Option<User>,
}

/// A config that is passed as a descriptor: the bytes whose owner was looked at, and which its reader may be refused.
struct Copy {
    file: File,
    /// Where the child finds it.
    path: PathBuf,
    name: PathBuf,
}

impl Collector {
    /// For a check without an agent: as root, what it runs has the rights of the user who owns the config, the overlay,
    /// or a directory on the way to them. It is looked at anew for each run.
    pub fn as_owner_of(self, config: &Path) -> Collector {
        Collector { run_as: RunAs::OwnerOf(config.to_path_buf()), ..self }
    }

    /// # Errors
    /// 69 when it cannot be run or be given a config, 75 when the reason is its user.
    pub(super) fn run(&self, program: &Path, verb: &str, config: Option<&Path>, timeout: Duration) -> Result<Answer> {
        let configs = config.map(|config| self.configs(config)).unwrap_or_default();
        // What shows its version takes none.
        let args = if config.is_some() { self.args.as_slice() } else { &[] };
        match &self.run_as {
            RunAs::OwnerOf(active) if files::is_root() => {
                self.run_as_owner_of(active, program, verb, &configs, args, timeout)
            }
            RunAs::OwnerOf(_) | RunAs::Agent => {
                let background = Collector::background();
                let mut command = self.command(program, Some((verb, background)), &configs)?;
                command.args(args);
                let ended = process::run(command, timeout, background).map_err(|error| cannot_run(program, error))?;
                Ok(Answer { ended, user: None })
            }
        }
    }

    fn run_as_owner_of(
        &self,
        active: &Path,
        program: &Path,
        verb: &str,
        configs: &[&Path],
        args: &[String],
        timeout: Duration,
    ) -> Result<Answer> {
        let background = Collector::background();
        let mut owners = Owners::default();
        owners.add(active).map_err(unclear)?;
        let mut contents = Vec::new();
        for config in configs {
            contents.push((config, owners.read(config, self.max_config_file).map_err(cannot_pass)?));
        }
        let owner = owners.credentials().map_err(unclear)?.or_else(|| owner_of_program(program));
        let mut command = self.command(program, Some((verb, background)), &[])?;
        if owner.is_some() {
            self.environment.hide_key(&mut command);
        }
        let (mut files, mut names) = (Vec::new(), Vec::new());
        for (config, content) in contents {
            command.arg("--config");
            match content.bytes {
                Some(bytes) if owner.is_some() || content.may_change => {
                    let copy = Copy::new(config, &bytes).map_err(cannot_pass)?;
                    command.arg(&copy.path);
                    files.push(copy.file);
                    names.push((copy.path, copy.name));
                }
                // By its name root would read what is there by then.
                None if owner.is_none() && content.may_change => {
                    return Err(cannot_pass(files::named(config, ErrorKind::NotFound.into())));
                }
                // Of one that is missing the collector says so itself.
                Some(_) | None => {
                    command.arg(config_uri(config));
                }
            }
        }
        command.args(args);
        let user = owner.as_ref().map(Credentials::user);
        child::run_as(&mut command, owner, files);
        let ended = process::run(command, timeout, background).map_err(|error| match user {
            Some(user) => not_run(program, user, error),
            None => cannot_run(program, error),
        })?;
        Ok(Answer { ended: with_names(ended, &names), user })
    }
}

impl Answer {
    /// As whom it was run, if that may be why it has printed this.
    pub(super) fn denied_to(user: Option<User>, output: &str) -> Option<User> {
        let output = output.to_ascii_lowercase();
        user.filter(|_| DENIALS.iter().any(|denial| output.contains(denial)))
    }
}

impl Copy {
    fn new(config: &Path, bytes: &[u8]) -> io::Result<Copy> {
        let file = files::in_memory(bytes)?;
        Ok(Copy { path: files::path_in_child(&file), file, name: config.to_path_buf() })
    }
}

/// Where root owns the rest, the program is what another user could have root run.
fn owner_of_program(program: &Path) -> Option<Credentials> {
    let user = User::owner_of(program).filter(|user| !user.is_root())?;
    log::warn!(
        path:% = program.display(), user:% = user;
        "the collector's program belongs to another user, so the check runs it with that user's rights: chown it to root"
    );
    Some(Credentials::of_user(user))
}

fn unclear(error: io::Error) -> Error {
    let what = "no config is judged, since other users can change the active one or its overlay, and root does not \
                run the collector for them";
    Error::because(Exit::TryAgain, what, error)
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
    let what = format!(
        "cannot run the collector {} as {user}, who owns the config or the program ({remedy})",
        program.display()
    );
    Error::because(Exit::TryAgain, what, error)
}
