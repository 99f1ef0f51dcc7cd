//! What the updater has to be allowed to do, as the rules of a Role that allow it, and no more.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::name::Name;
use super::objects::{WorkloadId, WorkloadKind, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    ConfigMaps,
    DaemonSets,
    Deployments,
    Pods,
    Events,
    SelfSubjectAccessReviews,
}

impl Resource {
    pub fn group(self) -> &'static str {
        match self {
            Resource::ConfigMaps | Resource::Pods | Resource::Events => "",
            Resource::DaemonSets | Resource::Deployments => "apps",
            Resource::SelfSubjectAccessReviews => "authorization.k8s.io",
        }
    }

    pub fn plural(self) -> &'static str {
        match self {
            Resource::ConfigMaps => "configmaps",
            Resource::DaemonSets => "daemonsets",
            Resource::Deployments => "deployments",
            Resource::Pods => "pods",
            Resource::Events => "events",
            Resource::SelfSubjectAccessReviews => "selfsubjectaccessreviews",
        }
    }
}

impl From<WorkloadKind> for Resource {
    fn from(kind: WorkloadKind) -> Resource {
        match kind {
            WorkloadKind::DaemonSet => Resource::DaemonSets,
            WorkloadKind::Deployment => Resource::Deployments,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Patch,
    Create,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Create => "create",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    pub verb: Verb,
    pub resource: Resource,
    /// `None`: of any name. Lists and creations cannot be limited to one.
    pub name: Option<Name>,
}

impl Right {
    pub fn new(verb: Verb, resource: Resource, name: Option<&Name>) -> Right {
        Right { verb, resource, name: name.cloned() }
    }

    /// To keep configs in ConfigMaps and to tell what was done with them: both modes.
    pub fn to_keep<'a>(config_maps: impl IntoIterator<Item = &'a Name>) -> Vec<Right> {
        let each = config_maps.into_iter().flat_map(|name| Right::to_change(Resource::ConfigMaps, name));
        each.chain([Right::new(Verb::Create, Resource::Events, None)]).collect()
    }

    /// To restart workloads and to observe them: rollout mode, besides `to_keep`.
    pub fn to_roll_out<'a>(workloads: impl IntoIterator<Item = &'a WorkloadId>) -> Vec<Right> {
        let each = workloads.into_iter().flat_map(|it| Right::to_change(it.kind.into(), &it.name));
        each.chain([Right::new(Verb::List, Resource::Pods, None)]).collect()
    }

    fn to_change(resource: Resource, name: &Name) -> [Right; 2] {
        [Verb::Get, Verb::Patch].map(|verb| Right::new(verb, resource, Some(name)))
    }
}

/// The rules of a Role that grant these rights, one a line as YAML takes it, in the order in which they come.
pub fn role_rules(rights: &[Right]) -> Vec<String> {
    let is_one_rule = |a: &Right, b: &Right| (a.resource, &a.name) == (b.resource, &b.name);
    let mut rules = Vec::new();
    for (at, right) in rights.iter().enumerate() {
        if rights[..at].iter().any(|before| is_one_rule(before, right)) {
            continue;
        }
        let mut verbs: Vec<&str> = rights.iter().filter(|it| is_one_rule(it, right)).map(|it| it.verb.name()).collect();
        verbs.dedup();
        let group = Some(right.resource.group()).filter(|group| !group.is_empty()).unwrap_or("\"\"");
        let mut rule = format!("- {{apiGroups: [{group}], resources: [{}], ", right.resource.plural());
        if let Some(name) = &right.name {
            let _ = write!(rule, "resourceNames: [{name}], ");
        }
        let _ = write!(rule, "verbs: [{}]}}", verbs.join(", "));
        rules.push(rule);
    }
    rules
}

/// The question whether the asking account has it, a SelfSubjectAccessReview.
pub(super) fn access_review(right: &Right, namespace: &str) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Review<'a> {
        api_version: &'static str,
        kind: &'static str,
        spec: Spec<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec<'a> {
        resource_attributes: Attributes<'a>,
    }
    #[derive(Serialize)]
    struct Attributes<'a> {
        namespace: &'a str,
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
    }
    let resource_attributes = Attributes {
        namespace,
        verb: right.verb.name(),
        group: right.resource.group(),
        resource: right.resource.plural(),
        name: right.name.as_ref().map(Name::as_str),
    };
    json(&Review {
        api_version: "authorization.k8s.io/v1",
        kind: "SelfSubjectAccessReview",
        spec: Spec { resource_attributes },
    })
}

/// The answer to it.
#[derive(Deserialize)]
pub(super) struct Reviewed {
    pub status: ReviewStatus,
}

#[derive(Deserialize)]
pub(super) struct ReviewStatus {
    #[serde(default)]
    pub allowed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_rules_of_a_role() {
        let name = |text: &str| Name::parse(text).unwrap();
        let workload = WorkloadId { kind: WorkloadKind::DaemonSet, name: name("km-agent") };
        let rights = [Right::to_keep([&name("a"), &name("b")]), Right::to_roll_out([&workload])].concat();
        assert_eq!(
            role_rules(&rights),
            [
                r#"- {apiGroups: [""], resources: [configmaps], resourceNames: [a], verbs: [get, patch]}"#,
                r#"- {apiGroups: [""], resources: [configmaps], resourceNames: [b], verbs: [get, patch]}"#,
                r#"- {apiGroups: [""], resources: [events], verbs: [create]}"#,
                r#"- {apiGroups: [apps], resources: [daemonsets], resourceNames: [km-agent], verbs: [get, patch]}"#,
                r#"- {apiGroups: [""], resources: [pods], verbs: [list]}"#,
            ]
        );
        assert_eq!(role_rules(&[]), [] as [String; 0]);
    }
}
