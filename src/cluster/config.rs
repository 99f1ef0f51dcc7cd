//! A collector config as the updater holds it: what the pods are sent, and what their ConfigMap has.

use std::sync::Arc;

use crate::config::inspect::secrets;
use crate::config::value::{Revision, Value};
use crate::config::yaml;
use crate::error::{Error, Exit, Result};
use crate::log::redact::Secrets;

#[derive(Debug)]
pub struct GroupConfig {
    pub revision: Revision,
    /// Canonical, for the pods, many of which may read it at once.
    pub json: Arc<str>,
    /// For the ConfigMap.
    pub yaml: String,
    /// What is not to be shown of it.
    pub secrets: Arc<Secrets>,
}

impl GroupConfig {
    /// Of what the API offers. The YAML is proved by reading it back.
    ///
    /// # Errors
    /// It cannot be written as YAML, or not within `most` bytes.
    pub fn offered(value: &Value, revision: Revision, most: u64) -> Result<GroupConfig> {
        let yaml = yaml::render_proven(value, most)
            .map_err(|error| Error::because(Exit::ConfigRefused, "the config cannot be written as YAML", error))?;
        Ok(GroupConfig { revision, json: value.canonical().into(), yaml, secrets: secrets_of(value) })
    }

    /// Of a ConfigMap. The text stays as it is.
    ///
    /// # Errors
    /// It is not YAML, or no config.
    pub fn kept(text: &str) -> Result<GroupConfig> {
        let unusable = |cause: String| Error::because(Exit::ConfigRefused, "its config cannot be read", cause);
        let value = yaml::parse(text.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        if value.as_object().is_none_or(<[_]>::is_empty) {
            return Err(unusable("it is no mapping, or an empty one".to_string()));
        }
        let (json, secrets) = (value.canonical(), secrets_of(&value));
        // An infinity or .nan, which YAML has.
        if serde_json::from_str::<serde::de::IgnoredAny>(&json).is_err() {
            return Err(unusable("it has a number that no pod can be sent".to_string()));
        }
        Ok(GroupConfig { revision: value.revision(), json: json.into(), yaml: text.to_string(), secrets })
    }
}

/// The variables that it refers to are the pods', so their values are not known here.
fn secrets_of(value: &Value) -> Arc<Secrets> {
    Arc::new(Secrets::new(secrets(value, &|_| None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_the_same_from_the_api_and_from_its_config_map() {
        let value: Value = serde_json::from_str(r#"{"receivers":{"otlp":null},"n":1048576,"s":"a: b"}"#).unwrap();
        let offered = GroupConfig::offered(&value, value.revision(), 1000).unwrap();
        let kept = GroupConfig::kept(&offered.yaml).unwrap();
        assert_eq!((&kept.revision, &kept.json), (&offered.revision, &offered.json));
        assert!(GroupConfig::offered(&value, value.revision(), 10).unwrap_err().to_string().contains("longer than 10"));
    }

    #[test]
    fn what_is_no_config_is_not_taken_from_a_config_map() {
        for text in ["", "- a", "{}", "a: [", "text", "a: .inf", "a: [.nan]"] {
            assert!(GroupConfig::kept(text).is_err(), "{text}");
        }
    }

    #[test]
    fn its_secrets_are_known() {
        let kept = GroupConfig::kept("exporters: {otlp: {headers: {authorization: hush-hush}}}").unwrap();
        assert_eq!(*kept.secrets, Secrets::new(["hush-hush".to_string()]));
    }
}
