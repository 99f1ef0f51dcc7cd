//! What counts of the API's objects. Keys that are not named here are ignored, and what is left out has its default.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::name::Name;

/// The annotation of a pods' template that `kubectl rollout restart` changes, too. Each pod has it from its template.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    pub uid: String,
    /// Another one after each change.
    pub resource_version: String,
    /// One more after each change of the spec.
    pub generation: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Set once it is to be deleted.
    pub deletion_timestamp: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigMap {
    pub metadata: Metadata,
    #[serde(deserialize_with = "null_is_default")]
    pub data: BTreeMap<String, String>,
    /// In base64.
    #[serde(deserialize_with = "null_is_default")]
    pub binary_data: BTreeMap<String, String>,
}

/// What is to be changed of a ConfigMap; `None` removes a key. What is not named stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigMapPatch {
    /// That the ConfigMap must have.
    pub resource_version: String,
    pub data: BTreeMap<String, Option<String>>,
    pub annotations: BTreeMap<String, Option<String>>,
}

impl ConfigMapPatch {
    /// For what was read.
    pub fn of(read: &ConfigMap) -> ConfigMapPatch {
        ConfigMapPatch { resource_version: read.metadata.resource_version.clone(), ..ConfigMapPatch::default() }
    }

    #[must_use]
    pub fn data(mut self, key: impl Into<String>, value: Option<String>) -> ConfigMapPatch {
        self.data.insert(key.into(), value);
        self
    }

    #[must_use]
    pub fn annotation(mut self, name: impl Into<String>, value: Option<String>) -> ConfigMapPatch {
        self.annotations.insert(name.into(), value);
        self
    }

    /// RFC 7396.
    pub(super) fn merge_patch(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Patch<'a> {
            metadata: MetadataPatch<'a>,
            data: &'a BTreeMap<String, Option<String>>,
        }
        let metadata =
            MetadataPatch { resource_version: Some(&self.resource_version), annotations: Some(&self.annotations) };
        json(&Patch { metadata, data: &self.data })
    }
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct MetadataPatch<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, Option<String>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    DaemonSet,
    Deployment,
}

impl WorkloadKind {
    pub fn name(self) -> &'static str {
        match self {
            WorkloadKind::DaemonSet => "DaemonSet",
            WorkloadKind::Deployment => "Deployment",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadId {
    pub kind: WorkloadKind,
    pub name: Name,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// A DaemonSet or a Deployment: each has some of these keys.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Workload {
    pub metadata: Metadata,
    pub spec: WorkloadSpec,
    pub status: WorkloadStatus,
}

impl Workload {
    /// The annotation of the pods' template.
    pub fn restarted_at(&self) -> Option<&String> {
        self.spec.template.metadata.annotations.get(RESTARTED_AT)
    }

    /// How many there are to be of a DaemonSet, or are of a Deployment.
    pub fn pods(&self) -> u32 {
        self.status.desired_number_scheduled.max(self.status.replicas)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadSpec {
    pub selector: LabelSelector,
    pub template: Template,
    pub min_ready_seconds: u32,
    /// Of a Deployment.
    pub replicas: Option<u32>,
    pub paused: bool,
    /// Of a DaemonSet.
    pub update_strategy: Strategy,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Template {
    pub metadata: Metadata,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Strategy {
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The newest generation that its controller has acted on.
    pub observed_generation: u64,
    // Of a DaemonSet.
    pub desired_number_scheduled: u32,
    pub updated_number_scheduled: u32,
    pub number_available: u32,
    // Of a Deployment.
    pub replicas: u32,
    pub updated_replicas: u32,
    pub available_replicas: u32,
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// Which pods are a workload's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    #[serde(deserialize_with = "null_is_default")]
    pub match_labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub match_expressions: Vec<Expression>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Expression {
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    #[serde(deserialize_with = "null_is_default")]
    pub values: Vec<String>,
}

impl LabelSelector {
    /// As the query of a list has it.
    pub fn query(&self) -> String {
        let labels = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|it| match it.operator.as_str() {
            "In" => format!("{} in ({})", it.key, it.values.join(",")),
            "NotIn" => format!("{} notin ({})", it.key, it.values.join(",")),
            "DoesNotExist" => format!("!{}", it.key),
            _ => it.key.clone(),
        });
        labels.chain(expressions).collect::<Vec<_>>().join(",")
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodPage {
    pub metadata: PageMetadata,
    #[serde(deserialize_with = "null_is_default")]
    pub items: Vec<Pod>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PageMetadata {
    #[serde(rename = "resourceVersion")]
    pub resource_version: String,
    /// With what to ask for the next page; empty when there is none.
    #[serde(rename = "continue")]
    pub next: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: Metadata,
    pub spec: PodSpec,
    pub status: PodStatus,
}

impl Pod {
    /// Of the template that it was made from.
    pub fn restarted_at(&self) -> Option<&String> {
        self.metadata.annotations.get(RESTARTED_AT)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Empty as long as it is not scheduled.
    pub node_name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    #[serde(deserialize_with = "null_is_default")]
    pub conditions: Vec<Condition>,
    #[serde(deserialize_with = "null_is_default")]
    pub init_container_statuses: Vec<Container>,
    #[serde(deserialize_with = "null_is_default")]
    pub container_statuses: Vec<Container>,
}

/// The status of one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    pub name: String,
    pub ready: bool,
    pub restart_count: u32,
    pub state: ContainerState,
    pub last_state: ContainerState,
}

/// One of the two, or neither: then it runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub waiting: Option<Waiting>,
    pub terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    pub exit_code: i32,
    pub reason: String,
}

/// Go writes null for an empty list or map where it does not leave it out.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A merge patch of the template's annotation.
pub(super) fn restarted_at_patch(value: Option<&str>, resource_version: Option<&str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Patch<'a> {
        metadata: MetadataPatch<'a>,
        spec: Spec<'a>,
    }
    #[derive(Serialize)]
    struct Spec<'a> {
        template: TemplatePatch<'a>,
    }
    #[derive(Serialize)]
    struct TemplatePatch<'a> {
        metadata: MetadataPatch<'a>,
    }
    let annotations = BTreeMap::from([(RESTARTED_AT.to_owned(), value.map(str::to_owned))]);
    let metadata = MetadataPatch { resource_version: None, annotations: Some(&annotations) };
    json(&Patch {
        metadata: MetadataPatch { resource_version, annotations: None },
        spec: Spec { template: TemplatePatch { metadata } },
    })
}

/// Of maps with texts for keys, which cannot fail.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_what_changes_and_what_goes() {
        let read = ConfigMap {
            metadata: Metadata { resource_version: "7".to_owned(), ..Metadata::default() },
            ..ConfigMap::default()
        };
        let patch = ConfigMapPatch::of(&read).data("a", Some("x\n".to_owned())).data("b", None).annotation("k/c", None);
        assert_eq!(
            String::from_utf8(patch.merge_patch()).unwrap(),
            r#"{"metadata":{"resourceVersion":"7","annotations":{"k/c":null}},"data":{"a":"x\n","b":null}}"#
        );
        let patch = |value, version| String::from_utf8(restarted_at_patch(value, version)).unwrap();
        let inner = r#""spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"#;
        assert_eq!(patch(None, None), format!("{{\"metadata\":{{}},{inner}null}}}}}}}}}}"));
        let metadata = r#""metadata":{"resourceVersion":"8"}"#;
        assert_eq!(patch(Some("x"), Some("8")), format!("{{{metadata},{inner}\"x\"}}}}}}}}}}"));
    }

    #[test]
    fn what_is_null_or_left_out_has_its_default() {
        let text = r#"{"metadata":{"annotations":null},"data":null,"more":[1]}"#;
        assert_eq!(serde_json::from_str::<ConfigMap>(text).unwrap(), ConfigMap::default());
        let text = r#"{"metadata":{"continue":"x"},"items":null}"#;
        assert_eq!(serde_json::from_str::<PodPage>(text).unwrap().metadata.next, "x");
    }

    #[test]
    fn a_selector_becomes_a_query() {
        let text = r#"{"matchLabels":{"app":"km","tier":""},"matchExpressions":[
            {"key":"a","operator":"In","values":["x","y"]},{"key":"b","operator":"NotIn","values":["z"]},
            {"key":"c","operator":"Exists"},{"key":"d","operator":"DoesNotExist"}]}"#;
        let selector: LabelSelector = serde_json::from_str(text).unwrap();
        assert_eq!(selector.query(), "app=km,tier=,a in (x,y),b notin (z),c,!d");
    }
}
