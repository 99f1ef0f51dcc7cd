//! The poller thread: one config check after another, and all that may block for long.
//!
//! It sleeps on its mailbox until the next check is due or somebody asks for one. What a check finds goes to the supervisor;
//! nothing is installed here.

use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::agent::check::ConfigCheck;
use crate::agent::mailbox::{CheckOutcome, Checked, PollerCommand, Snapshot, SupervisorEvent};
use crate::config::value::Revision;
use crate::core::cadence::Cadence;
use crate::os::wake_channel::Sender;
use crate::settings::{Polling, Settings};
use crate::store::record::Rejected;

pub struct Poller {
    clock: Instant,
    mailbox: Receiver<PollerCommand>,
    supervisor: Sender<SupervisorEvent>,
    asks: Asks,
    cadence: Cadence,
    /// `None` until the supervisor has told how the first start went.
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

/// What a check asks.
pub enum Asks {
    Api(Box<ConfigCheck>),
    Nobody { reason: String },
}

impl Poller {
    pub fn new(
        clock: Instant,
        mailbox: Receiver<PollerCommand>,
        supervisor: Sender<SupervisorEvent>,
        asks: Asks,
        settings: &Settings,
        seed: u64,
    ) -> Poller {
        let interval = match &settings.polling {
            Polling::Endpoint(_) => settings.config_check_interval,
            Polling::Local { .. } => None,
        };
        let cadence = Cadence::new(interval, seed);
        Poller {
            clock,
            mailbox,
            supervisor,
            asks,
            cadence,
            known: None,
            ticket: 0,
            pending: None,
            refused: None,
            failing: None,
            postponed: None,
        }
    }

    /// Ends when it is told to, or when the supervisor is gone.
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
            PollerCommand::CheckNow { ticket } => {
                self.ticket = ticket;
                self.cadence.asked(self.clock.elapsed());
            }
            PollerCommand::Stop => return false,
        }
        true
    }

    /// False when the supervisor is gone.
    fn check(&mut self) -> bool {
        let ticket = self.ticket;
        let began_at = self.clock.elapsed();
        self.cadence.began();
        let finding = match &mut self.asks {
            Asks::Nobody { reason } => Ok(CheckOutcome::Local { reason: reason.clone() }),
            Asks::Api(check) => match &self.known {
                Some(known) => check.run(known, self.pending.as_ref()),
                None => return true,
            },
        };
        let finding = match finding {
            Ok(finding) => {
                self.cadence.succeeded(began_at, self.clock.elapsed());
                if self.failing.take().is_some() {
                    log::info!("the API answers again");
                }
                Ok(finding)
            }
            Err(failure) => {
                self.cadence.failed(self.clock.elapsed(), failure.retry_after);
                let reason = failure.error.to_string();
                if self.failing.as_ref() != Some(&reason) {
                    let next = self.cadence.next().map(|at| at.saturating_sub(self.clock.elapsed()).as_secs());
                    log::warn!(error = reason.as_str(), next_check_seconds = next; "config check failed; keeping the active config");
                    self.failing = Some(reason);
                }
                Err(failure.error)
            }
        };
        if let Ok(finding) = &finding {
            self.note(finding);
        }
        if let Ok(CheckOutcome::Install(_) | CheckOutcome::Refused(_)) = &finding {
            self.cadence.brought_config();
        }
        if let Ok(CheckOutcome::Install(candidate)) = &finding {
            self.pending = Some(candidate.revision.clone());
        }
        if let Ok(CheckOutcome::Refused(rejected)) = &finding {
            self.refused = Some(rejected.clone());
            self.retain_rejection();
        }
        self.supervisor.send(SupervisorEvent::Checked(Checked { ticket, finding }))
    }

    /// The next check may be due before the supervisor has answered: a config that was refused just now is not tried again.
    fn retain_rejection(&mut self) {
        if let (Some(known), Some(refused)) = (&mut self.known, &self.refused) {
            known.rejected = Some(refused.clone());
        }
    }

    fn note(&mut self, finding: &CheckOutcome) {
        let postponed = self.postponed.take();
        match finding {
            CheckOutcome::Unchanged { .. } => log::debug!("config is up to date"),
            CheckOutcome::NotYet => log::debug!("the API offers a new config but does not ask to apply it yet"),
            CheckOutcome::OnItsWay => log::debug!("config is still on probation"),
            CheckOutcome::Install(candidate) => {
                log::info!(revision = candidate.revision.short(); "new config is valid")
            }
            CheckOutcome::Restart => log::info!("the API requested a collector restart"),
            CheckOutcome::NotRestarted(error) => {
                if postponed.as_deref() != Some(error.what()) {
                    log::error!(error:% = error; "collector not restarted; the next check will retry");
                }
                self.postponed = Some(error.what().to_string());
            }
            CheckOutcome::Refused(rejected) => {
                log::error!(revision = rejected.revision.short(), problem = rejected.problem.as_str(); "new config rejected; keeping the active config");
            }
            CheckOutcome::StillRejected(rejected) => {
                log::debug!(revision = rejected.revision.short(); "the API still sends the rejected config");
            }
            CheckOutcome::Postponed(error) => {
                if postponed.as_deref() != Some(error.what()) {
                    log::error!(error:% = error; "new config not applied; the next check will retry");
                }
                self.postponed = Some(error.what().to_string());
            }
            CheckOutcome::Local { reason } => log::debug!(reason = reason.as_str(); "local mode"),
        }
    }
}
