//! kmagent: keeps an OpenTelemetry Collector alive and its configuration current.
//!
//! Parses, chooses the mode, and is the only place that prints a final error. What each mode does is in its own module.

mod api;
mod bug;
mod check;
mod cli;
mod collector;
mod collector_config;
mod config_check;
mod control;
mod core;
mod ending;
mod error;
mod exit;
mod handover;
mod init;
mod leftovers;
mod lock;
mod logger;
mod messages;
#[cfg(test)]
#[path = "../tests/support/needs.rs"]
mod needs;
mod notify;
mod output;
mod poller;
mod probe;
mod process;
mod report;
mod secrets;
mod settings;
mod start;
mod status;
mod stop;
mod store;
mod supervise;
mod sys;
mod utc;
mod value;
mod visible;
mod wake;
mod yaml;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use cli::{Cli, Mode};
use control::{CheckResult, Outcome};
use error::{Error, Result};
use exit::Exit;
use secrets::Secrets;

fn main() -> ExitCode {
    bug::leave_no_core();
    bug::exit_on_panic();
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
        Mode::Help => print(&cli::help()),
        Mode::Version => print(&cli::version()),
        Mode::PrintSettings => print_settings(&cli),
        Mode::Start => start(&cli),
        Mode::Stop => stop::run(&settings::run_dir(&cli.flags, &environment)?),
        Mode::Status { json } => print(&status::run(&settings::run_dir(&cli.flags, &environment)?, json)?),
        Mode::Check { dry_run, json, splay } => {
            let settings = settings::resolve(&cli.flags, &environment)?.settings;
            let extent = if dry_run { check::Extent::DryRun } else { check::Extent::Install };
            // Info is for the log of a resident agent; this one speaks when something is wrong, or when asked to.
            let level =
                if settings.log_level == log::LevelFilter::Info { log::LevelFilter::Warn } else { settings.log_level };
            log_to_stderr(level, &settings);
            sys::inherited::keep_from_children();
            sys::inherited::default_signals();
            check::wait(splay);
            let outcome = check::run(&settings, extent).unwrap_or_else(|error| Outcome::failed(&error));
            tell(&outcome, json)
        }
    }
}

fn print_settings(cli: &Cli) -> Result<Exit> {
    let resolved = settings::resolve(&cli.flags, &environment)?;
    for warning in &resolved.warnings {
        complain(&format!("warning: {warning}"));
    }
    print(&settings::print::render(&resolved.rows))
}

fn start(cli: &Cli) -> Result<Exit> {
    init::run_as_child_of_process_one()?;
    sys::inherited::keep_from_children();
    sys::inherited::default_signals();
    let resolved = settings::resolve(&cli.flags, &environment)?;
    log_to_stderr(resolved.settings.log_level, &resolved.settings);
    for warning in &resolved.warnings {
        log::warn!("{warning}");
    }
    start::run(&resolved.settings)
}

fn log_to_stderr(level: log::LevelFilter, settings: &settings::Settings) {
    logger::init(level, settings.log_format);
    let key = settings.api_key.iter().map(|key| key.expose().to_string());
    logger::set_secrets(Arc::new(Secrets::new(key)));
}

/// Silent when nothing changed; an error goes to standard error, for scripts too.
fn tell(outcome: &Outcome, json: bool) -> Result<Exit> {
    let exit = Exit::from_code(outcome.exit).unwrap_or(Exit::Bug);
    if json {
        print(&format!("{}\n", visible::json(&serde_json::to_string(outcome).unwrap_or_default())))?;
    } else if exit == Exit::Done && outcome.result != CheckResult::Unchanged {
        print(&format!("{}\n", visible::line(&outcome.message)))?;
    }
    if exit == Exit::Done { Ok(exit) } else { Err(Error::new(exit, outcome.message.clone())) }
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

/// To standard error; when that is closed there is nobody left to tell. What the API or a collector said may be part of it, so
/// nothing in it is to move a terminal's cursor.
fn complain(line: &str) {
    let line = line.replace(visible::is_invisible, " ");
    let _ = writeln!(std::io::stderr(), "kmagent: {line}");
}
