//! The collector: what it is run with, and its start.
//!
//! ```text
//!   arguments    what it is given besides its configs
//!   program      where the executable is, and which version it is
//!   environment  what it is given of the agent's environment, and what it is given besides
//!   disclosure   what of it must not be shown, and what of its output may be told outside
//!   config_facts what is kept of its configs while it runs
//!   validate     what the collector itself says of a config
//!   as_owner     that and its version, asked with the rights of the config's owner
//!   process      one child process: output, signals, exit; a command that is run to its end
//!   start_failure  what outside of its config kept it from starting
//!   output       what a child prints, cut into lines; the last of them are kept
//!   log_lines    its lines as the log gets them: with their level, and not too many
//!   health       its health check, asked without waiting
//!   oom_kills    whether memory ran out, when it was killed
//!   orphans      processes that a killed agent left behind
//!   socket_files  Unix sockets that a killed collector left behind
//!   handover     two collectors that share their ports, so that one takes over from the other
//! ```
//! It starts processes and does not keep them; the one that runs belongs to `agent`.

mod arguments;
mod as_owner;
pub mod config_facts;
pub mod disclosure;
pub mod environment;
pub mod handover;
pub mod health;
pub mod log_lines;
mod oom_kills;
pub mod orphans;
pub mod output;
pub mod process;
pub mod program;
pub mod socket_files;
pub mod start_failure;
pub mod validate;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::collector::environment::Environment;
use crate::collector::handover::{godebug, privileges};
use crate::collector::process::{Background, Binds, Process};
use crate::error::{Error, Exit, Result};
use crate::os::child::{self, OnParentDeath};
use crate::os::descendants;
use crate::os::error as os_error;
use crate::os::files::safe_open;
use crate::settings::Settings;

/// The collector's rank when memory runs out (oom_score_adj): before the agent, which has started it and can do so
/// again, and before what the host is there for, unless that is larger by 30 % of the memory. Above what systemd gives
/// the processes of a login (100 and 200, systemd-system.conf(5)).
const OUT_OF_MEMORY_RANK: i32 = 300;

#[derive(Clone, Debug)]
pub struct Collector {
    named: Option<PathBuf>,
    /// Why root does not take the one that the settings file names.
    ignored: Option<String>,
    args: Vec<String>,
    /// Why root does not take those of the settings file.
    args_ignored: Option<String>,
    local_config: Option<PathBuf>,
    environment: Environment,
    validate_timeout: Duration,
    /// With whose rights `validate` and `--version` are run.
    run_as: as_owner::RunAs,
    /// Bytes of a config file.
    max_config_file: u64,
}

impl Collector {
    pub fn new(settings: &Settings) -> Collector {
        Collector {
            named: settings.collector.clone(),
            ignored: settings.why_ignored("collector").map(str::to_string),
            args: settings.collector_args.clone(),
            args_ignored: settings.why_ignored("collector-args").map(str::to_string),
            local_config: settings.local_config.clone(),
            environment: Environment::new(settings),
            validate_timeout: settings.validate_timeout,
            run_as: as_owner::RunAs::Agent,
            max_config_file: settings.max_config_file(),
        }
    }

    /// The value that the collector sees of an environment variable.
    pub fn env(&self, name: &str) -> Option<String> {
        self.environment.value(name)
    }

    pub fn local_config(&self) -> Option<&Path> {
        self.local_config.as_deref()
    }

    /// As it would be without the site's overlay.
    pub fn without_overlay(self) -> Collector {
        Collector { local_config: None, ..self }
    }

    /// Starts a collector on `config`; it gets SIGTERM when the calling thread ends.
    ///
    /// # Errors
    /// 69 when there is no collector, or it cannot be executed or be given its config.
    pub fn spawn(&self, config: &Path, binds: Binds) -> Result<Process> {
        let path = self.find()?;
        let mut command = self.command(&path, None, &self.configs(config))?;
        command.args(&self.args);
        let binds = match privileges::watchable(&path) {
            Err(reason) if binds == Binds::Watched => Binds::Unwatched(reason),
            Ok(()) | Err(_) => binds,
        };
        if binds == Binds::Watched {
            command.env(godebug::GODEBUG, godebug::plain_tcp(std::env::var(godebug::GODEBUG).ok().as_deref()));
        }
        Process::spawn(command, OnParentDeath::AskToEnd, binds).map_err(|error| cannot_run(&path, error))
    }

    /// A config, and the overlay.
    fn configs<'a>(&'a self, config: &'a Path) -> Vec<&'a Path> {
        [config].into_iter().chain(self.local_config()).collect()
    }

    /// # Errors
    /// 69 when another user may have planted a config: the collector would read it with our rights, and say what is in
    /// it.
    fn command(&self, path: &Path, question: Option<(&str, Background)>, configs: &[&Path]) -> Result<Command> {
        let mut command = Command::new(path);
        command.args(question.map(|(verb, _)| verb));
        for config in configs {
            safe_open::look(config).map_err(cannot_pass)?;
            command.arg("--config").arg(config_uri(config));
        }
        self.apply_environment(&mut command, question.map(|(_, background)| background));
        Ok(command)
    }

    /// Of a collector that is only asked something.
    fn background() -> Background {
        Background::Ends { rank: descendants::rank_above(OUT_OF_MEMORY_RANK) }
    }

    /// `background` is that of one that is only asked something.
    fn apply_environment(&self, command: &mut Command, background: Option<Background>) {
        let rank = match background {
            Some(Background::Ends { rank: Some(rank) }) => rank,
            _ => OUT_OF_MEMORY_RANK,
        };
        child::rank_out_of_memory(command, rank);
        self.environment.apply(command);
    }
}

/// A path with a colon in it could be taken for a URI with a scheme; `file:` is one that collectors always know.
fn config_uri(path: &Path) -> OsString {
    if !path.as_os_str().as_encoded_bytes().contains(&b':') {
        return path.into();
    }
    let mut uri = OsString::from("file:");
    uri.push(path);
    uri
}

fn cannot_pass(error: std::io::Error) -> Error {
    Error::because(Exit::Unavailable, "cannot pass the config to the collector", error)
}

fn cannot_run(path: &Path, error: std::io::Error) -> Error {
    let what = format!("cannot run the collector {}{}", path.display(), os_error::remedy_for_spawn(&error));
    Error::because(Exit::Unavailable, what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_colon_is_given_as_a_file_uri() {
        assert_eq!(config_uri(Path::new("/etc/a.yaml")), "/etc/a.yaml");
        assert_eq!(config_uri(Path::new("/etc/a:b.yaml")), "file:/etc/a:b.yaml");
    }
}
