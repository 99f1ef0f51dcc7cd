//! What a reload changes: what holds at once, what the collector has to be started anew for, and what the agent has.
//!
//! It compares what `--print-settings` would show, so that a new setting needs no line here; what a file says that a
//! setting names is read again all the same.

use super::Resolved;

/// Where the agent's files are: it has the lock, the socket and the state there.
const AGENT: [&str; 4] = ["config", "run-dir", "seed-config", "state-dir"];
/// The collector's command line.
const COLLECTOR: [&str; 3] = ["collector", "collector-args", "local-config"];

/// The names of settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub at_once: Vec<&'static str>,
    pub at_collector_start: Vec<&'static str>,
    pub at_agent_start: Vec<&'static str>,
}

impl Changes {
    /// From `former` to `new`, of which what needs a start of the agent is put back.
    pub fn take(former: &Resolved, new: &mut Resolved) -> Changes {
        let mut changes = Changes::default();
        for row in &mut new.rows {
            let Some(before) = former.rows.iter().find(|before| before.key == row.key) else { continue };
            let is_same = match row.key {
                // It is shown as a mask.
                "api-key" => new.settings.api_key == former.settings.api_key,
                "update-token-file" => new.settings.update_token == former.settings.update_token,
                _ => true,
            };
            if before.value == row.value && is_same {
                continue;
            }
            if AGENT.contains(&row.key) {
                changes.at_agent_start.push(row.key);
                row.clone_from(before);
            } else if COLLECTOR.contains(&row.key) {
                changes.at_collector_start.push(row.key);
            } else {
                changes.at_once.push(row.key);
            }
        }
        let (kept, settings) = (&former.settings, &mut new.settings);
        settings.config.clone_from(&kept.config);
        settings.run_dir.clone_from(&kept.run_dir);
        settings.state_dir.clone_from(&kept.state_dir);
        changes
    }

    /// A sentence for each that does not hold yet, after what was done.
    pub fn describe(&self) -> String {
        let mut text = "settings reloaded".to_string();
        if !self.at_once.is_empty() {
            text += &format!(", changed: {}", self.at_once.join(", "));
        }
        for name in &self.at_collector_start {
            text += &format!("; {name} changes at the next start of the collector: run `kmagent restart`");
        }
        for name in &self.at_agent_start {
            text += &format!("; {name} changes at a restart of the agent");
        }
        text
    }
}
