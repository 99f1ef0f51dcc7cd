//! The commands, one file each, and the only place that prints a final error.

pub mod check;
mod chosen_settings;
pub mod cli;
mod cluster;
mod cluster_status;
pub mod reload;
pub mod restart;
pub mod retry;
pub mod start;
pub mod status;
mod status_lines;
pub mod stop;
mod variables;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::config::credentials::passwords;
use crate::config::inspect::is_secret_name;
use crate::control::{CheckResult, Outcome};
use crate::error::{Error, Exit, Result};
use crate::log::masked::{self, Holder};
use crate::log::redact::Secrets;
use crate::log::{Masked, sanitize};
use crate::os::{panic_hook, stderr, this_process};
use crate::settings;
use cli::{Cli, Mode, Subject};

/// The whole program, but for what the process itself must have.
pub fn main() -> ExitCode {
    this_process::leave_no_core();
    panic_hook::exit_on_panic();
    match cli::parse(std::env::args_os().skip(1)).and_then(run) {
        Ok(exit) => exit.into(),
        Err(error) => {
            for line in error.to_string().lines() {
                complain(line);
            }
            error.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit> {
    match cli.mode {
        Mode::Help(subject) => print(&cli::help(subject)),
        Mode::Version => print(&cli::version()),
        Mode::PrintSettings(Subject::Agent) => print_settings(&cli),
        Mode::PrintSettings(Subject::Cluster) => cluster::print_settings(&cli),
        Mode::Cluster => cluster::run(&cli),
        Mode::Start => start(cli),
        Mode::Stop => stop::run(&settings::agent_paths(&cli.flags, &environment)?, print),
        Mode::Reload => print(&reload::run(&settings::agent_paths(&cli.flags, &environment)?)?),
        Mode::Restart => print(&restart::run(&settings::agent_paths(&cli.flags, &environment)?)?),
        Mode::Retry => {
            let outcome = retry::run(&settings::agent_paths(&cli.flags, &environment)?)?;
            print(&format!("{}\n", sanitize::line(&outcome)))
        }
        Mode::Status(form) => print(&status::run(&settings::agent_paths(&cli.flags, &environment)?, form)?),
        Mode::Check { dry_run, json, splay } => {
            let resolved = settings::resolve(&cli.flags, &environment);
            let settings =
                resolved.map_err(|error| chosen_settings::mention_last_good(error, &cli, &environment))?.settings;
            let extent = if dry_run { check::Extent::DryRun } else { check::Extent::Install };
            // Info is for the log of a resident agent; this one speaks when something is wrong, or when asked to.
            let level =
                if settings.log_level == log::LevelFilter::Info { log::LevelFilter::Warn } else { settings.log_level };
            log_to_stderr(level, &settings);
            this_process::keep_from_children();
            this_process::default_signals();
            warn(&variables::warnings(&settings));
            check::wait(splay);
            let outcome = check::run(&settings, extent).unwrap_or_else(|error| Outcome::failed(&error));
            print_outcome(&outcome, json)
        }
    }
}

fn print_settings(cli: &Cli) -> Result<Exit> {
    let resolved = match settings::resolve(&cli.flags, &environment) {
        Ok(resolved) => resolved,
        Err(error) => {
            if let Some(Ok(last_good)) = settings::resolve_last_good(&cli.flags, &environment) {
                print(&settings::print::render(&last_good.rows))?;
            }
            return Err(chosen_settings::mention_last_good(error, cli, &environment));
        }
    };
    for warning in resolved.warnings.iter().chain(&variables::warnings(&resolved.settings)) {
        complain(&format!("warning: {warning}"));
    }
    print(&settings::print::render(&resolved.rows))
}

fn start(cli: Cli) -> Result<Exit> {
    // Before process 1 of a container passes it on.
    this_process::hold_hangup();
    this_process::run_as_child_of_process_one()?;
    this_process::raise_open_files_limit();
    this_process::keep_from_children();
    let chosen = chosen_settings::choose(&cli, &environment)?;
    let settings = &chosen.resolved.settings;
    log_to_stderr(settings.log_level, settings);
    if let Some(problem) = &chosen.problem {
        log::error!(problem = problem.as_str(); "settings are invalid; using the last good ones");
    }
    warn(chosen.resolved.warnings.iter().chain(&variables::warnings(settings)));
    start::run(chosen, Box::new(move || chosen_settings::again(&cli, &environment)))
}

fn warn<'a>(warnings: impl IntoIterator<Item = &'a String>) {
    for warning in warnings {
        log::warn!(problem = warning.as_str(); "check the settings");
    }
}

fn log_to_stderr(level: log::LevelFilter, settings: &settings::Settings) {
    crate::log::init(level, settings.log_format);
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    masked::know(Holder::Agent, Secrets::new(settings.secrets().chain(of_environment(variables))));
}

/// What children are given and nobody may see, whether a config refers to it or not: what is in variables with the name
/// of a secret, and passwords in any, such as a proxy's.
fn of_environment(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in variables {
        found.extend(passwords(&value).into_iter().map(str::to_owned));
        if is_secret_name(&name) {
            found.extend(value.lines().map(|line| line.trim().to_owned()));
        }
    }
    found
}

/// Silent when nothing changed; an error goes to standard error, for scripts too.
fn print_outcome(outcome: &Outcome, json: bool) -> Result<Exit> {
    let exit = Exit::from_code(outcome.exit).unwrap_or(Exit::Bug);
    if json {
        print(&format!("{}\n", sanitize::json(&serde_json::to_string(outcome).unwrap_or_default())))?;
    } else if exit == Exit::Done && outcome.result != CheckResult::Unchanged {
        print(&format!("{}\n", sanitize::line(&outcome.message)))?;
    }
    if exit == Exit::Done { Ok(exit) } else { Err(Error::new(exit, &*outcome.message)) }
}

fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// To standard output; that nobody reads it to its end (`| head`) is no failure.
fn print(text: &str) -> Result<Exit> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::because(Exit::CannotWrite, "cannot write to standard output", error))
        }
        Ok(()) | Err(_) => Ok(Exit::Done),
    }
}

/// To standard error; when that is closed there is nobody left to tell. What the API or a collector said may be part of
/// it, so nothing in it is to move a terminal's cursor.
fn complain(line: &str) {
    let line = Masked::new(line).replace(sanitize::is_invisible, " ");
    let priority = if stderr::is_journal() { "<3>" } else { "" };
    let _ = writeln!(std::io::stderr(), "{priority}kmagent: {line}");
}
