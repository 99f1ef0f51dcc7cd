//! The updater thread: all that may block for long. It asks the vendor's API, reads and writes the groups' ConfigMaps,
//! and tells of what has become of a config.
//!
//! It decides nothing: what the API and the ConfigMaps say goes to the main thread, and what that orders is written
//! here, again and again until it is.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::config::GroupConfig;
use super::config_map;
use super::kubernetes::{self, Api, Cause, ConfigMap, Name, Right};
use super::mailbox::{Answer, Checked, ClusterEvent, Refused, Report, UpdaterCommand, Write};
use super::news::{self, News};
use super::poll::Poll;
use crate::config::value::Revision;
use crate::core::Uptime;
use crate::core::backoff::Backoff;
use crate::core::canary::Record;
use crate::log::Masked;
use crate::os::wake_channel::Sender;
use crate::settings::cluster::Workload;
use crate::source::Offer;
use crate::source::kloudmate::cluster::ClusterResponse;

/// In a row, before the next try waits.
const MAX_CONFLICTS: u32 = 5;

pub struct Updater {
    clock: Instant,
    mailbox: Receiver<UpdaterCommand>,
    main: Sender<ClusterEvent>,
    api: Box<dyn Api + Send>,
    poll: Poll,
    report: Option<Report>,
    groups: Vec<Group>,
    /// Of a config as YAML.
    most_yaml: u64,
    /// What the API server is still to be asked about.
    rights: Vec<Right>,
}

/// What the thread is given, in either mode.
pub struct Parts {
    pub clock: Instant,
    pub mailbox: Receiver<UpdaterCommand>,
    pub main: Sender<ClusterEvent>,
    pub api: Box<dyn Api + Send>,
    pub poll: Poll,
    /// Of a config as YAML.
    pub most_yaml: u64,
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
    /// In a row: each means that somebody else has changed it just now, or that a webhook refuses it so.
    conflicts: u32,
    /// The latest offer, which most answers repeat.
    offer: Option<Arc<GroupConfig>>,
    backoff: Backoff,
    /// When reading or writing is tried again; `None` when there is nothing to do.
    due: Option<Uptime>,
    /// Why it failed; a reason is logged once.
    failing: Option<String>,
}

impl Updater {
    pub fn new(parts: Parts, groups: Vec<(Workload, Name)>, seed: u64) -> Updater {
        let Parts { clock, mailbox, main, api, poll, most_yaml } = parts;
        let group = |(workload, name)| Group {
            workload,
            name,
            map: None,
            record: None,
            write: None,
            conflicts: 0,
            offer: None,
            backoff: Backoff::new(seed),
            due: Some(Uptime::ZERO),
            failing: None,
        };
        let names: Vec<Name> = groups.iter().map(|(_, name)| name.clone()).collect();
        let rights = Right::to_keep(&names);
        let groups = groups.into_iter().map(group).collect();
        Updater { clock, mailbox, main, api, poll, report: None, groups, most_yaml, rights }
    }

    /// Ends when it is asked to, or when the main thread is gone.
    pub fn run(mut self) {
        loop {
            let now = self.clock.elapsed();
            let due = (0..self.groups.len()).find(|&at| self.groups[at].due.is_some_and(|due| due <= now));
            if let Some(at) = due {
                self.work(at);
            } else if self.report.is_some() && self.poll.is_due(now) {
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
        let check = self.poll.cadence.next().filter(|_| self.report.is_some());
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
            UpdaterCommand::Read => self.read_again(),
            UpdaterCommand::CheckNow => self.poll.cadence.asked(self.clock.elapsed()),
            UpdaterCommand::Stop => {}
        }
    }

    /// Reads the ConfigMap of a group, or writes to it.
    fn work(&mut self, at: usize) {
        kubernetes::name_missing(&*self.api, &mut self.rights);
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
                group.conflicts += 1;
                if failure.cause == Cause::Conflict && group.conflicts <= MAX_CONFLICTS {
                    return Ok(());
                }
                group.map = Some(map);
                Err(failure.to_string().into())
            }
        }
    }

    fn written(&mut self, at: usize, write: Write) {
        let group = &mut self.groups[at];
        group.conflicts = 0;
        group.record = Some(write.record);
        self.main.send(ClusterEvent::Written(group.workload, write.order));
        let map = group.map.as_ref().map(|map| &map.metadata);
        news::tell(&*self.api, group.workload, map, &write.news);
    }

    fn check(&mut self) {
        let Some(report) = &self.report else { return };
        let result = self.poll.ask(report).map(|response| self.answer(response));
        self.read_again();
        let next_check_in = self.poll.next_check_in();
        self.main.send(ClusterEvent::Checked(Checked { result, next_check_in }));
    }

    /// Others may have changed the annotations, for a rejected config to be tried again.
    fn read_again(&mut self) {
        let now = self.clock.elapsed();
        for group in &mut self.groups {
            (group.map, group.due) = (None, Some(now));
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

#[cfg(test)]
#[path = "updater_tests.rs"]
mod tests;
