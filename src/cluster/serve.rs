//! The main thread: pods, operators and signals, none of which it waits for longer than for another.

use std::time::{Duration, Instant};

use super::fleet::{Fleet, Member};
use super::mailbox::{Checked, ClusterEvent, Report, UpdaterCommand};
use super::relay::Relay;
use super::roller;
use super::unix_now;
use crate::control::server::{ClientId, Server};
use crate::control::{ClusterStatus, GroupStatus, PollingStatus, Reply, Request};
use crate::core::Uptime;
use crate::error::Exit;
use crate::log::Masked;
use crate::os::lock::Lock;
use crate::os::signals::Signals;
use crate::os::wait::{Waitable, wait};
use crate::os::wake_channel::Receiver;

/// What was set up while failing was still allowed.
pub struct Parts {
    pub clock: Instant,
    pub signals: Signals,
    pub mail: Receiver<ClusterEvent>,
    pub updater: crossbeam_channel::Sender<UpdaterCommand>,
    pub server: Server,
    /// Held as long as this lives.
    pub _lock: Lock,
    pub fleet: Fleet,
    /// `None` when the pods do not ask.
    pub relay: Option<Relay>,
    /// What of the status never changes.
    pub fixed: ClusterStatus,
}

pub struct Serve {
    parts: Parts,
    next_check_at: Option<Uptime>,
    /// What the updater thread knows.
    reported: Option<Report>,
    /// In rollout mode, what the other thread says of the workloads.
    rolled: Vec<(GroupStatus, bool)>,
    stopping: Vec<ClientId>,
    exit: Option<Exit>,
    wait_failed: bool,
}

impl Serve {
    pub fn new(parts: Parts) -> Serve {
        let (next_check_at, reported, rolled, stopping) = (None, None, Vec::new(), Vec::new());
        Serve { parts, next_check_at, reported, rolled, stopping, exit: None, wait_failed: false }
    }

    /// Until it is asked to stop.
    pub fn run(mut self) -> Exit {
        loop {
            self.look();
            self.report();
            if let Some(exit) = self.exit {
                self.parts.updater.send(UpdaterCommand::Stop).ok();
                for client in std::mem::take(&mut self.stopping) {
                    self.parts.server.dismiss(client, &Reply::Stopped);
                }
                return exit;
            }
            self.sleep();
        }
    }

    fn now(&self) -> Uptime {
        self.parts.clock.elapsed()
    }

    fn sleep(&mut self) {
        let Parts { clock, signals, mail, server, relay, .. } = &self.parts;
        let deadlines = [server.deadline(), relay.as_ref().and_then(Relay::deadline)];
        let until = deadlines.into_iter().flatten().min().and_then(|until| clock.checked_add(until));
        let sources: Vec<Waitable<'_>> = [signals.waitable(), mail.waitable()]
            .into_iter()
            .chain(server.sources())
            .chain(relay.iter().flat_map(Relay::sources))
            .collect();
        let error = wait(&sources, until).err();
        if let Some(error) = error.as_ref().filter(|_| !self.wait_failed) {
            log::error!(error:%; "cannot wait for events; checking every 100 ms instead: free some memory");
        }
        self.wait_failed = error.is_some();
    }

    /// Everything that has happened meanwhile. Nothing of it blocks, so each is simply tried.
    fn look(&mut self) {
        let arrived = self.parts.signals.take();
        if arrived.stop {
            log::info!(asked_by = "signal"; "stopping");
            self.exit = self.exit.or(Some(Exit::Done));
        }
        if arrived.reload {
            log::warn!("the updater of a cluster has nothing to reload: change the Deployment, which restarts it");
        }
        let (events, is_closed) = self.parts.mail.drain();
        for event in events {
            self.take(event);
        }
        if is_closed && self.exit.is_none() {
            self.exit = Some(Exit::Bug);
        }
        let now = self.now();
        for (client, request) in self.parts.server.serve(now) {
            self.answer(client, request);
        }
        self.serve_pods();
    }

    fn take(&mut self, event: ClusterEvent) {
        let now = self.now();
        let fleet = &mut self.parts.fleet;
        let orders = match event {
            ClusterEvent::Found(workload, found) => fleet.found(now, workload, *found),
            ClusterEvent::Written(workload, order) => fleet.written(now, workload, order),
            ClusterEvent::Checked(Checked { result, next_check_in }) => {
                self.next_check_at = next_check_in.map(|delay| now + delay);
                let polling = &mut self.parts.fixed.polling;
                match result {
                    Ok(answer) => {
                        (polling.error, polling.failing_since) = (None, None);
                        polling.succeeded_at = Some(unix_now());
                        fleet.answered(now, answer)
                    }
                    Err(error) => {
                        polling.error = Some(error);
                        polling.failing_since = polling.failing_since.or(Some(unix_now()));
                        Vec::new()
                    }
                }
            }
            ClusterEvent::RolledOut(status, is_offered_rejected) => {
                self.rolled.retain(|(other, _)| other.workload != status.workload);
                self.rolled.push((*status, is_offered_rejected));
                Vec::new()
            }
            ClusterEvent::Trouble(workload, trouble) => {
                fleet.trouble(workload, trouble);
                Vec::new()
            }
            ClusterEvent::UpdaterEnded => {
                self.exit = Some(Exit::Bug);
                Vec::new()
            }
        };
        self.order(orders);
    }

    fn order(&self, orders: Vec<UpdaterCommand>) {
        for order in orders {
            self.parts.updater.send(order).ok();
        }
    }

    fn serve_pods(&mut self) {
        let now = self.now();
        let Parts { relay: Some(relay), fleet, .. } = &mut self.parts else { return };
        let orders = relay.turn(now, fleet);
        self.order(orders);
    }

    fn answer(&mut self, client: ClientId, request: Request) {
        match request {
            Request::Status => {
                let status = self.status();
                self.parts.server.reply(client, &Reply::Cluster(Box::new(status)));
            }
            Request::Stop { .. } => {
                log::info!(asked_by = "kmagent stop"; "stopping");
                self.stopping.push(client);
                self.exit = Some(Exit::Stopped);
            }
            Request::Check | Request::Retry | Request::Reload | Request::Restart => {
                let advice = "this is the updater of a Kubernetes cluster, which knows status and stop: \
                              see kmagent-cluster(8)";
                self.parts.server.reply(client, &Reply::Error(advice.into()));
            }
        }
    }

    /// The other thread asks the API with the latest.
    fn report(&mut self) {
        if !self.parts.fleet.is_known() {
            return;
        }
        let report = self.parts.fleet.report();
        if self.reported.as_ref() != Some(&report) {
            self.parts.updater.send(UpdaterCommand::Report(report.clone())).ok();
            self.reported = Some(report);
        }
    }

    fn status(&self) -> ClusterStatus {
        let Parts { fleet, fixed, clock, .. } = &self.parts;
        let next = self.next_check_at.map(|at| at.saturating_sub(self.now()).as_secs());
        let (is_ready, groups, problem) = match self.parts.relay {
            Some(_) => (fleet.is_ready(), fleet.members().iter().map(group).collect(), fleet.problem()),
            None => {
                let problem =
                    self.rolled.iter().find_map(|(status, is_rejected)| roller::problem(status, *is_rejected));
                let is_ready = self.rolled.len() == fleet.members().len();
                (is_ready, self.rolled.iter().map(|(status, _)| status.clone()).collect(), problem)
            }
        };
        ClusterStatus {
            uptime_seconds: clock.elapsed().as_secs(),
            is_ready,
            groups,
            polling: PollingStatus { next_check_seconds: next, ..fixed.polling.clone() },
            last_error_message: problem.unwrap_or_default(),
            ..fixed.clone()
        }
    }
}

fn group(member: &Member) -> GroupStatus {
    let status = member.group.as_ref().map(|group| group.status());
    let record = member.record();
    let candidate = record.and_then(|record| record.candidate.as_ref());
    let rejected = member.rejected();
    let masked = |text: &str| Masked::new(text);
    GroupStatus {
        workload: member.workload.word().to_string(),
        config_map: member.config_map.clone(),
        revision: record.and_then(|record| record.stable.as_ref()).map(ToString::to_string),
        candidate_revision: candidate.map(|candidate| candidate.revision.to_string()),
        stage: candidate.map(|candidate| candidate.stage.to_string()),
        pending_revision: member.pending.as_ref().map(ToString::to_string),
        rejected_revision: rejected.map(|(revision, _)| revision.to_string()),
        rejected_because: rejected.map(|(_, reason)| masked(reason)),
        pods: status.as_ref().map_or(0, |status| status.pods),
        silent_pods: status.as_ref().map_or(0, |status| status.silent),
        candidate_pods: status.as_ref().map_or(0, |status| status.holding),
        proved_pods: status.as_ref().map_or(0, |status| status.proved),
        obstacle: status.as_ref().and_then(|status| status.obstacle.as_deref()).map(masked),
        trouble: member.trouble.clone(),
    }
}

/// The pods' own config-check-interval is not known here: it is taken for the updater's.
pub const USUAL_INTERVAL: Duration = Duration::from_secs(60);
