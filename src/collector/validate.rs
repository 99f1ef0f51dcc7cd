//! What the collector itself says of a config: `<collector> validate`, run to its end.
//!
//! It sees what a start would: same environment (but for the runtime's own GODEBUG), user, working directory and
//! overlay. In a check that root makes alone it has the rights of the config's owner (`as_owner`).

use std::path::Path;

use super::Collector;
use super::as_owner::{Answer, RunAs};
use super::process::Ended;
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::os::child;
use crate::os::user::User;

/// What the collector's own check says of a config.
#[derive(Debug)]
pub enum Validation {
    Good,
    /// This collector cannot validate: the config relies on its probation.
    Unsupported,
    Bad(Masked),
    /// With this user's rights it could not read something: the real collector may, so the config is not judged.
    Denied {
        user: User,
        output: Masked,
    },
}

impl Collector {
    /// Asks the collector about the config in `candidate`.
    ///
    /// # Errors
    /// 69 when it cannot be run or be given a config, 75 when it does not answer in time, is killed, or cannot be run
    /// as the config's owner: none of that says anything about the config.
    pub fn validate(&self, candidate: &Path) -> Result<Validation> {
        let path = self.find()?;
        if let (Some(ignored), true) = (&self.args_ignored, matches!(self.run_as, RunAs::OwnerOf(_))) {
            // A service manager may run the collector with them.
            let what = format!("no config is judged without the collector's arguments: {ignored}");
            return Err(Error::new(Exit::Unavailable, what));
        }
        let Answer { ended, user } = self.run(&path, "validate", Some(candidate), self.validate_timeout)?;
        match ended {
            Ended::Exited { status, .. } if status.success() => Ok(Validation::Good),
            // The kernel when memory runs out, an operator, a fault of the collector's own.
            Ended::Exited { status, end, .. } if child::killed_by(status).is_some() => Err(Error::new(
                Exit::TryAgain,
                format!(
                    "{} validate {end} before it had a result: see the kernel's log, and free memory if it ran out",
                    path.display()
                ),
            )),
            Ended::Exited { output, .. } if lacks_validate(&output) => Ok(Validation::Unsupported),
            Ended::Exited { end, output, .. } => Ok(match Answer::denied_to(user, &output) {
                Some(user) => Validation::Denied { user, output: Masked::from(once(&output)) },
                None if output.is_empty() => Validation::Bad(Masked::from(format!("{} {end}", path.display()))),
                None => Validation::Bad(Masked::from(once(&output))),
            }),
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

/// Whether a collector without the command has printed this: cobra's line for it, and nothing that could be about a
/// config, whose values the collector quotes when it refuses them.
///
/// Cobra adds suggestions and where help is; the collector repeats the error in its log, after a time stamp.
fn lacks_validate(output: &str) -> bool {
    const UNKNOWN: &str = r#"unknown command "validate" for "#;
    let mut lines = output.lines();
    let Some(error) = lines.next().and_then(|line| line.strip_prefix("Error: ")) else { return false };
    let name = error.strip_prefix(UNKNOWN).and_then(|name| name.strip_prefix('"')?.strip_suffix('"'));
    let Some(name) = name.filter(|name| !name.is_empty() && !name.contains(['"', ' '])) else { return false };
    let help = format!("Run '{name} --help' for usage.");
    let repeat = format!("collector server run finished with error: {error}");
    lines.all(|line| {
        let is_suggestion = || line.strip_prefix('\t').is_some_and(|word| !word.contains(char::is_whitespace));
        let is_stamp = |text: &str| text.chars().all(|c| c.is_ascii_digit() || "/:. ".contains(c));
        let is_repeat = || line.strip_suffix(&repeat).is_some_and(is_stamp);
        line.is_empty() || line == "Did you mean this?" || line == help || is_suggestion() || is_repeat()
    })
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

    /// As cobra prints it (Command.Find, Command.ExecuteC), and around it the collectors of 2021 to 2026.
    #[test]
    fn a_collector_without_the_command_says_so_and_nothing_else() {
        let error = "Error: unknown command \"validate\" for \"otelcol\"";
        let help = "Run 'otelcol --help' for usage.";
        let suggestion = "\n\nDid you mean this?\n\tvalid\n\tvalidates\n";
        let repeat = "2022/11/22 14:04:37 collector server run finished with error: unknown command \"validate\" for";
        for output in [
            error.to_string(),
            format!("{error}\n{help}"),
            format!("{error}{suggestion}\n{help}"),
            format!("{error}\n{help}\n{repeat} \"otelcol\""),
            format!("{error}{suggestion}\n{help}\n{repeat} \"otelcol\"{suggestion}"),
        ] {
            assert!(lacks_validate(&output), "{output}");
        }
    }

    /// What a config says comes back in the error that refuses it.
    #[test]
    fn a_refused_config_is_refused_whatever_words_it_holds() {
        let error = "Error: unknown command \"validate\" for \"otelcol\"";
        let level = "'service.telemetry.logs' 'level' unrecognized level: \"unknown command\"";
        for output in [
            format!("Error: failed to get config: {level}"),
            format!("Error: failed to get config: {level}\n{error}"),
            format!("Error: cannot read x:\n{error}\nRun 'otelcol --help' for usage."),
            format!("{error}\n{level}"),
            format!("{error}\nRun 'another --help' for usage."),
            format!("{error}\n2022/11/22 collector server run finished with error: {level}"),
            format!("{error} x"),
            format!("x {error}"),
            "Error: unknown command \"validate\" for \"\"".to_string(),
            "Error: unknown command \"validate\" for \"otelcol\" for \"x\"".to_string(),
            "Error: unknown command \"validat\" for \"otelcol\"".to_string(),
            "Error: unknown command \"validate\"".to_string(),
            "unknown command".to_string(),
            String::new(),
        ] {
            assert!(!lacks_validate(&output), "{output}");
        }
    }
}
