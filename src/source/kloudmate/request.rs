//! The body of the request to the vendor's API: nine keys, with `report-extended` six more. Pure.

use serde::Serialize;

use crate::log::Masked;
use crate::source::Report;
use crate::source::report::{self, ConfigState};

/// Every key is always present, and there are no others: the public server may refuse unknown ones.
#[derive(Serialize)]
struct Body<'a> {
    agent_status: Status,
    /// `X.Y.Z`
    agent_version: &'static str,
    architecture: &'static str,
    collector_status: Status,
    collector_version: &'a str,
    hostname: &'a str,
    is_docker: bool,
    /// Empty when all is well.
    last_error_message: Masked,
    platform: &'static str,
    #[serde(flatten)]
    extended: Option<Extended<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Status {
    Running,
    Stopped,
}

impl Status {
    pub(super) fn of(is_running: bool) -> Status {
        if is_running { Status::Running } else { Status::Stopped }
    }
}

#[derive(Serialize)]
struct Extended<'a> {
    instance_id: &'a str,
    config_revision: Option<String>,
    rejected_revision: Option<String>,
    config_state: ConfigState,
    collector_restarts: u64,
    uptime_seconds: u64,
}

pub fn encode(report: &Report) -> Vec<u8> {
    let body = Body {
        agent_status: Status::Running,
        agent_version: env!("CARGO_PKG_VERSION"),
        architecture: architecture(),
        collector_status: Status::of(report.is_collector_running),
        collector_version: &report.collector_version,
        hostname: &report.host_name,
        is_docker: report.is_docker,
        last_error_message: report.problem.map(report::message).unwrap_or_default(),
        platform: platform(report.is_docker),
        extended: report.instance_id.as_deref().map(|instance_id| Extended {
            instance_id,
            config_revision: report.active.as_ref().map(ToString::to_string),
            rejected_revision: report.rejected.map(ToString::to_string),
            config_state: report.config_state,
            collector_restarts: report.collector_restarts,
            uptime_seconds: report.uptime.as_secs(),
        }),
    };
    serde_json::to_vec(&body).expect("strings, numbers and booleans can always be written as JSON")
}

/// The processor's name in Go, which is what the API knows it by. Names that both languages share pass unchanged.
pub(super) fn architecture() -> &'static str {
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
fn platform(is_docker: bool) -> &'static str {
    match std::env::consts::OS {
        _ if is_docker => "docker",
        "macos" => "darwin",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::value::Value;
    use crate::core::problems::TimedProblem;

    fn report(problem: &TimedProblem<Masked>) -> Report<'_> {
        Report {
            host_name: "web-1".to_owned(),
            is_docker: false,
            uptime: Duration::from_secs(60),
            instance_id: None,
            is_collector_running: false,
            collector_version: "v0.135.0".to_owned(),
            collector_restarts: 3,
            problem: Some(problem),
            active: Some(Value::Null.revision()),
            rejected: None,
            config_state: ConfigState::Unconfirmed,
        }
    }

    fn problem() -> TimedProblem<Masked> {
        TimedProblem { problem: "it \"broke\"\n".into(), at: 1_795_356_277 }
    }

    #[test]
    fn a_body_has_exactly_the_nine_keys() {
        let expected = r#"{"agent_status":"Running","agent_version":"VERSION","architecture":"ARCHITECTURE","collector_status":"Stopped","collector_version":"v0.135.0","hostname":"web-1","is_docker":false,"last_error_message":"2026-11-22T14:04:37.000Z: it \"broke\"\n","platform":"PLATFORM"}"#;
        let expected = expected
            .replace("VERSION", env!("CARGO_PKG_VERSION"))
            .replace("ARCHITECTURE", architecture())
            .replace("PLATFORM", std::env::consts::OS);
        assert_eq!(String::from_utf8(encode(&report(&problem()))).unwrap(), expected);
    }

    #[test]
    fn an_extended_one_has_six_more() {
        let problem = problem();
        let report = Report { instance_id: Some("id".to_owned()), ..report(&problem) };
        let json: serde_json::Value = serde_json::from_slice(&encode(&report)).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 15);
        for (key, value) in [
            ("instance_id", json!("id")),
            ("config_revision", json!(Value::Null.revision().to_string())),
            ("rejected_revision", json!(null)),
            ("config_state", json!("unconfirmed")),
            ("collector_restarts", json!(3)),
            ("uptime_seconds", json!(60)),
            ("hostname", json!("web-1")),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
    }

    #[test]
    fn a_collector_is_running_or_stopped_and_no_problem_is_an_empty_one() {
        let problem = problem();
        let report = Report { is_collector_running: true, problem: None, ..report(&problem) };
        let json: serde_json::Value = serde_json::from_slice(&encode(&report)).unwrap();
        assert_eq!((&json["collector_status"], &json["last_error_message"]), (&json!("Running"), &json!("")));
    }

    #[test]
    fn names_are_those_of_go() {
        assert!(!["x86_64", "x86", "aarch64"].contains(&architecture()));
        assert_eq!((platform(true), platform(false)), ("docker", std::env::consts::OS));
    }
}
