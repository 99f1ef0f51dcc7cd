//! The vendor's API for a Kubernetes cluster: ten keys out, two configs in.
//!
//! With `report-extended` there are more keys, since the ten have none for an error. The answer's `k8s` is about
//! instrumentation, which is not part of this program: it is ignored.

use std::fmt;

use serde::Serialize;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

use super::answer::{Config, Flag, MAX_CONFIG_DEPTH, read_object};
use super::client::{Client, Options};
use super::offer;
use super::request::{Status, architecture};
use crate::config::value::{ReadBudget, Value};
use crate::error::Result;
use crate::log::Masked;
use crate::settings::Settings;
use crate::settings::cluster::Workload;
use crate::source::{Failure, Offer, Refusal};

/// What the updater knows of its cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterReport<'a> {
    pub cluster_name: &'a str,
    /// Of the pods that have said so; empty if none has.
    pub collector_version: String,
    /// False while a config that is offered is rejected or halted.
    pub is_running: bool,
    pub logs_enabled: bool,
    /// Empty means all.
    pub namespaces: &'a [String],
    /// `None` unless the extended report is asked for.
    pub extended: Option<Extended>,
}

/// What the ten keys have no place for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Extended {
    /// Empty when all is well.
    pub last_error_message: Masked,
    pub daemonset_revision: Option<String>,
    pub daemonset_rejected_revision: Option<String>,
    pub deployment_revision: Option<String>,
    pub deployment_rejected_revision: Option<String>,
}

/// Every key is always present, and there are no others but the extended ones.
#[derive(Serialize)]
struct Body<'a> {
    agent_version: &'static str,
    /// Instrumentation is not part of this program.
    apm_enabled: bool,
    architecture: &'static str,
    collector_status: Status,
    collector_version: &'a str,
    /// The cluster's name.
    hostname: &'a str,
    /// Of the detection of languages, which belongs to instrumentation.
    k8s_deployments: [(); 0],
    logs_enabled: bool,
    namespaces: Option<&'a [String]>,
    platform: &'static str,
    #[serde(flatten)]
    extended: Option<&'a Extended>,
}

pub fn encode(report: &ClusterReport) -> Vec<u8> {
    let body = Body {
        agent_version: env!("CARGO_PKG_VERSION"),
        apm_enabled: false,
        architecture: architecture(),
        collector_status: Status::of(report.is_running),
        collector_version: &report.collector_version,
        hostname: report.cluster_name,
        k8s_deployments: [],
        logs_enabled: report.logs_enabled,
        namespaces: Some(report.namespaces).filter(|names| !names.is_empty()),
        platform: "k8s",
        extended: report.extended.as_ref(),
    };
    serde_json::to_vec(&body).expect("strings, numbers and booleans can always be written as JSON")
}

/// What the API asks for. Of each workload, `None` when there is nothing new to say.
#[derive(Debug, Default, PartialEq)]
pub struct ClusterResponse {
    /// The configs are to be used now; without one that is new, the collectors are to be restarted.
    pub restart: bool,
    pub daemonset: Option<std::result::Result<Offer, Refusal>>,
    pub deployment: Option<std::result::Result<Offer, Refusal>>,
}

impl ClusterResponse {
    pub fn take(&mut self, workload: Workload) -> Option<std::result::Result<Offer, Refusal>> {
        match workload {
            Workload::DaemonSet => self.daemonset.take(),
            Workload::Deployment => self.deployment.take(),
        }
    }
}

/// As `answer::decode`.
pub fn decode(
    body: &[u8],
    most_values: usize,
    beginning: impl Fn(&[u8]) -> String,
) -> std::result::Result<ClusterResponse, String> {
    let allowance = ReadBudget::new(most_values);
    // They are one level deeper than a host's.
    read_object(body, Wanted(&allowance), &allowance, MAX_CONFIG_DEPTH - 1, beginning)
}

struct Wanted<'a>(&'a ReadBudget);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = ClusterResponse;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<ClusterResponse, A::Error> {
        let (mut restart, mut configs) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "restart_required" if restart.is_some() => return Err(Error::duplicate_field("restart_required")),
                "restart_required" => restart = Some(map.next_value_seed(Flag)?),
                "config" if configs.is_some() => return Err(Error::duplicate_field("config")),
                "config" => configs = Some(map.next_value_seed(Configs(self.0))?),
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        let Pair { daemonset, deployment } = configs.unwrap_or_default();
        Ok(ClusterResponse {
            restart: restart.unwrap_or_default(),
            daemonset: daemonset.map(offer),
            deployment: deployment.map(offer),
        })
    }
}

#[derive(Default)]
struct Pair {
    daemonset: Option<Value>,
    deployment: Option<Value>,
}

struct Configs<'a>(&'a ReadBudget);

impl<'de> serde::de::DeserializeSeed<'de> for Configs<'_> {
    type Value = Pair;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Pair, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Configs<'_> {
    type Value = Pair;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("config to be an object with daemonset_config and deployment_config, or null")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pair, A::Error> {
        let (mut daemonset, mut deployment) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let (field, name) = match key.as_str() {
                "daemonset_config" => (&mut daemonset, "daemonset_config"),
                "deployment_config" => (&mut deployment, "deployment_config"),
                _ => {
                    _ = map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if field.replace(map.next_value_seed(Config(self.0))?).is_some() {
                return Err(Error::duplicate_field(name));
            }
        }
        Ok(Pair { daemonset: daemonset.flatten(), deployment: deployment.flatten() })
    }

    fn visit_unit<E>(self) -> std::result::Result<Pair, E> {
        Ok(Pair::default())
    }

    fn visit_str<E: Error>(self, _: &str) -> std::result::Result<Pair, E> {
        Err(super::answer::not_a_string(&self))
    }
}

/// The API as the updater asks it.
pub struct ClusterApi {
    client: Client,
}

impl ClusterApi {
    /// # Errors
    /// `Exit::Settings` for an endpoint, key, ca-file or proxy variable that cannot be used.
    pub fn new(settings: &Settings, endpoint: &str) -> Result<ClusterApi> {
        Ok(ClusterApi { client: Client::new(&Options::of(settings, endpoint, 2))? })
    }

    /// # Errors
    /// `Denied` for a refused key, `TryAgain` for what may pass, `BadAnswer` for an answer that is not one of this API.
    pub fn ask(&self, report: &ClusterReport) -> std::result::Result<ClusterResponse, Failure> {
        self.client.post_for(&encode(report), |body, most_values, beginning| decode(body, most_values, beginning))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &str) -> std::result::Result<ClusterResponse, String> {
        decode(body.as_bytes(), 100, |_| String::new())
    }

    /// As the original sends it (DESIGN.md, "The API").
    #[test]
    fn a_report_has_ten_keys() {
        let namespaces = ["shop".to_string(), "bank".to_string()];
        let mut report = ClusterReport {
            cluster_name: "prod-1",
            collector_version: "v0.160.0".to_string(),
            is_running: true,
            logs_enabled: true,
            namespaces: &namespaces,
            extended: None,
        };
        let body = |report: &ClusterReport| serde_json::from_slice::<serde_json::Value>(&encode(report)).unwrap();
        let expected = json!({
            "agent_version": env!("CARGO_PKG_VERSION"), "apm_enabled": false, "architecture": architecture(),
            "collector_status": "Running", "collector_version": "v0.160.0", "hostname": "prod-1",
            "k8s_deployments": [], "logs_enabled": true, "namespaces": ["shop", "bank"], "platform": "k8s",
        });
        assert_eq!(body(&report), expected);
        (report.namespaces, report.is_running) = (&[], false);
        assert_eq!(body(&report)["namespaces"], json!(null));
        assert_eq!(body(&report)["collector_status"], "Stopped");
        report.extended = Some(Extended { daemonset_revision: Some("ab".into()), ..Extended::default() });
        let extended = body(&report);
        assert_eq!(extended.as_object().unwrap().len(), 15);
        assert_eq!((&extended["daemonset_revision"], &extended["last_error_message"]), (&json!("ab"), &json!("")));
    }

    #[test]
    fn each_config_is_an_offer_of_its_own() {
        let both = r#"{"restart_required":true,"config":{"daemonset_config":{"a":1},"deployment_config":{}},"k8s":{"apm_enabled":true}}"#;
        let response = read(both).unwrap();
        assert!(response.restart);
        assert_eq!(response.daemonset.unwrap().unwrap().value.canonical(), r#"{"a":1}"#);
        assert!(response.deployment.unwrap().unwrap_err().problem.contains("empty config"));
        let one = read(r#"{"config":{"deployment_config":{"b":2},"daemonset_config":null,"more":[1]}}"#).unwrap();
        assert!(one.daemonset.is_none() && one.deployment.is_some() && !one.restart);
        for nothing in ["{}", r#"{"config":null}"#, r#"{"config":{}}"#, r#"{"k8s":{"apm_settings":[]}}"#] {
            assert_eq!(read(nothing).unwrap(), ClusterResponse::default(), "{nothing}");
        }
    }

    #[test]
    fn an_unreadable_answer_says_where_and_repeats_no_value() {
        for (body, expected) in [
            ("[]", "expected a JSON object"),
            (r#"{"config":"SECRET"}"#, "expected config to be an object with daemonset_config"),
            (r#"{"config":{"daemonset_config":"SECRET"}}"#, "expected config to be an object or null"),
            (r#"{"config":{"daemonset_config":{"a":"SECRET"},"daemonset_config":null}}"#, "duplicate field"),
            (r#"{"config":{},"config":{}}"#, "duplicate field `config`"),
            (r#"{"restart_required":"SECRET"}"#, "expected restart_required to be true, false or null"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.contains(expected) && !error.contains("SECRET"), "{body}: {error}");
        }
    }

    /// The relay gives it to pods, whose limit is one level more.
    #[test]
    fn a_config_may_be_125_levels_deep() {
        let answer = |depth: usize| {
            let config = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            decode(format!("{{\"config\":{{\"daemonset_config\":{config}}}}}").as_bytes(), 1000, |_| String::new())
        };
        assert!(answer(125).unwrap().daemonset.is_some());
        assert_eq!(answer(126).unwrap_err(), "its config is nested deeper than 125 levels; send one that is flatter");
    }
}
