//! `status`: what the running agent is doing now, as text or as JSON, or whether its collector runs.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::cluster_status;
use super::status_lines::{self, Row};
use crate::control::client::{self, Answer};
use crate::control::{CollectorStatus, ConfigStatus, PollingStatus, Reply, Request, Status};
use crate::error::{Error, Exit, Result};
use crate::log::sanitize;
use crate::log::utc::Utc;
use crate::settings::AgentPaths;

/// The supervisor answers between two events; a host that swaps takes seconds.
pub const TIMEOUT: Duration = Duration::from_secs(10);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How `status` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
    /// One line and the exit status, for probes.
    Ready,
}

/// # Errors
/// 69 when no agent runs, or for `Ready` no collector; 77 when it cannot be told that it is the agent.
pub fn run(agent: &AgentPaths, form: Form) -> Result<String> {
    match client::ask(agent, Request::Status, TIMEOUT)? {
        Answer::Reply(Reply::Status(status)) => match form {
            Form::Ready => ready(&status),
            Form::Json => json(&status),
            Form::Text => Ok(render(&status)),
        },
        Answer::Reply(Reply::Cluster(status)) => match form {
            Form::Ready => cluster_status::ready(&status),
            Form::Json => json(&status),
            Form::Text => Ok(cluster_status::render(&status)),
        },
        Answer::Reply(reply) => Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
        Answer::Stranger(who) => Err(stranger(&who)),
        Answer::Refused(why) => Err(Error::new(Exit::Denied, why)),
        Answer::Ended => Err(Error::new(Exit::Unavailable, "the agent ended just now: start it with `kmagent start`")),
    }
}

fn json(status: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(status);
    text.map(|text| sanitize::json(&text) + "\n")
        .map_err(|error| Error::because(Exit::Bug, "cannot show the status", error))
}

/// The remedy for `status` and `stop`, which nobody else can answer.
pub fn stranger(who: &str) -> Error {
    Error::new(Exit::Denied, format!("{who}: run this as that user if it is the agent, or end it"))
}

/// The cause first, and each thing once.
pub fn render(status: &Status) -> String {
    let mut rows = Vec::new();
    let mut row = |name, text: Option<String>| rows.extend(text.map(|text| Row { name, text }));
    let problem = problem(status);
    let is_polling_the_problem = problem.is_none() && status.polling.error.is_some();
    row("problem", problem.map(|problem| format!("{}{problem}", since(status.last_error_at, "since ", ": "))));
    row("polling", Some(polling(&status.polling)).filter(|_| is_polling_the_problem));
    row("collector", Some(collector(&status.collector)));
    row("program", program(&status.collector));
    row("config", Some(config(&status.config)));
    row("pending", pending(&status.config));
    row("rejected", rejected(&status.config, problem.unwrap_or_default()));
    row("changed by", status.config.changed_by.as_ref().map(ToString::to_string));
    row("polling", Some(polling(&status.polling)).filter(|_| !is_polling_the_problem));
    let settings =
        status.settings_problem.as_deref().filter(|settings| !problem.unwrap_or_default().contains(settings));
    row("settings", settings.map(str::to_string));
    row("agent", Some(format!("{}, pid {}, up {}", status.agent_version, status.pid, span(status.uptime_seconds))));
    status_lines::render(&rows)
}

/// One line.
///
/// # Errors
/// 69 when no collector runs.
fn ready(status: &Status) -> Result<String> {
    let collector = collector(&status.collector);
    if status.collector.is_ready {
        return Ok(format!("ready: collector {collector}\n"));
    }
    // A line that announces others goes with the first of them.
    let mut problem = problem(status).unwrap_or_default().lines();
    let mut line = problem.next().map(|problem| format!(": {problem}")).unwrap_or_default();
    if line.ends_with(':') {
        line.extend(problem.next().map(|next| format!(" {}", next.trim())));
    }
    Err(Error::new(Exit::Unavailable, format!("not ready: collector {collector}{line}")))
}

/// Without its time.
fn problem(status: &Status) -> Option<&str> {
    let message = &*status.last_error_message;
    let time = status.last_error_at.map(|at| format!("{}: ", Utc::from(moment(at)))).unwrap_or_default();
    Some(message.strip_prefix(&*time).unwrap_or(message)).filter(|problem| !problem.is_empty())
}

fn collector(collector: &CollectorStatus) -> String {
    let pid = collector.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let next = collector.next_start_seconds.map(|delay| format!(", next start in {}", span(delay))).unwrap_or_default();
    let state = format!("{}{}", collector.state, since(collector.state_since, " since ", ""));
    let restarts = if collector.restarts == 1 { "restart" } else { "restarts" };
    let outlives = if collector.outlives_agent { ", outlives a killed agent" } else { "" };
    format!("{state}{pid}{next}, {} {restarts}{outlives}", collector.restarts)
}

fn program(collector: &CollectorStatus) -> Option<String> {
    let path = collector.program.as_ref()?.display();
    Some(collector.version.as_ref().map_or_else(|| path.to_string(), |version| format!("{version}, {path}")))
}

fn config(config: &ConfigStatus) -> String {
    let revision = match (&config.revision, &config.revision_unknown_because) {
        (Some(revision), _) => format!("revision {}", short(revision)),
        (None, Some(reason)) => format!("revision unknown: {reason}"),
        (None, None) => "no such file".to_string(),
    };
    format!("{}, {revision}{}", config.path.display(), standing(config))
}

/// Whether it is to stay, and if not, until when that is open.
fn standing(config: &ConfigStatus) -> String {
    match (config.standing.as_deref(), config.confirmed_in_seconds) {
        (None, _) => String::new(),
        (Some("probation"), _) => format!(", on probation{}", since(config.installed_at, " since ", "")),
        (Some("unapplied"), _) => ", edited; the collector runs an earlier one until `kmagent restart`".to_string(),
        (Some(standing), None) => format!(", {standing}"),
        (Some(standing), Some(delay)) => format!(", {standing}, confirmed in {}", span(delay)),
    }
}

fn pending(config: &ConfigStatus) -> Option<String> {
    let revision = short(config.pending_revision.as_ref()?);
    Some(format!("{revision}{}; the API does not ask to apply it yet", since(config.pending_since, " since ", "")))
}

/// While it is offered, as far as the problem does not say it.
fn rejected(config: &ConfigStatus, problem: &str) -> Option<String> {
    let revision = short(config.rejected_revision.as_ref().filter(|_| config.rejected_is_offered)?);
    let reason = config.rejected_because.as_deref().unwrap_or_default();
    let time = since(config.rejected_at, " since ", "");
    let kept = config.rejected_kept.as_ref().map(|kept| format!("kept as {}", kept.display()));
    let offered = format!("revision {revision}{time}, and still offered");
    let kept_too = kept.as_ref().map(|kept| format!(", {kept}")).unwrap_or_default();
    match (problem.contains(revision), problem.contains(reason)) {
        (true, true) => kept,
        (false, true) => Some(format!("{offered}{kept_too}")),
        (_, false) => Some(format!("{offered}{kept_too}: {reason}")),
    }
}

pub(super) fn polling(polling: &PollingStatus) -> String {
    let Some(url) = &polling.endpoint else {
        return format!("none: {}", polling.local_because.as_deref().unwrap_or_default());
    };
    let next = polling.next_check_seconds.map(|delay| format!(", next check in {}", span(delay))).unwrap_or_default();
    match (&polling.error, polling.succeeded_at) {
        (Some(error), answered) => {
            let last = answered.map_or_else(
                || "no answer since the agent's start".to_string(),
                |at| format!("last answer {}", since(Some(at), "", "")),
            );
            format!("failing{}: {error}; {last}{next}; {url}", since(polling.failing_since, " since ", ""))
        }
        (None, Some(at)) => format!("{url}, answered {} ago{next}", age(at)),
        (None, None) => format!("{url}, not answered yet{next}"),
    }
}

pub(super) fn short(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}

/// A time with how long ago that was, between these words; empty without one. Without the date on the same day, as one
/// reads it.
fn since(unix_seconds: Option<u64>, before: &str, after: &str) -> String {
    let Some(at) = unix_seconds else { return String::new() };
    let time = Utc::from(moment(at)).to_string();
    // Without the milliseconds, which are none.
    let time = time.split('.').next().unwrap_or_default();
    let clock = time.split_once('T').filter(|_| SystemTime::now() < moment(at) + DAY).map_or(time, |(_, clock)| clock);
    format!("{before}{clock}Z ({} ago){after}", age(at))
}

fn age(unix_seconds: u64) -> String {
    span(SystemTime::now().duration_since(moment(unix_seconds)).unwrap_or_default().as_secs())
}

fn moment(unix_seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The two largest units: `3d 4h`, `4h 5m`, `5m 6s`, `6s`.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_told_once_and_while_it_is_offered() {
        let mut config: ConfigStatus = serde_json::from_str(
            r#"{"path": "/c", "revision": null, "changed_by": null, "rejected_revision": "1f2e3d4c5b6a7",
                "rejected_because": "boom", "rejected_is_offered": true}"#,
        )
        .unwrap();
        for (problem, expected) in [
            ("", Some("revision 1f2e3d4c5b6a, and still offered: boom")),
            ("the config was rolled back: boom", Some("revision 1f2e3d4c5b6a, and still offered")),
            ("config 1f2e3d4c5b6a is rejected: boom", None),
        ] {
            assert_eq!(rejected(&config, problem).as_deref(), expected, "{problem}");
        }
        config.rejected_is_offered = false;
        assert_eq!(rejected(&config, ""), None);
    }

    #[test]
    fn spans() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (86_399, "23h 59m"), (90_000, "1d 1h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
