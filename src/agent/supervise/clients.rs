//! What people and cron jobs ask for over the control socket, and the outcome of the config check that some of them wait for.

use std::collections::VecDeque;

use super::Supervise;
use crate::agent::check_outcome::{Effects, Order, ReplyAt};
use crate::agent::mailbox::{Checked, PollerCommand};
use crate::control::server::{CHECK_LIMIT, ClientId};
use crate::control::{CheckResult, Outcome, Reply, Request};
use crate::core::event::Event;
use crate::core::supervisor::StateName;
use crate::error::{Error, Exit};
use crate::store::Candidate;

impl Supervise {
    pub(super) fn take_request(&mut self, client: ClientId, request: Request, events: &mut VecDeque<Event<Candidate>>) {
        match request {
            Request::Status => {
                self.look_for_suspended();
                let serving = self.core.serving();
                let living = self.living.iter().find(|living| Some(living.child) == serving);
                let process = living.map(|living| (living.process.id(), self.now().saturating_sub(living.started_at)));
                let status = self.state_tracker.status(self.core.phrase(), self.now(), process, self.starts);
                self.server.reply(client, &Reply::Status(Box::new(status)));
            }
            Request::Stop => {
                self.stop_clients.push(client);
                self.stop("kmagent stop", events);
            }
            Request::Check if !self.has_room_for_check() => {
                let error = Error::new(Exit::TryAgain, "too many checks are waiting: try again");
                self.server.reply(client, &Reply::Checked(Outcome::failed(&error)));
            }
            Request::Check => self.ask_for(client),
        }
    }

    /// Who has left meanwhile does not count.
    fn has_room_for_check(&mut self) -> bool {
        let server = &self.server;
        self.check_clients.retain(|(client, _)| server.is_there(*client));
        self.verdict_clients.retain(|client| server.is_there(*client));
        self.check_clients.len() + self.verdict_clients.len() < CHECK_LIMIT
    }

    fn ask_for(&mut self, client: ClientId) {
        self.ticket += 1;
        self.check_clients.push((client, self.ticket));
        let _ = self.poller.send(PollerCommand::CheckNow { ticket: self.ticket });
    }

    pub(super) fn take_check(&mut self, checked: Checked, events: &mut VecDeque<Event<Candidate>>) {
        let (asked, others) = self.check_clients.drain(..).partition(|(_, ticket)| *ticket <= checked.ticket);
        self.check_clients = others;
        let asked: Vec<(ClientId, u64)> = asked;
        let clients = asked.into_iter().map(|(client, _)| client);
        match &checked.finding {
            Ok(effects) => self.state_tracker.checked(&effects.problem),
            Err(error) => self.state_tracker.check_failed(error),
        }
        self.look_for_suspended();
        self.retry_state();
        let Effects { order, mut reply, reply_at, .. } = match checked.finding {
            Ok(effects) => *effects,
            Err(error) => return self.reply(clients, &Outcome::failed(&error)),
        };
        let waits = reply_at != ReplyAt::Once && self.state_tracker.awaits_verdict();
        match order {
            Order::Install(candidate) => {
                self.state_tracker.arrived();
                events.push_back(Event::CandidateArrived(candidate));
            }
            Order::Restart => events.push_back(Event::RestartRequested),
            Order::StartIfStopped if !waits && self.core.phrase() == StateName::Stopped && self.store.has_config() => {
                events.push_back(Event::RestartRequested);
                let message = "starting the collector with the config in place";
                reply = Outcome::done(CheckResult::Restarted, message);
            }
            Order::Nothing | Order::StartIfStopped => {}
        }
        match reply_at {
            ReplyAt::Verdict | ReplyAt::VerdictOrNextCheck if self.state_tracker.awaits_verdict() => {
                self.verdict_clients.extend(clients);
            }
            ReplyAt::Once | ReplyAt::Verdict => self.reply(clients, &reply),
            ReplyAt::VerdictOrNextCheck => clients.for_each(|client| self.ask_for(client)),
        }
    }

    fn reply(&mut self, clients: impl Iterator<Item = ClientId>, outcome: &Outcome) {
        for client in clients {
            self.server.reply(client, &Reply::Checked(outcome.clone()));
        }
    }
}
