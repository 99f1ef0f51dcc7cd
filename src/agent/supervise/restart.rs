//! A restart of the collector without a new config: by hand-over if that is possible, as for a new config.
//!
//! An operator asks for it, the API, or a reload that has changed what the collector has in its environment. It is
//! ordered when the core can take it, and its verdict goes to the operator. That the collector would start at all was
//! asked of it before (`agent/check`).

use std::collections::VecDeque;

use super::Supervise;
use crate::agent::mailbox::PollerCommand;
use crate::control::server::ClientId;
use crate::core::event::{ActivationMode, Event, Verdict};
use crate::core::supervisor::RestartTime;
use crate::error::{Exit, Result};

#[derive(Default)]
pub(super) struct Restarts {
    /// Operators whose wish the poller has not answered yet.
    asked: VecDeque<ClientId>,
    /// Who asked for the one that is to be ordered.
    due: Option<&'static str>,
    /// Operators who wait for the verdict.
    waiting: Vec<ClientId>,
    /// How the latest one is made, until its verdict.
    method: Option<String>,
}

impl Restarts {
    pub(super) fn ask(&mut self, asked_by: &'static str) {
        self.due = Some(asked_by);
    }

    /// How many operators wait.
    pub(super) fn count(&self) -> usize {
        self.asked.len() + self.waiting.len()
    }
}

impl Supervise {
    pub(super) fn ask_for_restart(&mut self, client: ClientId) {
        if !self.store.has_config() {
            let problem = format!("there is no collector config {}, so no collector", self.store.config().display());
            return self.clients.reply_done(Some(client), Err((Exit::Unavailable, &problem)));
        }
        // One that is on probation is waited for.
        let longest = self.longest_check * 2 + self.handover.longest_overlap() * 2;
        self.tell(client, longest, None);
        self.restarts.asked.push_back(client);
        self.poller.send(PollerCommand::Restart);
    }

    /// The poller has asked the collector whether it would start.
    pub(super) fn take_may_restart(&mut self, outcome: Result<()>) {
        let Some(client) = self.restarts.asked.pop_front() else { return };
        match outcome {
            Err(error) => {
                log::error!(error:%; "collector not restarted; the running one stays");
                let problem = format!("collector not restarted: {error}");
                self.clients.reply_done(Some(client), Err((error.exit(), &problem)));
            }
            Ok(()) => {
                self.restarts.waiting.push(client);
                self.restarts.ask("kmagent restart");
            }
        }
    }

    /// Orders what is due, as soon as the core can take it.
    pub(super) fn order_restart(&mut self) {
        let Some(asked_by) = self.restarts.due else { return };
        let (event, method) = match self.core.restart_time() {
            RestartTime::Later | RestartTime::Never => return,
            // It starts what there is by then.
            RestartTime::Underway => (None, "restart (a start was under way)".to_string()),
            RestartTime::Now { runs: false } => (Some(Event::RestartRequested), "start".to_string()),
            RestartTime::Now { runs: true } => match self.prepare_handover() {
                Ok(()) => (Some(Event::Installed(Ok(ActivationMode::HandOver))), "hand-over".to_string()),
                Err(reason) => (Some(Event::RestartRequested), format!("restart ({reason})")),
            },
        };
        log::info!(asked_by = asked_by, method = method.as_str(); "restarting the collector");
        self.restarts.due = None;
        self.restarts.method = Some(method);
        self.handle(event.into_iter().collect());
    }

    /// The verdict on the collector that was started last, for those who wait for it.
    pub(super) fn conclude_restart(&mut self, verdict: &Verdict) {
        // About a config that came meanwhile.
        if matches!(verdict, Verdict::NotInstalled(_)) {
            return;
        }
        let Some(method) = self.restarts.method.take() else { return };
        let outcome = match verdict {
            Verdict::Promoted | Verdict::Proved => Ok(format!("collector restarted, by {method}")),
            Verdict::RolledBack(problem) => {
                Err((Exit::ConfigRefused, format!("the config was rolled back: {problem}")))
            }
            Verdict::Failing(problem) => Err((Exit::Unavailable, format!("the new collector fails: {problem}"))),
            Verdict::NotInstalled(_) => return,
        };
        let outcome = outcome.as_ref().map(String::as_str).map_err(|(exit, problem)| (*exit, problem.as_str()));
        for client in std::mem::take(&mut self.restarts.waiting) {
            self.clients.reply_done(Some(client), outcome);
        }
    }
}
