//! The collector's executable: where it is looked for, whether root may run it, and which version it is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Collector;
use super::process::Ended;
use crate::error::{Error, Exit, Result};
use crate::os::files::{self, FileId, is_program};

/// The collector that is shipped with the agent.
const OWN_NAME: &str = "kmagent-collector";
/// Collectors as upstream packages name them, looked for on PATH.
const UPSTREAM_NAMES: [&str; 2] = ["otelcol-contrib", "otelcol"];
/// `--version` takes 20 ms; a host that swaps takes seconds.
pub const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

impl Collector {
    /// Looked for anew each time, so that a collector installed later is found.
    ///
    /// # Errors
    /// 69 when there is none, naming the places that were looked at.
    pub fn find(&self) -> Result<PathBuf> {
        if let Some(named) = &self.named {
            return if is_program(named) { Ok(named.clone()) } else { Err(no_program(named)) };
        }
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_path_buf()));
        let own = beside.iter().flat_map(|dir| [dir.join(OWN_NAME), dir.join("../lib/kmagent").join(OWN_NAME)]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<PathBuf> =
            std::env::split_paths(&path).filter(|dir| dir.is_absolute() && files::owner_may_command(dir)).collect();
        let upstream = UPSTREAM_NAMES.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        let own = own.filter(|path| self.ignored.is_none() || leads_to_trusted(path));
        own.chain(upstream.filter(|path| leads_to_trusted(path))).find(|path| is_program(path)).ok_or_else(|| {
            if let Some(ignored) = &self.ignored {
                return Error::new(
                    Exit::Unavailable,
                    format!("no collector that root may run, so no config is judged: {ignored}"),
                );
            }
            missing(format!(
                "no collector found: neither {OWN_NAME} beside the agent nor {} on PATH{}",
                UPSTREAM_NAMES.join(" or "),
                if files::is_root() { " in a program and directory that only root owns and may write" } else { "" }
            ))
        })
    }

    /// Which file it is at present; `None` when there is none.
    pub fn file_id(&self) -> Option<FileId> {
        FileId::of(&self.find().ok()?)
    }

    /// The version that the collector at `path` prints, as `vX.Y.Z`; empty when it prints none.
    ///
    /// # Errors
    /// 69 when it cannot be run.
    pub fn version(&self, path: &Path) -> Result<String> {
        Ok(match self.run(path, "--version", None, VERSION_TIMEOUT)?.ended {
            Ended::Exited { output, .. } => version_in(&output).unwrap_or_default(),
            Ended::TimedOut { .. } => String::new(),
        })
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

/// Why the collector that is set cannot be it.
fn no_program(named: &Path) -> Error {
    let path = named.display().to_string();
    let what = format!("the collector {path}");
    if let Some((program, args)) = path.split_once(' ').filter(|(program, _)| is_program(Path::new(program))) {
        let remedy = format!("set `collector` to {program}, and `collector-args` to {args}");
        return Error::new(Exit::Unavailable, format!("{what} does not exist: {remedy}"));
    }
    match named.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => missing(format!("{what} does not exist")),
        Err(error) => missing(format!("{what} cannot be looked at: {error}")),
        Ok(file) if file.is_file() => missing(format!("{what} is not executable (chmod a+x {path})")),
        Ok(_) => missing(format!("{what} is not a file")),
    }
}

fn missing(what: String) -> Error {
    Error::new(Exit::Unavailable, format!("{what}: install one, or set `collector` to its path"))
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
}
