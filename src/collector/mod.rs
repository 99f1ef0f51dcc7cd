//! The collector as a program: where it is, what it is run with, what it thinks of a config, which version it is.
//!
//! It starts processes and does not keep them; the one that runs belongs to `supervise`. Validation sees what a start
//! would: same environment (but for the runtime's own GODEBUG), user, working directory and overlay.

pub mod handover;
pub mod health;
pub mod orphans;
pub mod output;
pub mod process;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::collector::handover::{godebug, privileges};
use crate::collector::process::{Binds, Ended, Process};
use crate::error::{Error, Exit, Result};
use crate::os::child::{self, OnParentDeath};
use crate::os::files::{self, FileId, is_program, safe_open};
use crate::os::{error as os_error, service};
use crate::settings::Settings;

/// The collector that is shipped with the agent.
const OWN_NAME: &str = "kmagent-collector";
/// Collectors as upstream packages name them, looked for on PATH.
const UPSTREAM_NAMES: [&str; 2] = ["otelcol-contrib", "otelcol"];
/// `--version` takes 20 ms; a host that swaps takes seconds.
pub const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// The collector's rank when memory runs out (oom_score_adj): before the agent, which has started it and can do so
/// again, and before what the host is there for, unless that is larger by 30 % of the memory. Above what systemd gives
/// the processes of a login (100 and 200, systemd-system.conf(5)).
const OUT_OF_MEMORY_RANK: i32 = 300;

#[derive(Clone, Debug)]
pub struct Collector {
    named: Option<PathBuf>,
    local_config: Option<PathBuf>,
    environment: Vec<(&'static str, OsString)>,
    validate_timeout: Duration,
    run_dir: PathBuf,
}

/// What the collector's own check says of a config.
#[derive(Debug)]
pub enum Validation {
    Good,
    /// This collector cannot validate: the config relies on its probation.
    Unsupported,
    Bad(String),
}

impl Collector {
    pub fn new(settings: &Settings) -> Collector {
        let key = settings.api_key.as_ref().map_or("", |key| key.expose());
        let environment = vec![
            ("KM_API_KEY", key.into()),
            ("KM_COLLECTOR_ENDPOINT", settings.collector_endpoint.as_str().into()),
            ("KM_DOCKER_ENDPOINT", settings.docker_endpoint.as_deref().unwrap_or_default().into()),
            ("KM_AGENT_VERSION", env!("CARGO_PKG_VERSION").into()),
        ];
        Collector {
            named: settings.collector.clone(),
            local_config: settings.local_config.clone(),
            environment,
            validate_timeout: settings.validate_timeout,
            run_dir: settings.run_dir.clone(),
        }
    }

    /// The value that the collector sees of an environment variable.
    pub fn env(&self, name: &str) -> Option<String> {
        match self.environment.iter().find(|(own, _)| *own == name) {
            Some((_, value)) => value.to_str().map(str::to_string),
            None => std::env::var(name).ok(),
        }
    }

    pub fn local_config(&self) -> Option<&Path> {
        self.local_config.as_deref()
    }

    /// Looked for anew each time, so that a collector installed later is found.
    ///
    /// # Errors
    /// 69 when there is none, naming the places that were looked at.
    pub fn find(&self) -> Result<PathBuf> {
        if let Some(named) = &self.named {
            return match is_program(named) {
                true => Ok(named.clone()),
                false => Err(missing(format!("the collector {} is not an executable file", named.display()))),
            };
        }
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_path_buf()));
        let own = beside.iter().flat_map(|dir| [dir.join(OWN_NAME), dir.join("../lib/kmagent").join(OWN_NAME)]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<PathBuf> =
            std::env::split_paths(&path).filter(|dir| dir.is_absolute() && files::owner_may_command(dir)).collect();
        let upstream = UPSTREAM_NAMES.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        own.chain(upstream.filter(|path| leads_to_trusted(path))).find(|path| is_program(path)).ok_or_else(|| {
            missing(format!(
                "no collector found: neither {OWN_NAME} beside the agent nor {} on PATH{}",
                UPSTREAM_NAMES.join(" or "),
                if files::is_root() { " in a program and directory that only root owns and may write" } else { "" }
            ))
        })
    }

    /// Which file it is at present; `None` when there is none.
    pub fn stamp(&self) -> Option<FileId> {
        FileId::of(&self.find().ok()?)
    }

    /// Starts a collector on `config`; it gets SIGTERM when the calling thread ends.
    ///
    /// # Errors
    /// 69 when there is no collector, or it cannot be executed or be given its config.
    pub fn spawn(&self, config: &Path, binds: Binds) -> Result<Process> {
        let path = self.find()?;
        let mut command = self.command(&path, None, config)?;
        let binds = match privileges::watchable(&path) {
            Err(reason) if binds == Binds::Watched => Binds::Unwatched(reason),
            Ok(()) | Err(_) => binds,
        };
        if binds == Binds::Watched {
            command.env(godebug::GODEBUG, godebug::plain_tcp(std::env::var(godebug::GODEBUG).ok().as_deref()));
        }
        Process::spawn(command, OnParentDeath::AskToEnd, binds).map_err(|error| cannot_run(&path, error))
    }

    /// Asks the collector about the config in `candidate`.
    ///
    /// # Errors
    /// 69 when it cannot be run or be given a config, 75 when it does not answer in time or is killed: none of that
    /// says anything about the config.
    pub fn validate(&self, candidate: &Path) -> Result<Validation> {
        let path = self.find()?;
        let command = self.command(&path, Some("validate"), candidate)?;
        match process::run(command, self.validate_timeout).map_err(|error| cannot_run(&path, error))? {
            Ended::Exited { status, .. } if status.success() => Ok(Validation::Good),
            // The kernel when memory runs out, a person, a fault of the collector's own.
            Ended::Exited { status, .. } if child::killed_by(status).is_some() => Err(Error::new(
                Exit::TryAgain,
                format!(
                    "{} validate {} before it had a result: see in the kernel's log whether memory ran out",
                    path.display(),
                    process::describe(status)
                ),
            )),
            Ended::Exited { output, .. } if output.contains("unknown command") => Ok(Validation::Unsupported),
            Ended::Exited { status, output } => Ok(Validation::Bad(match output.is_empty() {
                true => format!("{} {}", path.display(), process::describe(status)),
                false => once(&output),
            })),
            Ended::TimedOut { .. } => Err(Error::new(
                Exit::TryAgain,
                format!(
                    "{} validate did not end within {:?}: raise validate-timeout, or see what the collector waits for",
                    path.display(),
                    self.validate_timeout
                ),
            )),
        }
    }

    /// The version that the collector at `path` prints, as `vX.Y.Z`; empty when it prints none.
    ///
    /// # Errors
    /// 69 when it cannot be run.
    pub fn version(&self, path: &Path) -> Result<String> {
        let mut command = Command::new(path);
        command.arg("--version");
        self.apply_environment(&mut command);
        let ended = process::run(command, VERSION_TIMEOUT).map_err(|error| cannot_run(path, error))?;
        Ok(match ended {
            Ended::Exited { output, .. } => version_in(&output).unwrap_or_default(),
            Ended::TimedOut { .. } => String::new(),
        })
    }

    /// # Errors
    /// 69 when another user may have planted a config: the collector would read it with our rights, and say what is in
    /// it.
    fn command(&self, path: &Path, verb: Option<&str>, config: &Path) -> Result<Command> {
        let mut command = Command::new(path);
        command.args(verb);
        for config in [config].into_iter().chain(self.local_config()) {
            let refused = |error| Error::because(Exit::Unavailable, "cannot pass the config to the collector", error);
            safe_open::look(config).map_err(refused)?;
            command.arg("--config").arg(config_uri(config));
        }
        self.apply_environment(&mut command);
        Ok(command)
    }

    fn apply_environment(&self, command: &mut Command) {
        child::rank_out_of_memory(command, OUT_OF_MEMORY_RANK);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(orphans::VARIABLE, &self.run_dir);
        // They are about the agent; a collector that used them would speak in its name.
        for name in service::VARIABLES {
            command.env_remove(name);
        }
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

/// The collector prints its error twice, as `Error: …` and in its log: the first is enough.
fn once(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let errors = lines.iter().position(|line| line.starts_with("Error: "));
    let repeats = lines.iter().position(|line| line.contains("collector server run finished with error"));
    match (errors, repeats) {
        (Some(first), Some(last)) if first < last => lines[first..last].join("\n").replacen("Error: ", "", 1),
        (Some(first), None) => lines[first..].join("\n").replacen("Error: ", "", 1),
        _ => output.to_string(),
    }
}

/// The first word that is a version, as in `otelcol-contrib version 0.135.0`.
fn version_in(output: &str) -> Option<String> {
    output.split_whitespace().find_map(|word| {
        let number = word.strip_prefix('v').unwrap_or(word);
        let parts: Vec<&str> = number.splitn(3, '.').collect();
        let numeric = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
        (parts.len() == 3 && parts.iter().all(numeric)).then(|| format!("v{number}"))
    })
}

/// Whether the program's owner may command us, and that of the folder where it is in the end, if a link leads to it.
fn leads_to_trusted(path: &Path) -> bool {
    let is_trusted = |path: &Path| files::owner_may_command(path);
    fs_err::canonicalize(path).is_ok_and(|path| is_trusted(&path) && path.parent().is_some_and(is_trusted))
}

fn missing(what: String) -> Error {
    Error::new(Exit::Unavailable, format!("{what}: install one, or set `collector` to its path"))
}

fn cannot_run(path: &Path, error: std::io::Error) -> Error {
    let what = format!("cannot run the collector {}{}", path.display(), os_error::remedy_for_spawn(&error));
    Error::because(Exit::Unavailable, what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_collectors_print_them() {
        for (output, version) in [
            ("otelcol-contrib version 0.135.0", Some("v0.135.0")),
            ("kmagent-collector version v1.2.3-rc.1+x\n", Some("v1.2.3-rc.1+x")),
            ("otelcol version latest", None),
            ("", None),
        ] {
            assert_eq!(version_in(output).as_deref(), version, "{output}");
        }
    }

    #[test]
    fn an_error_that_is_printed_twice_is_reported_once() {
        let output = "Error: bad a\nbad b\n2026/11/22 14:04:37 collector server run finished with error: bad a\nbad b";
        assert_eq!(once(output), "bad a\nbad b");
        assert_eq!(once("Error: bad"), "bad");
        assert_eq!(once("panic: oh"), "panic: oh");
    }

    #[test]
    fn a_path_with_a_colon_is_given_as_a_file_uri() {
        assert_eq!(config_uri(Path::new("/etc/a.yaml")), "/etc/a.yaml");
        assert_eq!(config_uri(Path::new("/etc/a:b.yaml")), "file:/etc/a:b.yaml");
    }
}
