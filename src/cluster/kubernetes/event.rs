//! A Kubernetes Event: what `kubectl describe` shows below the object that it is about.

use std::time::SystemTime;

use serde::Serialize;

use super::objects::{Metadata, WorkloadId, json};
use crate::log::Masked;
use crate::log::utc::Utc;

/// Bytes of an event's text, as Kubernetes' own components keep to.
const MAX_NOTE: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub severity: Severity,
    /// One word in camel case, such as `ConfigRejected`.
    pub reason: &'static str,
    pub note: Masked,
    about: Reference,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
}

impl Event {
    /// About a DaemonSet or a Deployment; `uid` as its metadata has it, empty if that is not known.
    pub fn of_workload(
        workload: &WorkloadId,
        uid: &str,
        severity: Severity,
        reason: &'static str,
        note: Masked,
    ) -> Event {
        let kind = workload.kind.name();
        let name = workload.name.to_string();
        let about = Reference { api_version: "apps/v1", kind, name, namespace: String::new(), uid: uid.to_owned() };
        Event { severity, reason, note, about }
    }

    pub fn of_config_map(metadata: &Metadata, severity: Severity, reason: &'static str, note: Masked) -> Event {
        let Metadata { name, uid, .. } = metadata.clone();
        let about = Reference { api_version: "v1", kind: "ConfigMap", name, namespace: String::new(), uid };
        Event { severity, reason, note, about }
    }

    pub(super) fn body(&self, namespace: &str, now: SystemTime) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            api_version: &'static str,
            kind: &'static str,
            metadata: GeneratedName<'a>,
            involved_object: Reference,
            #[serde(rename = "type")]
            severity: &'static str,
            reason: &'static str,
            message: &'a str,
            source: Source,
            reporting_component: &'static str,
            first_timestamp: &'a str,
            last_timestamp: &'a str,
            count: u32,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct GeneratedName<'a> {
            generate_name: String,
            namespace: &'a str,
        }
        #[derive(Serialize)]
        struct Source {
            component: &'static str,
        }
        let now = Utc::from(now).to_string();
        let severity = match self.severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        json(&Body {
            api_version: "v1",
            kind: "Event",
            metadata: GeneratedName { generate_name: format!("{}.", self.about.name), namespace },
            involved_object: Reference { namespace: namespace.to_owned(), ..self.about.clone() },
            severity,
            reason: self.reason,
            message: &self.note.clone().cut(MAX_NOTE),
            source: Source { component: "kmagent" },
            reporting_component: "kmagent",
            first_timestamp: &now,
            last_timestamp: &now,
            count: 1,
        })
    }
}
