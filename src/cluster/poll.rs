//! The vendor's API, asked at its cadence with what is known of the cluster.

use std::time::{Duration, Instant};

use super::mailbox::Report;
use crate::core::Uptime;
use crate::core::cadence::Cadence;
use crate::error::Exit;
use crate::log::Masked;
use crate::source::Failure;
use crate::source::kloudmate::cluster::{ClusterApi, ClusterReport, ClusterResponse};

/// What the report says of the cluster and the settings fix.
pub struct Identity {
    pub cluster_name: String,
    pub logs_enabled: bool,
    pub namespaces: Vec<String>,
    pub report_extended: bool,
}

pub struct Poll {
    clock: Instant,
    /// `None` means that nobody is asked.
    vendor: Option<ClusterApi>,
    identity: Identity,
    pub cadence: Cadence,
    /// Why the latest check failed; a reason is logged once.
    failing: Option<String>,
}

impl Poll {
    pub fn new(
        clock: Instant,
        vendor: Option<ClusterApi>,
        identity: Identity,
        interval: Option<Duration>,
        seed: u64,
    ) -> Poll {
        let interval = interval.filter(|_| vendor.is_some());
        Poll { clock, vendor, identity, cadence: Cadence::new(interval, seed), failing: None }
    }

    pub fn is_due(&self, now: Uptime) -> bool {
        self.cadence.next().is_some_and(|next| next <= now)
    }

    /// # Errors
    /// Why there is no answer, or none that can be read.
    pub fn ask(&mut self, report: &Report) -> Result<ClusterResponse, Masked> {
        let Some(vendor) = &self.vendor else { return Ok(ClusterResponse::default()) };
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
        match asked {
            Ok(response) => {
                self.cadence.succeeded(began_at, now);
                if self.failing.take().is_some() {
                    log::info!("the API answers again");
                }
                Ok(response)
            }
            Err(failure) => {
                self.cadence.failed(now, failure.retry_after);
                self.note(&failure);
                Err(failure.reason().into())
            }
        }
    }

    pub fn next_check_in(&self) -> Option<Duration> {
        self.cadence.next().map(|next| next.saturating_sub(self.clock.elapsed()))
    }

    fn note(&mut self, failure: &Failure) {
        let reason = failure.error.to_string();
        if self.failing.as_ref() != Some(&reason) {
            let level = if failure.error.exit() == Exit::Denied { log::Level::Error } else { log::Level::Warn };
            log::log!(level, error = reason.as_str(); "config check failed; the next check will retry");
            self.failing = Some(reason);
        }
    }
}
