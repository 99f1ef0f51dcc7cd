//! The supervisor's part of a reload: who has asked for it, and what it changes here.

use std::collections::VecDeque;
use std::time::Duration;

use super::Supervise;
use crate::agent::check;
use crate::agent::mailbox::PollerCommand;
use crate::agent::reload::{Reloaded, limits};
use crate::control::server::ClientId;
use crate::error::Result;

/// Those who have asked, in the order in which the poller answers: clients, or `None` for SIGHUP.
pub(super) type Reloads = VecDeque<Option<ClientId>>;

/// The files that settings name may be on a slow disk.
const READING: Duration = Duration::from_secs(10);

impl Supervise {
    /// By a client, or by SIGHUP.
    pub(super) fn ask_for_reload(&mut self, client: Option<ClientId>) {
        if let Some(client) = client {
            // The poller may be at a check, and then asks the collector whether it would start.
            self.tell(client, self.longest_check * 2 + READING, None);
        }
        // A signal reaches an agent whose socket was removed.
        self.restore_run_dir();
        self.reloads.push_back(client);
        self.poller.send(PollerCommand::Reload);
    }

    pub(super) fn take_reloaded(&mut self, outcome: Result<Box<Reloaded>>) {
        let client = self.reloads.pop_front().flatten();
        match outcome {
            Ok(reloaded) => {
                log::info!(result = reloaded.message.as_str(); "settings reloaded");
                self.state_tracker.settings_problem(None);
                self.clients.reply_done(client, Ok(&reloaded.message));
                self.adopt(*reloaded);
            }
            Err(error) => {
                let lines = error.to_string().lines().collect::<Vec<_>>().join("; ");
                log::error!(problem = lines.as_str(); "settings not reloaded; keeping the current ones");
                let problem =
                    format!("the settings are invalid and not reloaded: {lines}: fix this, then `kmagent reload`");
                self.state_tracker.settings_problem(Some(&problem));
                self.clients.reply_done(client, Err((error.exit(), &format!("settings not reloaded: {error}"))));
            }
        }
    }

    pub(super) fn adopt(&mut self, reloaded: Reloaded) {
        let Reloaded { settings, collector, store, facts, replace, .. } = reloaded;
        let limits = limits(&settings);
        self.longest_check = check::longest(&settings);
        self.core.set_limits(limits);
        self.handover.set(settings.restart_mode, limits);
        self.collectors.run_with(collector, self.handover.binds());
        self.service_status.set_stop_timeout(settings.stop_timeout);
        self.state_tracker.take_settings(&settings);
        self.store = store;
        self.facts.forget();
        facts.into_iter().for_each(|known| self.facts.learn(known));
        if replace {
            self.restarts.ask("reload");
        }
    }
}
