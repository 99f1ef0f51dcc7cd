//! The poller thread: one config check after another, and all that may block for long.
//!
//! It sleeps on its mailbox until the next check is due or an operator asks for one. What a check finds goes to the
//! supervisor; nothing is installed here. What the supervisor decides while a collector lives is written here.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::Level;
use log::kv::{Source, Value};

use crate::agent::check::ConfigCheck;
use crate::agent::check_outcome::Effects;
use crate::agent::mailbox::{Checked, Findings, PollerCommand, Saved, Snapshot, SupervisorEvent};
use crate::agent::reload::Present;
use crate::collector::process::KILL_PATIENCE;
use crate::config::value::Revision;
use crate::core::cadence::Cadence;
use crate::error::Exit;
use crate::os::descendants::{self, Which};
use crate::os::shutdown;
use crate::os::wake_channel::Sender;
use crate::source::Failure;
use crate::store::record::{Record, Rejected};

pub struct Poller {
    clock: Instant,
    mailbox: Receiver<PollerCommand>,
    supervisor: Sender<SupervisorEvent>,
    check: ConfigCheck,
    settings: Present,
    cadence: Cadence,
    /// `None` until the supervisor has reported how the first start went.
    known: Option<Snapshot>,
    ticket: u64,
    /// Handed over and without a verdict.
    pending: Option<Revision>,
    /// Refused here, and perhaps not taken in by the supervisor yet.
    refused: Option<Rejected>,
    /// Why the latest check failed; a reason is logged once.
    failing: Option<String>,
    /// Why the latest config could not be tried, or the collector not be restarted; logged once too.
    postponed: Option<String>,
}

impl Poller {
    /// `interval`: `None` means only when asked.
    pub fn new(
        clock: Instant,
        mailbox: Receiver<PollerCommand>,
        supervisor: Sender<SupervisorEvent>,
        check: ConfigCheck,
        settings: Present,
        interval: Option<Duration>,
        seed: u64,
    ) -> Poller {
        Poller {
            clock,
            mailbox,
            supervisor,
            check,
            settings,
            cadence: Cadence::new(interval, seed),
            known: None,
            ticket: 0,
            pending: None,
            refused: None,
            failing: None,
            postponed: None,
        }
    }

    /// Ends when it is asked to, or when the supervisor is gone.
    pub fn run(mut self) {
        let mut goes_on = true;
        while goes_on {
            goes_on = match self.wait() {
                Some(mail) => self.take(mail),
                None => self.check(),
            };
        }
    }

    /// The next mail, or `None` when a check is due. PollerCommand goes first, so that a check reports the latest.
    fn wait(&self) -> Option<PollerCommand> {
        let received = match self.cadence.next() {
            // The first check reports the first start, so it waits for word of it.
            Some(_) if self.known.is_none() => self.mailbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.mailbox.recv_deadline(self.clock + at),
            None => self.mailbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(mail) => Some(mail),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(PollerCommand::Stop),
        }
    }

    /// False when it is time to end.
    fn take(&mut self, mail: PollerCommand) -> bool {
        match mail {
            PollerCommand::Changed(snapshot) => {
                self.known = Some(snapshot);
                self.retain_rejection();
            }
            PollerCommand::Concluded => {
                self.pending = None;
                self.refused = None;
                self.cadence.concluded(self.clock.elapsed());
            }
            PollerCommand::ReadConfig => {
                let findings = self.findings();
                self.supervisor.send(SupervisorEvent::Found(findings));
            }
            PollerCommand::Save(rejected) => return self.save(rejected),
            PollerCommand::CheckNow { ticket } => {
                self.ticket = ticket;
                self.cadence.asked(self.clock.elapsed());
            }
            PollerCommand::Retry { ticket } => {
                self.refused = None;
                if let Some(known) = &mut self.known {
                    (known.rejected, known.postponed) = (None, None);
                }
                self.ticket = ticket;
                self.cadence.asked(self.clock.elapsed());
            }
            PollerCommand::Reload => {
                let reloaded = self.settings.reload(&mut self.check, &mut self.cadence, self.clock.elapsed());
                // What failed may not fail any more.
                self.failing = None;
                return self.supervisor.send(SupervisorEvent::Reloaded(reloaded));
            }
            PollerCommand::Restart => {
                let may_restart = self.check.would_start_again();
                let findings = self.findings();
                self.supervisor.send(SupervisorEvent::Found(findings));
                return self.supervisor.send(SupervisorEvent::MayRestart(may_restart));
            }
            PollerCommand::EndDescendants { before } => {
                descendants::end(Which::Before(before), KILL_PATIENCE);
            }
            PollerCommand::Stop => return false,
        }
        true
    }

    /// False when the supervisor is gone.
    fn save(&self, mut rejected: Record<Rejected>) -> bool {
        let saved = {
            let _step = shutdown::step();
            self.check.store().save()
        };
        let problem = saved.and(rejected.settle()).err().map(|error| error.to_string());
        self.supervisor.send(SupervisorEvent::Saved(Saved { problem, rejected }))
    }

    /// False when the supervisor is gone.
    fn check(&mut self) -> bool {
        let ticket = self.ticket;
        let began_at = self.clock.elapsed();
        self.cadence.began();
        let Some(known) = self.known.clone() else { return true };
        let mut outcome = self.check.run(&known, self.pending.as_ref());
        if outcome.as_ref().is_err_and(|failure| failure.error.exit() == Exit::Denied)
            && let Some(reloaded) = self.settings.take_changed_credential(&mut self.check)
        {
            if !self.supervisor.send(SupervisorEvent::KeyChanged(reloaded)) {
                return false;
            }
            outcome = self.check.run(&known, self.pending.as_ref());
        }
        let result = match outcome {
            Ok(outcome) => {
                self.cadence.succeeded(began_at, self.clock.elapsed());
                if self.failing.take().is_some() {
                    log::info!("the API answers again");
                }
                let effects = outcome.effects();
                self.take_in(&effects);
                Ok(Box::new(effects))
            }
            Err(failure) => {
                self.cadence.failed(self.clock.elapsed(), failure.retry_after);
                self.note(&failure);
                Err(failure)
            }
        };
        let findings = self.findings();
        self.supervisor.send(SupervisorEvent::Checked(Checked { ticket, result, findings }))
    }

    fn findings(&mut self) -> Findings {
        let (config, version) = (self.check.config(), self.check.known_version());
        Findings { config, facts: self.check.known_facts(), version, next_check_at: self.cadence.next() }
    }

    /// Logs a failed check, once for each reason. What the server says to it is no part of that.
    fn note(&mut self, failure: &Failure) {
        let reason = failure.error.to_string();
        if self.failing.as_ref() != Some(&reason) {
            let next = self.cadence.next().map(|at| at.saturating_sub(self.clock.elapsed()).as_secs());
            let fields = [
                Some(("error", Value::from(reason.as_str()))),
                failure.answer.as_deref().map(|answer| ("answer", Value::from(answer))),
                next.map(|seconds| ("next_check_seconds", Value::from(seconds))),
            ];
            let fields: Vec<(&str, Value)> = fields.into_iter().flatten().collect();
            // A refused key stays refused until an operator corrects it.
            let level = if failure.error.exit() == Exit::Denied { Level::Error } else { Level::Warn };
            write(level, "config check failed; the next check will retry", &fields);
            self.failing = Some(reason);
        }
    }

    fn take_in(&mut self, effects: &Effects) {
        let former = std::mem::replace(&mut self.postponed, effects.log.once.clone());
        if former.is_none() || former != self.postponed {
            write(effects.log.level, effects.log.message, &effects.log.fields);
        }
        if let Some(candidate) = effects.candidate() {
            self.pending = Some(candidate.revision.clone());
            self.cadence.brought_config();
        }
        if let Some(rejected) = effects.newly_rejected() {
            self.refused = Some(rejected.clone());
            self.retain_rejection();
            self.cadence.brought_config();
        }
    }

    /// The next check may be due before the supervisor has answered: a config that was refused just now is not tried
    /// again.
    fn retain_rejection(&mut self) {
        if let (Some(known), Some(refused)) = (&mut self.known, &self.refused) {
            known.rejected = Some(refused.clone());
        }
    }
}

fn write(level: Level, message: &'static str, fields: &dyn Source) {
    if level <= log::max_level() {
        log::logger().log(
            &log::Record::builder()
                .level(level)
                .target(module_path!())
                .args(format_args!("{message}"))
                .key_values(fields)
                .build(),
        );
    }
}
