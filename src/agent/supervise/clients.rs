//! What operators and cron jobs ask for over the control channel, and the outcome of the config check that some of them
//! wait for.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use super::Supervise;
use crate::agent::check_outcome::{Effects, Order, ReplyAt};
use crate::agent::mailbox::{Checked, PollerCommand};
use crate::collector::process::KILL_PATIENCE;
use crate::control::server::{CHECK_LIMIT, ClientId, Server};
use crate::control::{CheckResult, Done, Outcome, Reply, Request, Waiting};
use crate::core::Uptime;
use crate::core::event::Event;
use crate::core::supervisor::{RestartTime, StateName};
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::os::restarter;
use crate::os::wait::Waitable;
use crate::store::Candidate;

/// For the poller to read a config that was edited; it may be at a check, and a prober has seconds.
const READING_PATIENCE: Duration = Duration::from_secs(1);

/// The control server, and those of its clients that wait for something.
pub(super) struct Clients {
    server: Server,
    /// They wait for the agent's end.
    stopping: Vec<ClientId>,
    /// They wait for the end of a config check: of the first with this ticket or a later one.
    checking: Vec<(ClientId, u64)>,
    /// They wait for the verdict on a candidate.
    awaiting_verdict: Vec<ClientId>,
    /// They wait for the active config to be read, until then at most.
    awaiting_reading: Vec<(ClientId, Uptime)>,
    latest_ticket: u64,
}

impl Clients {
    pub(super) fn new(server: Server) -> Clients {
        Clients {
            server,
            stopping: Vec::new(),
            checking: Vec::new(),
            awaiting_verdict: Vec::new(),
            awaiting_reading: Vec::new(),
            latest_ticket: 0,
        }
    }

    pub(super) fn restore(&mut self, run_dir: &Path) -> Result<bool> {
        self.server.restore(run_dir)
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        self.server.sources()
    }

    pub(super) fn deadline(&self) -> Option<Uptime> {
        self.server.deadline().into_iter().chain(self.awaiting_reading.first().map(|(_, until)| *until)).min()
    }

    /// The client waits for the config to be read, but not while a check keeps the poller.
    pub(super) fn await_reading(&mut self, client: ClientId, now: Uptime) {
        self.awaiting_reading.push((client, now + READING_PATIENCE));
    }

    /// Takes out those who have waited for the config long enough; all of them without a time.
    pub(super) fn take_awaiting_reading(&mut self, now: Option<Uptime>) -> Vec<ClientId> {
        let is_late = |(_, until): &mut (ClientId, Uptime)| now.is_none_or(|now| now >= *until);
        self.awaiting_reading.extract_if(.., is_late).map(|(client, _)| client).collect()
    }

    pub(super) fn reply(&mut self, client: ClientId, reply: &Reply) {
        self.server.reply(client, reply);
    }

    pub(super) fn serve(&mut self, now: Uptime) -> Vec<(ClientId, Request)> {
        self.server.serve(now)
    }

    /// The agent ends: those who asked for that learn it.
    pub(super) fn dismiss_stopped(&mut self) {
        for client in std::mem::take(&mut self.stopping) {
            self.server.dismiss(client, &Reply::Stopped);
        }
    }

    /// The verdict is there, for those who wait for it.
    pub(super) fn reply_verdict(&mut self, outcome: &Outcome) {
        let clients = std::mem::take(&mut self.awaiting_verdict);
        self.reply_checked(clients, outcome);
    }

    fn reply_checked(&mut self, clients: impl IntoIterator<Item = ClientId>, outcome: &Outcome) {
        for client in clients {
            self.server.reply(client, &Reply::Checked(outcome.clone()));
        }
    }

    /// How many wait for a check. Clients that have left meanwhile do not count.
    fn count_checking(&mut self) -> usize {
        let server = &self.server;
        self.checking.retain(|(client, _)| server.is_there(*client));
        self.awaiting_verdict.retain(|client| server.is_there(*client));
        self.checking.len() + self.awaiting_verdict.len()
    }

    /// What came of a reload or a restart; nobody may have asked for it here.
    pub(super) fn reply_done(&mut self, client: Option<ClientId>, outcome: std::result::Result<&str, (Exit, &str)>) {
        let (exit, message) = outcome.map_or_else(|failed| failed, |message| (Exit::Done, message));
        if let Some(client) = client {
            self.server.reply(client, &Reply::Done(Done { exit: exit.code(), message: message.into() }));
        }
    }

    /// The ticket of the check that this client waits for from now on.
    fn add_check(&mut self, client: ClientId) -> u64 {
        self.latest_ticket += 1;
        self.checking.push((client, self.latest_ticket));
        self.latest_ticket
    }

    /// Takes out those who wait for a check with this ticket or an earlier one.
    fn take_checked(&mut self, ticket: u64) -> Vec<ClientId> {
        let (checked, others) = self.checking.drain(..).partition(|(_, waits_for)| *waits_for <= ticket);
        self.checking = others;
        let checked: Vec<(ClientId, u64)> = checked;
        checked.into_iter().map(|(client, _)| client).collect()
    }
}

impl Supervise {
    pub(super) fn take_request(&mut self, client: ClientId, request: Request, events: &mut VecDeque<Event<Candidate>>) {
        match request {
            Request::Status => self.take_status_request(client),
            Request::Stop { progress } => {
                let after = restarter::after_stop(Exit::Stopped.code());
                if self.exit == Exit::Done && after.is_status_known {
                    self.exit = Exit::Stopped;
                }
                if progress {
                    self.tell(client, self.service_status.longest_stop(), after.advice);
                }
                self.clients.stopping.push(client);
                self.stop("kmagent stop", events);
            }
            Request::Reload | Request::Restart if !self.has_room() => {
                self.clients.reply_done(Some(client), Err((Exit::TryAgain, "too many are waiting: try again")));
            }
            Request::Reload => self.ask_for_reload(Some(client)),
            Request::Restart => self.ask_for_restart(client),
            Request::Check | Request::Retry if !self.has_room() => {
                let error = Error::new(Exit::TryAgain, "too many checks are waiting: try again");
                self.clients.reply_checked([client], &Outcome::failed(&error));
            }
            Request::Check => self.ask_for(client),
            Request::Retry => {
                if self.state_tracker.has_rejection() {
                    log::info!("an operator has the rejected config tried again");
                }
                self.state_tracker.forget_rejection();
                // The poller may be at a check, and the config that this one brings has to prove itself.
                let verdict = self.handover.longest_overlap() * 2 + KILL_PATIENCE;
                self.tell(client, self.longest_check * 2 + verdict, None);
                let ticket = self.clients.add_check(client);
                self.poller.send(PollerCommand::Retry { ticket });
            }
        }
    }

    /// For one more that waits for what may take a minute.
    fn has_room(&mut self) -> bool {
        let reloading = self.reloads.iter().flatten().count();
        self.clients.count_checking() + reloading + self.restarts.count() < CHECK_LIMIT
    }

    /// That the answer follows, and how long it may take.
    pub(super) fn tell(&mut self, client: ClientId, longest: Duration, advice: Option<String>) {
        let waiting = Waiting { seconds: longest.as_secs(), advice: advice.map(Masked::from) };
        self.clients.server.tell(client, &Reply::Waiting(waiting));
    }

    fn ask_for(&mut self, client: ClientId) {
        let ticket = self.clients.add_check(client);
        self.poller.send(PollerCommand::CheckNow { ticket });
    }

    pub(super) fn take_check(&mut self, checked: Checked, events: &mut VecDeque<Event<Candidate>>) {
        let clients = self.clients.take_checked(checked.ticket);
        self.take_findings(checked.findings);
        match &checked.result {
            Ok(effects) => {
                self.state_tracker.checked(&effects.problem);
                if effects.reply_at != ReplyAt::VerdictOrNextCheck && !matches!(effects.order, Order::Install(_)) {
                    self.state_tracker.withdrawn(&effects.problem, effects.pending.as_ref());
                }
                self.state_tracker.pending(effects.pending.as_ref());
            }
            Err(failure) => self.state_tracker.check_failed(failure),
        }
        self.check_suspended();
        self.restore_run_dir();
        self.ask_still_healthy();
        self.save_state();
        let Effects { order, mut reply, reply_at, .. } = match checked.result {
            Ok(effects) => *effects,
            Err(failure) => return self.clients.reply_checked(clients, &Outcome::failed(&failure.into_error())),
        };
        let waits = reply_at != ReplyAt::Once && self.state_tracker.awaits_verdict();
        let is_stopped = self.core.state_name() == StateName::Stopped;
        match order {
            Order::Install(candidate) => {
                self.state_tracker.arrived();
                events.push_back(Event::CandidateArrived(candidate));
            }
            // Otherwise it has just been started, or is about to be.
            Order::Restart if matches!(self.core.restart_time(), RestartTime::Now { .. }) => {
                self.restarts.ask("the API");
            }
            Order::StartIfStopped if !waits && is_stopped && self.store.has_config() => {
                events.push_back(Event::RestartRequested);
                let message = "starting the collector with the config in place";
                reply = Outcome::done(CheckResult::Restarted, message);
            }
            Order::Nothing | Order::Restart | Order::StartIfStopped => {}
        }
        match reply_at {
            ReplyAt::Verdict | ReplyAt::VerdictOrNextCheck if self.state_tracker.awaits_verdict() => {
                self.clients.awaiting_verdict.extend(clients);
            }
            ReplyAt::Once | ReplyAt::Verdict => self.clients.reply_checked(clients, &reply),
            ReplyAt::VerdictOrNextCheck => clients.into_iter().for_each(|client| self.ask_for(client)),
        }
    }
}
