//! What the collector itself says of a config: `<collector> validate`, run to its end.
//!
//! It sees what a start would: same environment (but for the runtime's own GODEBUG), user, working directory and
//! overlay.

use std::path::Path;

use super::process::{self, Ended};
use super::{Collector, cannot_run};
use crate::error::{Error, Exit, Result};
use crate::os::child;

/// What the collector's own check says of a config.
#[derive(Debug)]
pub enum Validation {
    Good,
    /// This collector cannot validate: the config relies on its probation.
    Unsupported,
    Bad(String),
}

impl Collector {
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
            // The kernel when memory runs out, an operator, a fault of the collector's own.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_is_printed_twice_is_reported_once() {
        let output = "Error: bad a\nbad b\n2026/11/22 14:04:37 collector server run finished with error: bad a\nbad b";
        assert_eq!(once(output), "bad a\nbad b");
        assert_eq!(once("Error: bad"), "bad");
        assert_eq!(once("panic: oh"), "panic: oh");
    }
}
