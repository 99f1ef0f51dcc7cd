//! The wire contract with the remote API: what a config check reports and what it may be told, as plain types and pure functions.
//!
//! `answer` reads what comes back; `client` makes the call from its `parts`; `proxy` and `transport` say how it gets there, `explain` what a failure means. Nothing
//! here knows what an answer is good for: comparing, rendering and installing a config is not its business.

pub mod answer;
mod client;

use serde::Serialize;

pub use answer::Answer;
pub use client::{Client, Failure, Options};

/// What the agent tells the API. Every key is always present, and there are no others: the public server may refuse unknown ones.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub agent_status: Status,
    /// `X.Y.Z`
    pub agent_version: String,
    /// As `architecture` gives it.
    pub architecture: String,
    /// A collector that is starting counts as running.
    pub collector_status: Status,
    /// `vX.Y.Z`, as the collector itself says.
    pub collector_version: String,
    pub hostname: String,
    pub is_docker: bool,
    /// The newest unresolved problem; empty when all is well.
    pub last_error_message: String,
    /// As `platform` gives it.
    pub platform: String,
    /// Only with `report-extended`: five keys more, beside the others.
    #[serde(flatten)]
    pub extended: Option<Extended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Status {
    Running,
    Stopped,
}

#[derive(Clone, Debug, Serialize)]
pub struct Extended {
    pub instance_id: String,
    /// Of the config in force; `None` (JSON null) without one.
    pub config_revision: Option<String>,
    pub rejected_revision: Option<String>,
    pub collector_restarts: u64,
    /// The agent's.
    pub uptime_seconds: u64,
}

/// The processor's name in Go, which is what the API knows it by. Names that both languages share pass unchanged.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "mips" if cfg!(target_endian = "little") => "mipsle",
        "mips64" if cfg!(target_endian = "little") => "mips64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// `docker`, or the system's name in Go.
pub fn platform(is_docker: bool) -> &'static str {
    match std::env::consts::OS {
        _ if is_docker => "docker",
        "macos" => "darwin",
        other => other,
    }
}

/// The body of the request.
pub fn encode(report: &Report) -> Vec<u8> {
    serde_json::to_vec(report).expect("strings, numbers and booleans can always be written as JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(extended: Option<Extended>) -> Report {
        Report {
            agent_status: Status::Running,
            agent_version: "2.0.0".to_owned(),
            architecture: "amd64".to_owned(),
            collector_status: Status::Stopped,
            collector_version: "v0.135.0".to_owned(),
            hostname: "web-1".to_owned(),
            is_docker: false,
            last_error_message: "it \"broke\"\n".to_owned(),
            platform: "linux".to_owned(),
            extended,
        }
    }

    #[test]
    fn a_report_has_exactly_the_nine_keys() {
        let expected = r#"{"agent_status":"Running","agent_version":"2.0.0","architecture":"amd64","collector_status":"Stopped","collector_version":"v0.135.0","hostname":"web-1","is_docker":false,"last_error_message":"it \"broke\"\n","platform":"linux"}"#;
        assert_eq!(String::from_utf8(encode(&report(None))).unwrap(), expected);
    }

    #[test]
    fn an_extended_report_has_five_more() {
        let extended = Extended {
            instance_id: "id".to_owned(),
            config_revision: Some("abc".to_owned()),
            rejected_revision: None,
            collector_restarts: 3,
            uptime_seconds: 60,
        };
        let json: serde_json::Value = serde_json::from_slice(&encode(&report(Some(extended)))).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 14);
        for (key, value) in [
            ("instance_id", json!("id")),
            ("config_revision", json!("abc")),
            ("rejected_revision", json!(null)),
            ("collector_restarts", json!(3)),
            ("uptime_seconds", json!(60)),
            ("platform", json!("linux")),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
    }

    #[test]
    fn names_are_those_of_go() {
        assert!(!["x86_64", "x86", "aarch64"].contains(&architecture()));
        assert_eq!((platform(true), platform(false)), ("docker", std::env::consts::OS));
    }
}
