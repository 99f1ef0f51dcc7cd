//! The updater thread: all that may block for long. It asks the vendor's API, reads and writes the groups' ConfigMaps,
//! and tells of what has become of a config.
//!
//! It decides nothing: what the API and the ConfigMaps say goes to the main thread, and what that orders is written
//! here, again and again until it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::config::GroupConfig;
use super::config_map;
use super::kubernetes::{Api, Cause, ConfigMap, Event, Name, Right, Severity, role_rules};
use super::mailbox::{Answer, Checked, ClusterEvent, News, Refused, Report, UpdaterCommand, Write};
use crate::config::value::Revision;
use crate::core::Uptime;
use crate::core::backoff::Backoff;
use crate::core::cadence::Cadence;
use crate::core::canary::Record;
use crate::error::Exit;
use crate::log::Masked;
use crate::os::wake_channel::Sender;
use crate::settings::cluster::Workload;
use crate::source::kloudmate::cluster::{ClusterApi, ClusterReport, ClusterResponse};
use crate::source::{Failure, Offer};

/// What the report says of the cluster and the settings fix.
pub struct Identity {
    pub cluster_name: String,
    pub logs_enabled: bool,
    pub namespaces: Vec<String>,
    pub report_extended: bool,
}

pub struct Updater {
    clock: Instant,
    mailbox: Receiver<UpdaterCommand>,
    main: Sender<ClusterEvent>,
    api: Box<dyn Api + Send>,
    /// `None` means that nobody is asked.
    vendor: Option<ClusterApi>,
    identity: Identity,
    cadence: Cadence,
    report: Option<Report>,
    groups: Vec<Group>,
    /// Of a config as YAML.
    most_yaml: u64,
    /// Why the latest check failed; a reason is logged once.
    failing: Option<String>,
    /// What the API server is still to be asked about.
    rights: Vec<Right>,
}

/// One ConfigMap, and what is still to be done with it.
struct Group {
    workload: Workload,
    name: Name,
    /// As it was read or written last; `None` until it could be read, and when it is another by now.
    map: Option<ConfigMap>,
    /// What that said.
    record: Option<Record<Revision>>,
    /// The latest order that is not carried out.
    write: Option<Write>,
    /// The latest offer, which most answers repeat.
    offer: Option<Arc<GroupConfig>>,
    backoff: Backoff,
    /// When reading or writing is tried again; `None` when there is nothing to do.
    due: Option<Uptime>,
    /// Why it failed; a reason is logged once.
    failing: Option<String>,
}

impl Updater {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        clock: Instant,
        mailbox: Receiver<UpdaterCommand>,
        main: Sender<ClusterEvent>,
        api: Box<dyn Api + Send>,
        vendor: Option<ClusterApi>,
        identity: Identity,
        groups: Vec<(Workload, Name)>,
        interval: Option<Duration>,
        most_yaml: u64,
        seed: u64,
    ) -> Updater {
        let group = |(workload, name)| Group {
            workload,
            name,
            map: None,
            record: None,
            write: None,
            offer: None,
            backoff: Backoff::new(seed),
            due: Some(Uptime::ZERO),
            failing: None,
        };
        let interval = interval.filter(|_| vendor.is_some());
        let names: Vec<Name> = groups.iter().map(|(_, name)| name.clone()).collect();
        let rights = Right::to_keep(&names);
        let groups = groups.into_iter().map(group).collect();
        let (cadence, report, failing) = (Cadence::new(interval, seed), None, None);
        Updater { clock, mailbox, main, api, vendor, identity, cadence, report, groups, most_yaml, failing, rights }
    }

    /// Ends when it is asked to, or when the main thread is gone.
    pub fn run(mut self) {
        loop {
            let now = self.clock.elapsed();
            let due = (0..self.groups.len()).find(|&at| self.groups[at].due.is_some_and(|due| due <= now));
            if let Some(at) = due {
                self.work(at);
            } else if self.report.is_some() && self.cadence.next().is_some_and(|next| next <= now) {
                self.check();
            }
            loop {
                let command = match self.next_at() {
                    Some(at) => self.mailbox.recv_deadline(self.clock + at),
                    None => self.mailbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match command {
                    Ok(UpdaterCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Ok(command) => self.take(command),
                    Err(RecvTimeoutError::Timeout) => break,
                }
            }
        }
    }

    /// When there is something to do. The API is asked once the ConfigMaps are read, as what is new is known then.
    fn next_at(&self) -> Option<Uptime> {
        let check = self.cadence.next().filter(|_| self.report.is_some());
        self.groups.iter().filter_map(|group| group.due).chain(check).min()
    }

    fn take(&mut self, command: UpdaterCommand) {
        match command {
            UpdaterCommand::Write(write) => {
                let now = self.clock.elapsed();
                if let Some(group) = self.groups.iter_mut().find(|group| group.workload == write.workload) {
                    // What an order that was not carried out had to tell is true all the same.
                    let mut write = write;
                    if let Some(former) = group.write.take() {
                        write.news.splice(0..0, former.news.into_iter().filter(News::is_lasting));
                    }
                    group.write = Some(write);
                    group.due = Some(group.due.unwrap_or(now));
                }
            }
            UpdaterCommand::Report(report) => self.report = Some(report),
            UpdaterCommand::CheckNow => self.cadence.asked(self.clock.elapsed()),
            UpdaterCommand::Stop => {}
        }
    }

    /// Says what the Role lacks, as soon as the API server answers.
    fn look_at_rights(&mut self) {
        match self.api.missing_rights(self.rights.clone()) {
            Ok(missing) => {
                for rule in role_rules(&missing) {
                    log::error!(rule = rule.as_str(); "a right is missing: add this rule to the updater's Role");
                }
                self.rights.clear();
            }
            Err(failure) => log::debug!(error:% = failure; "cannot ask for the updater's rights"),
        }
    }

    /// Reads the ConfigMap of a group, or writes to it.
    fn work(&mut self, at: usize) {
        if !self.rights.is_empty() {
            self.look_at_rights();
        }
        let group = &mut self.groups[at];
        group.due = None;
        let done = match (group.map.take(), group.write.take()) {
            (Some(map), Some(write)) => self.write(at, map, write),
            (None, write) => {
                group.write = write;
                self.read(at)
            }
            (map, None) => {
                group.map = map;
                Ok(())
            }
        };
        let now = self.clock.elapsed();
        let group = &mut self.groups[at];
        match done {
            Ok(()) => {
                group.backoff.reset();
                if group.failing.take().is_some() {
                    log::info!(group = group.workload.word(); "the ConfigMap can be used again");
                    self.main.send(ClusterEvent::Trouble(group.workload, None));
                }
                let is_unfinished = group.map.is_none() || group.write.is_some();
                group.due = is_unfinished.then_some(now);
            }
            Err(problem) => {
                group.due = Some(now + group.backoff.after_failure(now));
                let reason = problem.to_string();
                if group.failing.as_ref() != Some(&reason) {
                    log::error!(group = group.workload.word(), error = reason.as_str(); "cannot use the ConfigMap; will retry");
                    self.main.send(ClusterEvent::Trouble(group.workload, Some(problem)));
                    group.failing = Some(reason);
                }
            }
        }
    }

    /// What somebody else has changed counts, and an order that was made without it does not.
    fn read(&mut self, at: usize) -> Result<(), Masked> {
        let group = &mut self.groups[at];
        let map = self.api.config_map(&group.name).map_err(|failure| Masked::from(failure.to_string()))?;
        let mut found = config_map::read(&map, group.workload);
        group.map = Some(map);
        if let Some(known) = &group.record
            && found.record.stable != known.stable
        {
            // What is written there by hand would reach all pods at once.
            found.record.stable.clone_from(&known.stable);
        }
        // An answer may have been lost, and what is not ours may have changed.
        if let Some(write) = group.write.take_if(|write| write.record == found.record) {
            self.written(at, write);
        } else if group.record.as_ref() != Some(&found.record) {
            for problem in &found.problems {
                let problem = problem.as_str();
                log::warn!(group = group.workload.word(), problem; "the ConfigMap is not as it was written");
            }
            (group.record, group.write) = (Some(found.record.clone()), None);
            self.main.send(ClusterEvent::Found(group.workload, Box::new(found)));
        }
        Ok(())
    }

    fn write(&mut self, at: usize, map: ConfigMap, write: Write) -> Result<(), Masked> {
        let group = &mut self.groups[at];
        let patch = config_map::patch(&map, group.workload, &write.record, &write.configs);
        match self.api.patch_config_map(&group.name, &patch) {
            Ok(map) => {
                group.map = Some(map);
                self.written(at, write);
                Ok(())
            }
            Err(failure) => {
                group.write = Some(write);
                if failure.cause == Cause::Conflict {
                    return Ok(());
                }
                group.map = Some(map);
                Err(failure.to_string().into())
            }
        }
    }

    fn written(&mut self, at: usize, write: Write) {
        let group = &mut self.groups[at];
        group.record = Some(write.record);
        self.main.send(ClusterEvent::Written(group.workload, write.order));
        self.tell(at, &write.news);
    }

    /// In the log and as an Event, which is nobody's need: one that cannot be made is lost.
    fn tell(&self, at: usize, news: &[News]) {
        let group = &self.groups[at];
        let (name, map) = (group.workload.word(), group.map.as_ref());
        for item in news {
            let (severity, reason, note) = match item {
                News::Rejected { revision, reason } => {
                    let revision = revision.short();
                    log::error!(group = name, revision:%, problem = &**reason; "new config rejected; keeping the active config");
                    (Severity::Warning, "ConfigRejected", format!("config {revision} is rejected: {reason}"))
                }
                News::Promoted { revision } => {
                    let revision = revision.short();
                    log::info!(group = name, revision:%; "all pods run the new config");
                    (Severity::Normal, "ConfigApplied", format!("all pods run config {revision}"))
                }
                News::Advanced { revision, stage } => {
                    let revision = revision.short();
                    log::info!(group = name, revision:%, stage = stage.as_str(); "offering the new config");
                    (Severity::Normal, "ConfigOffered", format!("config {revision} is offered: {stage}"))
                }
            };
            let Some(map) = map else { continue };
            let event = Event::of_config_map(&map.metadata, severity, reason, note.into());
            if let Err(failure) = self.api.create_event(&event) {
                log::warn!(group = name, error:% = failure; "cannot create an Event");
            }
        }
    }

    fn check(&mut self) {
        let (Some(vendor), Some(report)) = (&self.vendor, &self.report) else { return };
        let began_at = self.clock.elapsed();
        self.cadence.began();
        let asked = vendor.ask(&ClusterReport {
            cluster_name: &self.identity.cluster_name,
            collector_version: report.collector_version.clone(),
            is_running: report.is_running,
            logs_enabled: self.identity.logs_enabled,
            namespaces: &self.identity.namespaces,
            extended: self.identity.report_extended.then(|| report.extended.clone()),
        });
        let now = self.clock.elapsed();
        let result = match asked {
            Ok(response) => {
                self.cadence.succeeded(began_at, now);
                if self.failing.take().is_some() {
                    log::info!("the API answers again");
                }
                Ok(self.answer(response))
            }
            Err(failure) => {
                self.cadence.failed(now, failure.retry_after);
                self.note(&failure);
                Err(failure.reason().into())
            }
        };
        // Others may have changed the annotations, for a rejected config to be tried again.
        for group in &mut self.groups {
            (group.map, group.due) = (None, Some(now));
        }
        let next_check_in = self.cadence.next().map(|next| next.saturating_sub(now));
        self.main.send(ClusterEvent::Checked(Checked { result, next_check_in }));
    }

    fn note(&mut self, failure: &Failure) {
        let reason = failure.error.to_string();
        if self.failing.as_ref() != Some(&reason) {
            let level = if failure.error.exit() == Exit::Denied { log::Level::Error } else { log::Level::Warn };
            log::log!(level, error = reason.as_str(); "config check failed; the next check will retry");
            self.failing = Some(reason);
        }
    }

    fn answer(&mut self, mut response: ClusterResponse) -> Answer {
        let mut offers = Vec::new();
        for group in &mut self.groups {
            let offer = match response.take(group.workload) {
                None => continue,
                Some(Ok(offer)) => group.config(offer, self.most_yaml),
                Some(Err(refusal)) => Err(Refused { revision: refusal.revision, problem: refusal.problem.to_string() }),
            };
            offers.push((group.workload, offer));
        }
        for (workload, offer) in Workload::ALL.map(|workload| (workload, response.take(workload))) {
            if offer.is_some() {
                log::debug!(group = workload.word(); "the API offers a config for a workload that is not set");
            }
        }
        Answer { restart: response.restart, offers }
    }
}

impl Group {
    fn config(&mut self, offer: Offer, most: u64) -> Result<Arc<GroupConfig>, Refused> {
        if let Some(known) = self.offer.as_ref().filter(|known| known.revision == offer.revision) {
            return Ok(Arc::clone(known));
        }
        let config = GroupConfig::offered(&offer.value, offer.revision.clone(), most)
            .map_err(|error| Refused { revision: offer.revision, problem: error.to_string() })?;
        Ok(Arc::clone(self.offer.insert(Arc::new(config))))
    }
}

impl News {
    /// Whether it is still true when a later order takes the place of its own.
    fn is_lasting(&self) -> bool {
        !matches!(self, News::Advanced { .. })
    }
}
