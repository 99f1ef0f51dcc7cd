//! The settings of a start: those that are given or, where these are bad, those of the latest good start.
//!
//! Else a start would end with 78, after which no service manager tries again, and no API could reach the host.

use std::ffi::OsString;
use std::path::Path;

use super::cli::Cli;
use crate::error::{Error, Exit, Result};
use crate::os::files::safe_open;
use crate::os::shutdown;
use crate::settings::table::DEFAULT_FILE;
use crate::settings::{self, CANNOT_READ_POLICY, Resolved, last_good};
use crate::source::Source;
use crate::store::atomic;

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

pub struct ChosenSettings {
    pub resolved: Resolved,
    pub source: Source,
    /// What is wrong with those that are given, and what to do.
    pub problem: Option<String>,
}

/// Where there are last good ones the agent has run before, and its collector is needed: settings that are good but for
/// what a check takes, such as a ca-file that is missing, are used, and the check says what is wrong.
///
/// # Errors
/// 78 for bad ones, if there are no last good ones or these cannot be used either.
pub fn choose(cli: &Cli, env: Environment<'_>) -> Result<ChosenSettings> {
    let usable = |resolved: Resolved| -> Result<ChosenSettings> {
        let source = Source::new(&resolved.settings)?;
        Ok(ChosenSettings { resolved, source, problem: None })
    };
    let mut given = None;
    let error = match settings::resolve(&cli.flags, env).and_then(|resolved| usable(given.insert(resolved).clone())) {
        Err(error) if error.exit() == Exit::Settings => error,
        result => return result,
    };
    let Some(last_good) = settings::resolve_last_good(&cli.flags, env) else { return Err(error) };
    match last_good.and_then(usable) {
        Ok(chosen) => {
            let text = error.to_string();
            let what = if text.lines().all(|line| line.starts_with(CANNOT_READ_POLICY)) {
                "the policy is invalid, so each new config is refused"
            } else {
                "the settings are invalid, so the last good ones are used"
            };
            let lines = text.lines().collect::<Vec<_>>().join("; ");
            let file = &chosen.resolved.settings.settings_file;
            let option = match file == Path::new(DEFAULT_FILE) {
                true => String::new(),
                false => format!("--agent-config {} ", file.display()),
            };
            let problem = format!(
                "{what}: {lines}: fix this, look at `kmagent {option}--print-settings`, then `kmagent {option}reload`"
            );
            Ok(ChosenSettings { problem: Some(problem), ..chosen })
        }
        Err(_) => match given {
            Some(resolved) => {
                let source = Source::Unready(Box::new(resolved.settings.clone()));
                Ok(ChosenSettings { resolved, source, problem: None })
            }
            None => Err(Error::new(Exit::Settings, format!("{error}\nthe last good settings cannot be used either"))),
        },
    }
}

/// Those that are given by now, for a reload.
///
/// # Errors
/// 78 for bad ones: there are better ones in use.
pub fn again(cli: &Cli, env: Environment<'_>) -> Result<(Resolved, Source)> {
    let resolved = settings::resolve(&cli.flags, env)?;
    let source = Source::new(&resolved.settings)?;
    // On the poller's thread: a stop waits for what is being written.
    let _step = shutdown::step();
    keep(&resolved);
    Ok((resolved, source))
}

/// For a later start, if they have changed. By who owns the state directory alone, so that nobody reads another user's.
pub fn keep(resolved: &Resolved) {
    let Some(text) = resolved.to_keep.as_ref().filter(|_| last_good::is_own(&resolved.settings.state_dir)) else {
        return;
    };
    let path = resolved.settings.state_dir.join(last_good::FILE_NAME);
    if safe_open::read(&path, last_good::MAX_BYTES).is_ok_and(|kept| kept == text.as_bytes()) {
        return;
    }
    if let Err(error) = atomic::write(&path, text.as_bytes()) {
        log::warn!(error:%; "cannot save the settings; a start with invalid ones cannot use them");
    }
}

/// The error of a command that takes no others than those that are given, with what an agent does that runs or is
/// started.
pub fn mention_last_good(error: Error, cli: &Cli, env: Environment<'_>) -> Error {
    match settings::last_good_path(&cli.flags, env) {
        Some(path) if error.exit() == Exit::Settings => {
            let text = format!(
                "{error}\nuntil that is fixed, `kmagent start` uses the last good settings: {}",
                path.display()
            );
            Error::new(Exit::Settings, text)
        }
        _ => error,
    }
}
