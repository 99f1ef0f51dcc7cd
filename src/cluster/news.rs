//! What has become of a config, in the log and as an Event of Kubernetes.

use super::kubernetes::{Api, Event, Metadata, Severity};
use crate::config::value::Revision;
use crate::log::Masked;
use crate::settings::cluster::Workload;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Rejected {
        revision: Revision,
        reason: Masked,
    },
    Promoted {
        revision: Revision,
    },
    /// How far a candidate is now.
    Advanced {
        revision: Revision,
        stage: String,
    },
}

impl News {
    /// Whether it is still true when a later order takes the place of its own.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, News::Advanced { .. })
    }
}

/// The Event is about the ConfigMap, and nobody's need: one that cannot be made is lost.
pub fn tell(api: &dyn Api, workload: Workload, config_map: Option<&Metadata>, news: &[News]) {
    let group = workload.word();
    for item in news {
        let (severity, reason, note) = match item {
            News::Rejected { revision, reason } => {
                let revision = revision.short();
                log::error!(group, revision:%, problem = &**reason; "new config rejected; keeping the active config");
                (Severity::Warning, "ConfigRejected", format!("config {revision} is rejected: {reason}"))
            }
            News::Promoted { revision } => {
                let revision = revision.short();
                log::info!(group, revision:%; "all pods run the new config");
                (Severity::Normal, "ConfigApplied", format!("all pods run config {revision}"))
            }
            News::Advanced { revision, stage } => {
                let revision = revision.short();
                log::info!(group, revision:%, stage = stage.as_str(); "offering the new config");
                (Severity::Normal, "ConfigOffered", format!("config {revision} is offered: {stage}"))
            }
        };
        let Some(config_map) = config_map else { continue };
        let event = Event::of_config_map(config_map, severity, reason, note.into());
        if let Err(failure) = api.create_event(&event) {
            log::warn!(group, error:% = failure; "cannot create an Event");
        }
    }
}
