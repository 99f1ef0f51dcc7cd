//! The Kubernetes API, as far as an updater needs it: two ConfigMaps, two workloads, their pods, events, and what it
//! may do.
//!
//! `client` makes the calls, with the credentials that a pod has; `objects` is what of the objects counts; `failure`
//! what a refusal means, and what to do; `rights` the rules of the Role. Nothing here knows what a rollout or a canary
//! is, nothing is kept between two calls, and nothing is retried.

mod client;
mod event;
mod failure;
mod name;
mod objects;
mod rights;
#[cfg(test)]
pub mod test_server;

pub use client::{Client, Options};
pub use event::{Event, Severity};
pub use failure::{ApiFailure, Cause};
pub use name::Name;
pub use objects::{
    ConfigMap, ConfigMapPatch, Container, Expression, LabelSelector, Metadata, Pod, PodPage, RESTARTED_AT, Workload,
    WorkloadId, WorkloadKind,
};
pub use rights::{Resource, Right, Verb, role_rules};

pub type Result<T> = std::result::Result<T, ApiFailure>;

/// What the updater asks of the API server. A trait, so that a rollout can be tried against one that dies at any call.
pub trait Api {
    /// # Errors
    /// As each of these: `Cause` says what a caller may decide by.
    fn config_map(&self, name: &Name) -> Result<ConfigMap>;

    /// The ConfigMap as it is after that. `Cause::Conflict` when it has changed since `patch.resource_version`.
    fn patch_config_map(&self, name: &Name, patch: &ConfigMapPatch) -> Result<ConfigMap>;

    fn workload(&self, workload: &WorkloadId) -> Result<Workload>;

    /// Sets the annotation `RESTARTED_AT` of the pods' template, or removes it: another value than it has restarts the
    /// pods. `Cause::Conflict` when the workload has changed since `resource_version`.
    fn set_restarted_at(
        &self,
        workload: &WorkloadId,
        value: Option<&str>,
        resource_version: Option<&str>,
    ) -> Result<Workload>;

    /// Some pods, and with what to go on.
    fn pods(&self, selector: &LabelSelector, after: Option<&str>) -> Result<PodPage>;

    fn create_event(&self, event: &Event) -> Result<()>;

    fn may(&self, right: &Right) -> Result<bool>;

    /// Those of the rights that the API server would not grant.
    fn missing_rights(&self, rights: Vec<Right>) -> Result<Vec<Right>> {
        let mut missing = Vec::new();
        for right in rights {
            if !self.may(&right)? {
                missing.push(right);
            }
        }
        Ok(missing)
    }
}

/// Says in the log what the Role lacks of these rights, as soon as the API server answers; then none is left.
pub fn name_missing(api: &dyn Api, rights: &mut Vec<Right>) {
    if rights.is_empty() {
        return;
    }
    match api.missing_rights(rights.clone()) {
        Ok(missing) => {
            for rule in role_rules(&missing) {
                log::error!(rule = rule.as_str(); "a right is missing: add this rule to the updater's Role");
            }
            rights.clear();
        }
        Err(failure) => log::debug!(error:% = failure; "cannot ask for the updater's rights"),
    }
}
