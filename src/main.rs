//! kmagent: keeps an OpenTelemetry Collector alive and its configuration current.
#![allow(dead_code)]

mod cli;
mod core;
mod error;
mod exit;
mod settings;
mod value;
mod yaml;

use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            print!("{text}");
            exit::Exit::Done.into()
        }
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("kmagent: {line}");
            }
            error.exit().into()
        }
    }
}

fn run() -> error::Result<String> {
    let cli = cli::parse(std::env::args_os().skip(1))?;
    match cli.mode {
        cli::Mode::Help => Ok(cli::help()),
        cli::Mode::Version => Ok(cli::version()),
        _ => {
            let resolved = settings::resolve(&cli.flags, &|name| std::env::var_os(name))?;
            for warning in &resolved.warnings {
                eprintln!("kmagent: warning: {warning}");
            }
            Ok(settings::print::render(&resolved.rows))
        }
    }
}
