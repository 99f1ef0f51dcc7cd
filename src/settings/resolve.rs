//! Settles every setting once at start, each problem and warning of all sources included.
//!
//! It reads the settings file, and the files with the API key and the policy. A new setting is one line in `settle`;
//! which source wins is decided in `precedence`, what a text means in `parse`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::cluster::{self, ClusterSettings};
use super::file::Problem;
use super::precedence::Layers;
use super::print::Row;
use super::{AgentPaths, Polling, Settings, api_key, endpoint, parse, policy, table, update_token};
use crate::error::{Error, Exit, Result};
use crate::log::LogFormat;
use crate::os::files::{FileId, Usage};
use crate::os::host;

/// The settings, and how they came about.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub settings: Settings,
    /// One a setting, in the table's order, for `--print-settings`.
    pub rows: Vec<Row>,
    /// What the user should know but what does not stop us; a whole line each.
    pub warnings: Vec<String>,
    /// What to keep for a start whose settings file has gone bad. `None` if this is what was kept.
    pub to_keep: Option<String>,
}

/// Settles every setting from `env`, `flags` (name and text, as `cli` gives them), the settings file and the defaults.
///
/// Reads the settings file, and the files with the API key and the policy. Fails with `Exit::Settings` and all problems
/// of all sources, one a line.
pub fn resolve(flags: &[(&'static str, String)], env: &dyn Fn(&str) -> Option<OsString>) -> Result<Resolved> {
    settle(Layers::open(flags, env, Path::new(table::DEFAULT_FILE)))
}

/// The same with the last good settings in place of the settings file; `None` if there are none.
pub fn resolve_last_good(
    flags: &[(&'static str, String)],
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Option<Result<Resolved>> {
    Layers::open_last_good(flags, env, Path::new(table::DEFAULT_FILE)).map(settle)
}

/// Where the last good settings are that a start would use, or try to, if there are any.
pub fn last_good_path(flags: &[(&'static str, String)], env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = Layers::open(flags, env, Path::new(table::DEFAULT_FILE)).last_good_path();
    FileId::of(&path).map(|_| path)
}

/// Where the agent is, alone, for `stop` and `status`, which must work beside a broken settings file or without leave
/// to read it. Beside a broken one the last good settings say where, if they can be read: the agent that runs was
/// started with them.
///
/// Fails with `Exit::Settings` when it may stand in a settings file that the user named and that cannot be read: the
/// default could be another agent's.
pub fn agent_paths(flags: &[(&'static str, String)], env: &dyn Fn(&str) -> Option<OsString>) -> Result<AgentPaths> {
    let default_file = Path::new(table::DEFAULT_FILE);
    let mut layers = Layers::open(flags, env, default_file);
    if !layers.problems.is_empty()
        && let Some(last_good) = Layers::open_last_good(flags, env, default_file)
    {
        layers = last_good;
    }
    let state_dir = layers.winner("state-dir", parse::path).map(|won| won.value);
    let run_dir = match layers.winner("run-dir", parse::path) {
        None if layers.cannot_read_named_file() => {
            layers.problem("give the agent's run directory with --run-dir, or fix the settings file".to_string());
            return Err(invalid(layers.problems));
        }
        Some(won) => won.value,
        None => layers.value("run-dir", parse::path),
    };
    let state_dir = state_dir.unwrap_or_else(|| layers.value("state-dir", parse::path));
    // A bad value is no reason not to stop an agent that was started with a good one.
    let stop_timeout = layers.winner("stop-timeout", parse::timeout).map(|won| won.value);
    let stop_timeout = stop_timeout.unwrap_or_else(|| layers.value("stop-timeout", parse::timeout));
    Ok(AgentPaths { run_dir, state_dir, settings_file: layers.settings_file().to_path_buf(), stop_timeout })
}

/// The same for `kmagent cluster`, with the settings that it has besides.
pub fn resolve_cluster(
    flags: &[(&'static str, String)],
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(Resolved, ClusterSettings)> {
    let mut layers = Layers::open(flags, env, Path::new(table::DEFAULT_FILE));
    let settings = settings(&mut layers);
    let cluster = cluster::settle(&mut layers);
    Ok((finish(layers, settings)?, cluster))
}

fn settle(mut layers: Layers<'_>) -> Result<Resolved> {
    let settings = settings(&mut layers);
    finish(layers, settings)
}

fn settings(from: &mut Layers<'_>) -> Settings {
    let (api_key, key_source) = api_key::choose(from);
    let update_token = update_token::choose(from);
    let collector_endpoint = from.value("collector-endpoint", parse::line);
    let settings_file = from.settings_file().to_path_buf();
    let (policy, policy_file) = policy::choose(from);
    Settings {
        settings_file,
        policy: policy.with_endpoint(&collector_endpoint),
        config: from.path("config", Usage::Replace).expect("a setting with a default"),
        seed_configs: from.paths("seed-config", Usage::Read),
        collector: from.path("collector", Usage::Read),
        collector_args: from.take("collector-args", parse::arguments).unwrap_or_default(),
        polling: polling(from, &collector_endpoint, api_key.is_some() || update_token.is_some()),
        collector_endpoint,
        api_key,
        key_source,
        update_token,
        config_check_interval: from.value("config-check-interval", parse::interval),
        local_config: from.path("local-config", Usage::Read),
        docker_mode: from.value("docker-mode", parse::switch),
        docker_endpoint: from.take("docker-endpoint", parse::line),
        host_name: host_name(from),
        log_level: from.value("log-level", parse::log_level),
        log_format: log_format(from),
        state_dir: from.path("state-dir", Usage::Fill).expect("a setting with a default"),
        run_dir: from.path("run-dir", Usage::Fill).expect("a setting with a default"),
        ca_file: from.path("ca-file", Usage::Read),
        report_extended: from.value("report-extended", parse::switch),
        instance_id: from.take("instance-id", parse::line),
        policy_file,
        on_change: from.take("on-change", parse::command),
        restart_mode: from.value("restart-mode", parse::restart_mode),
        stop_timeout: from.value("stop-timeout", parse::timeout),
        min_uptime: from.value("min-uptime", parse::timeout),
        start_timeout: from.value("start-timeout", parse::timeout),
        confirm_time: from.value("confirm-time", parse::confirm_time),
        validate_timeout: from.value("validate-timeout", parse::timeout),
        collector_log_rate: from.value("collector-log-rate", parse::rate),
        poll_timeout: from.value("poll-timeout", parse::timeout),
        max_config_size: from.value("max-config-size", parse::size),
        generations: from.value("generations", parse::generations),
        generations_size: from.value("generations-size", parse::size),
        ignored: from.ignored.take(),
    }
}

fn finish(layers: Layers<'_>, settings: Settings) -> Result<Resolved> {
    let to_keep = layers.to_keep();
    let Layers { rows, problems, warnings, .. } = layers;
    if !problems.is_empty() {
        return Err(invalid(problems));
    }
    Ok(Resolved { settings, rows, warnings, to_keep })
}

fn invalid(problems: Vec<Problem>) -> Error {
    let mut sorted: Vec<Problem> = Vec::new();
    for problem in problems {
        sorted.insert(sorted.partition_point(|earlier| earlier.line <= problem.line), problem);
    }
    let lines: Vec<_> = sorted.into_iter().map(|problem| problem.text).collect();
    Error::new(Exit::Settings, lines.join("\n"))
}

/// An explicit endpoint is checked, and a bad one is a problem; one that cannot be derived means local mode.
fn polling(from: &mut Layers<'_>, collector_endpoint: &str, has_key: bool) -> Polling {
    let allow_http = from.value("allow-http", parse::switch);
    if let Some(url) = from.take("update-endpoint", |text| endpoint::check(text, allow_http)) {
        return Polling::Endpoint(url);
    }
    let derived = if has_key {
        endpoint::derive(collector_endpoint, allow_http)
    } else {
        Err("there is no API key: set api-key-file, or update-endpoint for a server that needs no key".to_string())
    };
    match derived {
        Ok(url) => {
            from.row("update-endpoint", &url, "derived from collector-endpoint");
            Polling::Endpoint(url)
        }
        Err(reason) => {
            from.row("update-endpoint", "(none)", &format!("local mode: {reason}"));
            Polling::Local { reason }
        }
    }
}

fn host_name(from: &mut Layers<'_>) -> Option<String> {
    let named = from.take("host-name", parse::line);
    if named.is_none() {
        from.row("host-name", &host::name(), "default");
    }
    named
}

fn log_format(from: &mut Layers<'_>) -> LogFormat {
    from.take("log-format", parse::log_format).unwrap_or_else(|| {
        let (format, name) = match std::io::stderr().is_terminal() {
            true => (LogFormat::Text, "text"),
            false => (LogFormat::Json, "json"),
        };
        from.row("log-format", name, "default");
        format
    })
}

#[cfg(test)]
#[cfg(unix)]
#[path = "resolve_tests.rs"]
mod tests;
