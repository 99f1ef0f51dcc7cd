//! The calls of a rollout: tried again for a while if they fail for no lasting reason, and made again where somebody
//! else was faster.

use std::time::Duration;

use super::{Halted, MAX_CONFLICTS, Rollout, Stopped, observe};
use crate::cluster::kubernetes::{self, Cause, ConfigMap, ConfigMapPatch, Workload};
use crate::core::Uptime;
use crate::core::workload;

/// A list of pods takes 10 KiB each: with many it is asked for less often.
const POLL_FOR_EACH_POD: Duration = Duration::from_millis(10);

/// Pages of pods that are read.
const MAX_PAGES: u32 = 100;

/// How long a call that fails for no lasting reason is tried again, before the run is given up for now.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_DELAY: Duration = Duration::from_secs(15);

/// What was seen of a workload.
pub struct Seen {
    pub resource_version: String,
    pub workload: workload::Workload,
    pub pods: Vec<workload::Pod>,
}

/// The pods, and when they were listed.
pub type Listed = Option<(Uptime, Vec<workload::Pod>)>;

impl Rollout<'_> {
    pub(super) fn look(&mut self, listed: &mut Listed) -> Result<Seen, Halted> {
        let read = self.workload()?;
        let workload = observe::workload(self.target.workload.kind, &read);
        let mut pods = Vec::new();
        if !workload::is_settled(&workload) || !workload.is_observed {
            let now = self.pace.now();
            let is_due = |at: Uptime| now.saturating_sub(at) >= POLL_FOR_EACH_POD * workload.total;
            if listed.as_ref().is_none_or(|(at, _)| is_due(*at)) {
                *listed = Some((now, self.pods(&read)?));
            }
            pods = listed.as_ref().map(|(_, pods)| pods.clone()).unwrap_or_default();
        }
        Ok(Seen { resource_version: read.metadata.resource_version, workload, pods })
    }

    pub(super) fn workload(&mut self) -> Result<Workload, Halted> {
        self.call(|it| it.api.workload(&it.target.workload))
    }

    pub(super) fn pods(&mut self, read: &Workload) -> Result<Vec<workload::Pod>, Halted> {
        let (mut pods, mut next) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = self.call(|it| it.api.pods(&read.spec.selector, next.as_deref()))?;
            pods.extend(page.items.iter().map(observe::pod));
            next = Some(page.metadata.next).filter(|next| !next.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(pods)
    }

    pub(super) fn config_map(&mut self) -> Result<ConfigMap, Halted> {
        self.call(|it| it.api.config_map(&it.target.config_map))
    }

    pub(super) fn patch(&mut self, patch: &ConfigMapPatch) -> Result<(), Halted> {
        self.call(|it| it.api.patch_config_map(&it.target.config_map, patch)).map(|_| ())
    }

    /// Whatever the ConfigMap has become since it was read.
    pub(super) fn change(&mut self, change: impl Fn(&ConfigMap, &str) -> ConfigMapPatch) -> Result<(), Halted> {
        let mut conflicts = 0;
        loop {
            let config_map = self.config_map()?;
            match self.patch(&change(&config_map, &self.target.key)) {
                Err(Halted::Failed(failure)) if failure.cause == Cause::Conflict && conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                }
                other => return other,
            }
        }
    }

    pub(super) fn call<T>(&mut self, call: impl Fn(&Self) -> kubernetes::Result<T>) -> Result<T, Halted> {
        let (until, mut delay) = (self.pace.now() + PATIENCE, Duration::from_secs(1));
        loop {
            let failure = match call(self) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = failure.failure.retry_after.unwrap_or_default().max(delay);
            if !failure.cause.is_transient() || self.pace.now() + wait > until {
                return Err(Halted::Failed(failure));
            }
            log::debug!(reason:% = failure; "a call of the Kubernetes API failed; will retry");
            self.pause(wait)?;
            delay = (delay * 2).min(MAX_DELAY);
        }
    }

    pub(super) fn pause(&mut self, duration: Duration) -> Result<(), Halted> {
        self.pace.pause(duration).map_err(|Stopped| Halted::Stopped)
    }
}
