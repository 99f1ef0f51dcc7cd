//! `status`: what the running agent is doing now, as text or as JSON.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::control::client::{self, Answer};
use crate::control::{Reply, Request, Status};
use crate::error::{Error, Exit, Result};
use crate::log::sanitize;
use crate::log::utc::Utc;
use crate::settings::AgentPaths;

/// The supervisor answers between two events; a host that swaps takes seconds.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Of the second and later lines of a value: as wide as the column of names.
const INDENTATION: &str = "           ";

/// # Errors
/// 69 when no agent runs, 77 when it cannot be told that it is the agent.
pub fn run(agent: &AgentPaths, json: bool) -> Result<String> {
    match client::ask(agent, Request::Status, TIMEOUT)? {
        Answer::Reply(Reply::Status(status)) if json => {
            let text = serde_json::to_string_pretty(&status);
            text.map(|text| sanitize::json(&text) + "\n")
                .map_err(|error| Error::because(Exit::Bug, "cannot show the status", error))
        }
        Answer::Reply(Reply::Status(status)) => Ok(render(&status)),
        Answer::Reply(reply) => Err(Error::new(Exit::Bug, format!("the agent gave an unexpected reply: {reply:?}"))),
        Answer::Stranger(who) => Err(stranger(&who)),
        Answer::Refused(why) => Err(Error::new(Exit::Denied, why)),
        Answer::Ended => Err(Error::new(Exit::Unavailable, "the agent ended just now: start it with `kmagent start`")),
    }
}

/// The remedy for `status` and `stop`, which nobody else can answer.
pub fn stranger(who: &str) -> Error {
    Error::new(Exit::Denied, format!("{who}: run this as that user if it is the agent, or end it"))
}

pub fn render(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Behind an indentation nothing of the API's or the collector's can pass for a line of ours. Writing to a
        // String does not fail.
        let _ = writeln!(text, "{name:<10} {}", sanitize::lines(&value, INDENTATION));
    };
    line("agent", format!("{}, pid {}, up {}", status.agent_version, status.pid, span(status.uptime_seconds)));
    let collector = &status.collector;
    let process = match (collector.pid, collector.uptime_seconds) {
        (Some(pid), Some(uptime)) => format!(", pid {pid}, up {}", span(uptime)),
        _ => String::new(),
    };
    let restarts = if collector.restarts == 1 { "restart" } else { "restarts" };
    let outlives = if collector.outlives_agent { ", outlives a killed agent" } else { "" };
    line("collector", format!("{}{process}, {} {restarts}{outlives}", collector.state, collector.restarts));
    let revision = status.config.revision.as_deref().map_or("none", |revision| short(revision));
    line("config", format!("{}, revision {revision}", status.config.path.display()));
    if let Some(manner) = &status.config.changed_by {
        line("changed by", manner.to_string());
    }
    if let Some(rejected) = &status.config.rejected_revision {
        let kept = status.config.rejected_kept.as_ref().map(|kept| format!(", kept as {}", kept.display()));
        let reason = status.config.rejected_because.as_deref().unwrap_or("");
        line("rejected", format!("revision {}{}: {reason}", short(rejected), kept.unwrap_or_default()));
    }
    let polling = &status.polling;
    line(
        "polling",
        match (&polling.endpoint, &polling.error, polling.succeeded_at) {
            (None, ..) => format!("none: {}", polling.local_because.as_deref().unwrap_or_default()),
            (Some(url), Some(error), _) => format!("{url}, failing: {error}"),
            (Some(url), None, Some(at)) => format!("{url}, answered {}", moment(at)),
            (Some(url), None, None) => format!("{url}, not answered yet"),
        },
    );
    if let Some(problem) = &status.settings_problem {
        line("settings", problem.to_string());
    }
    if !status.last_error_message.is_empty() {
        line("problem", status.last_error_message.to_string());
    }
    text
}

fn short(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}

fn moment(unix_seconds: u64) -> String {
    Utc::from(SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds)).to_string()
}

/// The two largest units: `3d 4h`, `4h 5m`, `5m 6s`, `6s`.
fn span(seconds: u64) -> String {
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
    fn spans() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (86_399, "23h 59m"), (90_000, "1d 1h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
