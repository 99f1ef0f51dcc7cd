//! The updater thread in rollout mode: the API is asked, and what it wants is rolled out, one workload after another.
//!
//! An unfinished rollout of an earlier updater is finished or undone first. What cannot begin now, since pods are not
//! available, is tried again at the next check.

use std::time::Duration;

use super::config::GroupConfig;
use super::config_map;
use super::kubernetes::{self, Api, ConfigMap, Metadata, Name, Right, WorkloadId, WorkloadKind};
use super::mailbox::{Answer, Checked, ClusterEvent, Report};
use super::news::{self, News};
use super::pace::Clock;
use super::poll::Poll;
use super::rollout::{
    Candidate, Finished, Halted, Outcome, Pace, Rejection, Rollout, Rules, Stopped, Target, revision_of,
};
use super::unix_now;
use super::updater::Parts;
use crate::config::value::Revision;
use crate::control::GroupStatus;
use crate::core::restart_requests::{Asked, Decision, REPEAT_SECONDS, RestartThrottle};
use crate::log::Masked;
use crate::log::masked::{self, Holder};
use crate::os::wake_channel::Sender;
use crate::settings::cluster::{GroupSettings, Workload};
use crate::source::kloudmate::cluster::{ClusterResponse, Extended};
use crate::source::{Offer, Refusal};

/// Between two tries to go on with an unfinished rollout.
const RETRY: Duration = Duration::from_secs(30);

/// Until a restart is tried again that pods were in the way of.
const SKIPPED_SECONDS: u64 = 600;

pub struct Roller {
    pace: Clock,
    main: Sender<ClusterEvent>,
    api: Box<dyn Api + Send>,
    poll: Poll,
    rules: Rules,
    most_yaml: u64,
    groups: Vec<Group>,
    rights: Vec<Right>,
}

struct Group {
    workload: Workload,
    target: Target,
    throttle: RestartThrottle,
    status: GroupStatus,
    /// What the API offers is the rejected one.
    is_offered_rejected: bool,
    /// A rollout of an earlier updater, or one that was halted, may be unfinished.
    is_unfinished: bool,
    /// What was logged last of what cannot be done now.
    noted: Option<String>,
}

impl Roller {
    pub fn new(parts: Parts, targets: Vec<(Workload, Target)>, rules: Rules) -> Roller {
        let Parts { clock, mailbox, main, api, poll, most_yaml } = parts;
        let maps: Vec<Name> = targets.iter().map(|(_, target)| target.config_map.clone()).collect();
        let workloads: Vec<WorkloadId> = targets.iter().map(|(_, target)| target.workload.clone()).collect();
        let rights = [Right::to_keep(&maps), Right::to_roll_out(&workloads)].concat();
        let group = |(workload, target): (Workload, Target)| Group {
            workload,
            status: GroupStatus {
                workload: workload.word().to_string(),
                config_map: target.config_map.to_string(),
                ..GroupStatus::default()
            },
            target,
            throttle: RestartThrottle::default(),
            is_offered_rejected: false,
            is_unfinished: true,
            noted: None,
        };
        let pace = Clock { clock, mailbox, is_asked: false };
        let groups = targets.into_iter().map(group).collect();
        Roller { pace, main, api, poll, rules, most_yaml, groups, rights }
    }

    /// Ends when it is asked to, or when the main thread is gone.
    pub fn run(mut self) {
        while self.turn().is_ok() {}
    }

    fn turn(&mut self) -> Result<(), Stopped> {
        kubernetes::name_missing(&*self.api, &mut self.rights);
        for at in 0..self.groups.len() {
            if self.groups[at].is_unfinished {
                self.finish(at)?;
            }
        }
        if std::mem::take(&mut self.pace.is_asked) {
            self.poll.cadence.asked(self.pace.now());
        }
        if self.poll.is_due(self.pace.now()) {
            self.check()?;
        }
        let retry = self.groups.iter().any(|group| group.is_unfinished).then_some(RETRY);
        let next = self.poll.next_check_in().into_iter().chain(retry).min().unwrap_or(RETRY);
        self.pace.pause(next)
    }

    /// Of what an earlier updater has left.
    fn finish(&mut self, at: usize) -> Result<(), Stopped> {
        let result = self.roll_out(at, None)?;
        self.groups[at].is_unfinished = result.is_none();
        self.show(at);
        Ok(())
    }

    fn check(&mut self) -> Result<(), Stopped> {
        let report = self.report();
        let result = self.poll.ask(&report);
        let checked = result.as_ref().map(|_| Answer::default()).map_err(Clone::clone);
        self.main.send(ClusterEvent::Checked(Checked { result: checked, next_check_in: self.poll.next_check_in() }));
        let Ok(response) = result else { return Ok(()) };
        self.obey(response)
    }

    fn obey(&mut self, mut response: ClusterResponse) -> Result<(), Stopped> {
        for at in 0..self.groups.len() {
            // What is in the ConfigMap is unproved: no pod is to get it by a restart. The next check asks again.
            if self.groups[at].is_unfinished {
                continue;
            }
            self.take_offer(at, &mut response)?;
            self.show(at);
        }
        Ok(())
    }

    fn take_offer(&mut self, at: usize, response: &mut ClusterResponse) -> Result<(), Stopped> {
        let group = &mut self.groups[at];
        let offer = match response.take(group.workload).transpose() {
            Ok(offer) => offer,
            Err(Refusal { revision, problem }) => {
                self.reject(at, &revision, problem);
                return Ok(());
            }
        };
        let config_map = match self.api.config_map(&group.target.config_map) {
            Ok(config_map) => config_map,
            Err(failure) => {
                self.trouble(at, Some(failure.to_string()));
                return Ok(());
            }
        };
        self.trouble(at, None);
        let group = &mut self.groups[at];
        let active = revision_of(&config_map, &group.target.key);
        let rejected = Rejection::of(&config_map).map(|rejection| rejection.revision);
        let revision = offer.as_ref().map(|offer| &offer.revision);
        let asked = Asked { restart_required: response.restart, config: revision };
        let decision = group.throttle.decide(asked, active.as_ref(), rejected.as_ref(), unix_now());
        group.is_offered_rejected = decision == Decision::StillRejected;
        group.status.pending_revision = revision.filter(|_| decision == Decision::NotYet).map(ToString::to_string);
        match (decision, offer) {
            (Decision::Install, Some(offer)) => self.install(at, offer),
            (Decision::Restart, _) => self.restart(at),
            _ => Ok(()),
        }
    }

    fn install(&mut self, at: usize, Offer { value, revision }: Offer) -> Result<(), Stopped> {
        let config = match GroupConfig::offered(&value, revision.clone(), self.most_yaml) {
            Ok(config) => config,
            Err(error) => {
                self.reject(at, &revision, &error.to_string());
                return Ok(());
            }
        };
        masked::know(Holder::Candidate, std::sync::Arc::clone(&config.secrets));
        let group = &mut self.groups[at];
        (group.status.candidate_revision, group.status.stage) =
            (Some(revision.to_string()), Some("rollout".to_string()));
        self.show(at);
        log::info!(group = self.groups[at].workload.word(); "the updater does not validate configs in rollout mode: the pods do");
        self.roll_out(at, Some(Candidate { revision: &config.revision, text: &config.yaml }))?;
        Ok(())
    }

    /// `None`: it cannot go on for now.
    fn roll_out(&mut self, at: usize, candidate: Option<Candidate>) -> Result<Option<()>, Stopped> {
        let Roller { api, pace, rules, groups, .. } = self;
        let group = &mut groups[at];
        let result = Rollout { api: &**api, target: &group.target, rules: *rules, pace }.run(candidate);
        (group.status.candidate_revision, group.status.stage) = (None, None);
        match result {
            Err(Halted::Stopped) => Err(Stopped),
            Err(Halted::Failed(failure)) => {
                group.is_unfinished = true;
                // So that the same offer is tried again.
                group.throttle = RestartThrottle::default();
                self.trouble(at, Some(failure.to_string()));
                Ok(None)
            }
            Ok(finished) => {
                self.trouble(at, None);
                if let Some(finished) = finished {
                    self.tell(at, finished);
                }
                Ok(Some(()))
            }
        }
    }

    fn tell(&mut self, at: usize, Finished { revision, outcome }: Finished) {
        let group = &mut self.groups[at];
        let news = match outcome {
            Outcome::Installed => {
                // It may have taken longer than requests are one for.
                group.throttle.honoured_at = Some(unix_now());
                News::Promoted { revision }
            }
            Outcome::RolledBack { problem, former } => {
                let former = former.map(|former| format!("; the former config, which is back: {former}"));
                group.is_offered_rejected = true;
                News::Rejected { revision, reason: format!("{problem}{}", former.unwrap_or_default()).into() }
            }
            Outcome::NotInstalled { reason } => {
                group.throttle = RestartThrottle::default();
                let text = format!("config {} waits: {reason}", revision.short());
                if group.noted.as_ref() != Some(&text) {
                    log::warn!(group = group.workload.word(), reason = reason.as_str(); "the rollout cannot begin; will retry");
                }
                group.status.obstacle = Some(text.as_str().into());
                group.noted = Some(text);
                return;
            }
        };
        (group.status.obstacle, group.noted) = (None, None);
        let config_map = self.api.config_map(&group.target.config_map).ok();
        let metadata: Option<&Metadata> = config_map.as_ref().map(|map: &ConfigMap| &map.metadata);
        news::tell(&*self.api, group.workload, metadata, &[news]);
    }

    /// Never offered to any pod.
    fn reject(&mut self, at: usize, revision: &Revision, problem: &str) {
        let group = &mut self.groups[at];
        if group.status.rejected_revision.as_deref() != Some(revision.to_string().as_str()) {
            let revision = revision.short();
            log::error!(group = group.workload.word(), revision:%, problem; "new config rejected; keeping the active config");
        }
        group.status.rejected_revision = Some(revision.to_string());
        group.status.rejected_because = Some(problem.into());
        group.is_offered_rejected = true;
    }

    fn restart(&mut self, at: usize) -> Result<(), Stopped> {
        let Roller { api, pace, rules, groups, .. } = self;
        let group = &mut groups[at];
        let name = group.workload.word();
        match (Rollout { api: &**api, target: &group.target, rules: *rules, pace }).restart() {
            Ok(Ok(())) => log::info!(group = name; "restart requested by the API; restarting the workload"),
            Ok(Err(reason)) => {
                group.throttle.honoured_at = Some(unix_now().saturating_sub(REPEAT_SECONDS - SKIPPED_SECONDS));
                log::warn!(group = name, reason = reason.as_str(); "restart requested by the API was skipped");
            }
            Err(Halted::Stopped) => return Err(Stopped),
            Err(Halted::Failed(failure)) => {
                group.throttle = RestartThrottle::default();
                self.trouble(at, Some(failure.to_string()));
            }
        }
        Ok(())
    }

    fn trouble(&mut self, at: usize, trouble: Option<String>) {
        let group = &mut self.groups[at];
        if let Some(error) = trouble.as_deref().filter(|error| group.status.trouble.as_deref() != Some(*error)) {
            log::error!(group = group.workload.word(), error; "cannot use the API server; will retry");
        }
        group.status.trouble = trouble.map(Masked::from);
    }

    /// For `status`.
    fn show(&mut self, at: usize) {
        let group = &mut self.groups[at];
        if let Ok(config_map) = self.api.config_map(&group.target.config_map) {
            group.status.revision = revision_of(&config_map, &group.target.key).map(|revision| revision.to_string());
            if let Some(rejection) = Rejection::of(&config_map) {
                group.status.rejected_revision = Some(rejection.revision.to_string());
                group.status.rejected_because = Some(rejection.problem.into());
            }
        }
        if let Ok(workload) = self.api.workload(&group.target.workload) {
            group.status.pods = workload.pods() as usize;
        }
        self.main.send(ClusterEvent::RolledOut(Box::new(group.status.clone()), group.is_offered_rejected));
    }

    fn report(&self) -> Report {
        let of = |workload| self.groups.iter().find(|group| group.workload == workload);
        let stable = |workload| of(workload)?.status.revision.clone();
        let rejected = |workload| of(workload)?.status.rejected_revision.clone();
        Report {
            collector_version: String::new(),
            is_running: !self.groups.iter().any(|group| group.is_offered_rejected),
            extended: Extended {
                last_error_message: self
                    .groups
                    .iter()
                    .find_map(|group| problem(&group.status, group.is_offered_rejected))
                    .unwrap_or_default(),
                daemonset_revision: stable(Workload::DaemonSet),
                daemonset_rejected_revision: rejected(Workload::DaemonSet),
                deployment_revision: stable(Workload::Deployment),
                deployment_rejected_revision: rejected(Workload::Deployment),
            },
        }
    }
}

/// What is wrong with a group, for report and `status`.
pub fn problem(status: &GroupStatus, is_offered_rejected: bool) -> Option<Masked> {
    let name = &status.workload;
    if let Some(trouble) = &status.trouble {
        return Some(format!("{name}: {trouble}").into());
    }
    let revision = status.rejected_revision.as_ref().filter(|_| is_offered_rejected)?;
    let reason = status.rejected_because.as_deref().unwrap_or_default();
    Some(format!("{name}: config {} is rejected: {reason}", &revision[..12.min(revision.len())]).into())
}

/// What the settings say of the workloads.
///
/// # Errors
/// A name that none can have.
pub fn targets(groups: &[GroupSettings]) -> Result<Vec<(Workload, Target)>, &'static str> {
    let target = |group: &GroupSettings| {
        let kind = match group.workload {
            Workload::DaemonSet => WorkloadKind::DaemonSet,
            Workload::Deployment => WorkloadKind::Deployment,
        };
        let workload = WorkloadId { kind, name: Name::parse(group.name.as_deref().unwrap_or_default())? };
        let (config_map, key) = (Name::parse(&group.config_map)?, config_map::key(group.workload));
        Ok((group.workload, Target { config_map, key, workload }))
    };
    groups.iter().map(target).collect()
}

#[cfg(test)]
#[path = "roller_tests.rs"]
mod tests;
