//! The groups, on the thread that never blocks: what the pods and the API say goes to the core, what the core orders to
//! the updater thread, and each pod gets its answer.

use std::sync::Arc;
use std::time::Duration;

use super::config::GroupConfig;
use super::config_map::{Found, MAX_DATA};
use super::mailbox::{Answer, Refused, Report, UpdaterCommand, Write};
use super::news::News;
use super::unix_now;
use crate::config::value::Revision;
use crate::core::Uptime;
use crate::core::canary::{Action, Answer as PodAnswer, Event, Group, PodId, PodReport, Record, Rules};
use crate::core::restart_requests::{Asked, Decision, RestartThrottle};
use crate::log::Masked;
use crate::log::masked::{self, Holder};
use crate::settings::Settings;
use crate::settings::cluster::{ClusterSettings, Workload};
use crate::source::kloudmate::cluster::Extended;

pub struct Fleet {
    rules: Rules,
    /// One or two.
    members: Vec<Member>,
    collector_version: String,
}

/// A group and what it needs.
pub struct Member {
    pub workload: Workload,
    pub config_map: String,
    /// `None` until its ConfigMap has been read: until then its pods keep what they have.
    pub group: Option<Group<Revision>>,
    /// Those that the record names.
    configs: Vec<Arc<GroupConfig>>,
    /// What the API offers, whether it is to be used or not.
    offered: Option<Revision>,
    /// It is offered, but not to be used yet.
    pub pending: Option<Revision>,
    /// What no pod was ever offered.
    pub refused: Option<Refused>,
    throttle: RestartThrottle,
    /// Bytes of the ConfigMap that are not this group's.
    others: usize,
    /// What is wrong at the API server.
    pub trouble: Option<Masked>,
}

impl Fleet {
    pub fn new(settings: &Settings, cluster: &ClusterSettings, pods_interval: Duration) -> Fleet {
        let proof = cluster.canary_time.unwrap_or(settings.confirm_time);
        let rules = Rules {
            canary_time: cluster.canary_time,
            steps: cluster.rollout_steps.clone(),
            interval: pods_interval,
            pod_deadline: cluster.rollout_deadline + proof,
        };
        let member = |group: &crate::settings::cluster::GroupSettings| Member {
            workload: group.workload,
            config_map: group.config_map.clone(),
            group: None,
            configs: Vec::new(),
            offered: None,
            pending: None,
            refused: None,
            throttle: RestartThrottle::default(),
            others: 0,
            trouble: None,
        };
        Fleet { rules, members: cluster.groups.iter().map(member).collect(), collector_version: String::new() }
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All pods can be answered.
    pub fn is_ready(&self) -> bool {
        self.members.iter().all(|member| member.group.is_some())
    }

    /// Of some it is known what is new to them.
    pub fn is_known(&self) -> bool {
        self.members.iter().any(|member| member.group.is_some())
    }

    fn member(&mut self, workload: Workload) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.workload == workload)
    }

    /// What the ConfigMap says.
    pub fn found(&mut self, now: Uptime, workload: Workload, found: Found) -> Vec<UpdaterCommand> {
        let rules = self.rules.clone();
        let Some(member) = self.member(workload) else { return Vec::new() };
        member.others = found.others;
        for config in found.stable.into_iter().chain(found.candidate) {
            member.learn(config);
        }
        match &mut member.group {
            Some(group) => {
                let actions = group.handle(now, Event::Found(found.record));
                member.orders(actions)
            }
            None => {
                member.group = Some(Group::new(rules, found.record));
                Vec::new()
            }
        }
    }

    pub fn written(&mut self, now: Uptime, workload: Workload, order: u64) -> Vec<UpdaterCommand> {
        let Some(member) = self.member(workload) else { return Vec::new() };
        let actions = member.group.as_mut().map(|group| group.handle(now, Event::Persisted(order))).unwrap_or_default();
        let orders = member.orders(actions);
        member.forget();
        let configs = || self.members.iter().flat_map(|member| &member.configs);
        masked::forget_collectors(|known| configs().any(|config| number(config) == known));
        orders
    }

    /// What the API answers.
    pub fn answered(&mut self, now: Uptime, mut answer: Answer) -> Vec<UpdaterCommand> {
        let restart = answer.restart;
        let mut orders = Vec::new();
        for member in &mut self.members {
            let at = answer.offers.iter().position(|(workload, _)| *workload == member.workload);
            let offer = at.map(|at| answer.offers.swap_remove(at).1);
            orders.extend(member.answered(now, restart, offer));
        }
        orders
    }

    /// A pod's question, and the answer: `None` where it is to keep what it has since nothing is known here.
    pub fn asked(
        &mut self,
        now: Uptime,
        workload: Workload,
        pod: &PodId,
        report: &PodReport<Revision>,
        collector_version: &str,
    ) -> (Option<PodAnswer<Revision>>, Vec<UpdaterCommand>) {
        if !collector_version.is_empty() {
            self.collector_version = collector_version.to_string();
        }
        let Some(member) = self.member(workload) else { return (None, Vec::new()) };
        let Some(group) = &mut member.group else { return (None, Vec::new()) };
        // It is told on: in the ConfigMap, in Events, to the API.
        let problem = report.problem.as_deref().map(|problem| Masked::new(problem).to_string());
        let (answer, actions) = group.reported(now, pod, &PodReport { problem, ..report.clone() });
        (Some(answer), member.orders(actions))
    }

    /// The text of a config that a pod is to get.
    pub fn config(&self, workload: Workload, revision: &Revision) -> Option<&Arc<GroupConfig>> {
        self.members.iter().find(|member| member.workload == workload)?.config(revision)
    }

    pub fn trouble(&mut self, workload: Workload, trouble: Option<Masked>) {
        if let Some(member) = self.member(workload) {
            member.trouble = trouble;
        }
    }

    /// For the next report to the API.
    pub fn report(&self) -> Report {
        let of = |workload| self.members.iter().find(|member| member.workload == workload);
        let stable = |workload| of(workload)?.record()?.stable.as_ref().map(ToString::to_string);
        let rejected = |workload| of(workload)?.rejected().map(|(revision, _)| revision.to_string());
        Report {
            collector_version: self.collector_version.clone(),
            is_running: !self.members.iter().any(Member::is_offered_rejected),
            extended: Extended {
                last_error_message: self.problem().unwrap_or_default(),
                daemonset_revision: stable(Workload::DaemonSet),
                daemonset_rejected_revision: rejected(Workload::DaemonSet),
                deployment_revision: stable(Workload::Deployment),
                deployment_rejected_revision: rejected(Workload::Deployment),
            },
        }
    }

    /// What is wrong, the first of it.
    pub fn problem(&self) -> Option<Masked> {
        self.members.iter().find_map(Member::problem)
    }
}

impl Member {
    fn answered(
        &mut self,
        now: Uptime,
        restart: bool,
        offer: Option<Result<Arc<GroupConfig>, Refused>>,
    ) -> Vec<UpdaterCommand> {
        // Without its record nobody knows what is new.
        let Some(group) = &self.group else { return Vec::new() };
        let offer = match offer.transpose() {
            Ok(offer) => offer,
            Err(refused) => {
                self.refuse(refused);
                return Vec::new();
            }
        };
        let revision = offer.as_ref().map(|config| config.revision.clone());
        let record = group.record();
        let active = record.candidate.as_ref().map(|it| &it.revision).or(record.stable.as_ref());
        let rejected = record.rejected.as_ref().map(|it| &it.revision);
        let asked = Asked { restart_required: restart, config: revision.as_ref() };
        let decision = self.throttle.decide(asked, active, rejected, unix_now());
        if revision.is_some() {
            self.offered.clone_from(&revision);
            self.refused = None;
        }
        self.set_pending(revision.filter(|_| decision == Decision::NotYet));
        match (decision, offer) {
            (Decision::Install | Decision::StillRejected, Some(config)) => self.offer(now, config),
            // A config on its way is what was asked for.
            (Decision::Restart, _) if self.record().is_none_or(|record| record.candidate.is_none()) => {
                log::info!(group = self.workload.word(); "restart requested by the API; passing it on to the pods");
                self.handle(now, Event::RestartAsked)
            }
            _ => Vec::new(),
        }
    }

    fn offer(&mut self, now: Uptime, config: Arc<GroupConfig>) -> Vec<UpdaterCommand> {
        let stable = self.record().and_then(|record| record.stable.as_ref());
        let beside = stable.and_then(|revision| self.config(revision)).map_or(0, |config| config.yaml.len());
        if config.yaml.len() + beside + self.others > MAX_DATA {
            let problem = format!(
                "the config has {} bytes as YAML; beside the one in force, of {beside}, and what else is in the \
                 ConfigMap, of {}, a ConfigMap holds 1 MiB; send a smaller one",
                config.yaml.len(),
                self.others
            );
            self.refuse(Refused { revision: config.revision.clone(), problem });
            return Vec::new();
        }
        let revision = config.revision.clone();
        self.learn(config);
        self.handle(now, Event::Offered(revision))
    }

    fn handle(&mut self, now: Uptime, event: Event<Revision>) -> Vec<UpdaterCommand> {
        let actions = self.group.as_mut().map(|group| group.handle(now, event)).unwrap_or_default();
        self.orders(actions)
    }

    /// What the core orders, for the other thread. The last record is the one to write, and news goes with it.
    fn orders(&mut self, actions: Vec<Action<Revision>>) -> Vec<UpdaterCommand> {
        let mut news = Vec::new();
        let mut write: Option<(u64, Record<Revision>)> = None;
        for action in actions {
            match action {
                Action::Persist { order, record } => write = Some((order, record)),
                Action::Rejected(rejection) => {
                    news.push(News::Rejected { revision: rejection.revision, reason: rejection.reason.into() });
                }
                Action::Promoted(revision) => news.push(News::Promoted { revision }),
            }
        }
        let Some((order, record)) = write else { return Vec::new() };
        if let Some(candidate) = &record.candidate {
            let (revision, stage) = (candidate.revision.clone(), candidate.stage.to_string());
            news.push(News::Advanced { revision, stage });
        }
        let named = |config: &&Arc<GroupConfig>| {
            let revision = Some(&config.revision);
            revision == record.stable.as_ref() || revision == record.candidate.as_ref().map(|it| &it.revision)
        };
        let configs = self.configs.iter().filter(named).cloned().collect();
        vec![UpdaterCommand::Write(Write { workload: self.workload, order, record, configs, news })]
    }

    fn refuse(&mut self, refused: Refused) {
        if self.refused.as_ref() != Some(&refused) {
            let (revision, problem) = (refused.revision.short(), refused.problem.as_str());
            log::error!(group = self.workload.word(), revision:%, problem; "new config rejected; keeping the active config");
        }
        self.offered = Some(refused.revision.clone());
        self.pending = None;
        self.refused = Some(refused);
    }

    fn set_pending(&mut self, pending: Option<Revision>) {
        if let Some(revision) = pending.as_ref().filter(|_| pending != self.pending) {
            log::info!(
                group = self.workload.word(), revision:% = revision.short();
                "the API offers a config and does not ask to apply it yet"
            );
        }
        self.pending = pending;
    }

    pub fn record(&self) -> Option<&Record<Revision>> {
        self.group.as_ref().map(Group::record)
    }

    /// The latest rejected revision, and why.
    pub fn rejected(&self) -> Option<(&Revision, &str)> {
        let refused = self.refused.as_ref().map(|refused| (&refused.revision, refused.problem.as_str()));
        refused.or_else(|| self.record()?.rejected.as_ref().map(|it| (&it.revision, it.reason.as_str())))
    }

    /// The API still offers what was rejected.
    fn is_offered_rejected(&self) -> bool {
        self.offered.is_some() && self.rejected().map(|(revision, _)| revision) == self.offered.as_ref()
    }

    pub fn problem(&self) -> Option<Masked> {
        let name = self.workload.word();
        if let Some(trouble) = &self.trouble {
            return Some(format!("{name}: {trouble}").into());
        }
        let (revision, reason) = self.rejected().filter(|_| self.is_offered_rejected())?;
        Some(format!("{name}: config {} is rejected: {reason}", revision.short()).into())
    }

    fn config(&self, revision: &Revision) -> Option<&Arc<GroupConfig>> {
        self.configs.iter().find(|config| config.revision == *revision)
    }

    fn learn(&mut self, config: Arc<GroupConfig>) {
        if self.config(&config.revision).is_none() {
            masked::know(Holder::Collector(number(&config)), Arc::clone(&config.secrets));
            self.configs.push(config);
        }
    }

    /// The configs that nothing names any more.
    fn forget(&mut self) {
        let Some(group) = &self.group else { return };
        if group.is_unwritten() {
            return;
        }
        let record = group.record();
        let named = [record.stable.clone(), record.candidate.as_ref().map(|it| it.revision.clone())];
        self.configs.retain(|config| named.contains(&Some(config.revision.clone())));
    }
}

/// Whose secrets are masked, by its revision.
fn number(config: &GroupConfig) -> u64 {
    let revision = config.revision.to_string();
    revision.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default()
}
