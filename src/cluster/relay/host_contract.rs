//! What pods say when they ask for their config, and what they are told: the server's side of the API that hosts ask
//! (DESIGN.md, "The API"), with the extended report. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::http::Body;
use crate::cluster::config::GroupConfig;
use crate::config::value::Revision;
use crate::core::canary::{ConfigState, PodId, PodReport};

/// Bytes of a pod's name: that of a Kubernetes object.
const MAX_NAME: usize = 253;
/// Bytes of a problem, as an agent cuts it.
const MAX_PROBLEM: usize = 4096;
/// Bytes of a collector's version: longer than any, and what goes on in the updater's report.
const MAX_VERSION: usize = 64;

/// What a pod says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodQuestion {
    pub pod: PodId,
    pub report: PodReport<Revision>,
    /// Empty if it does not say.
    pub collector_version: String,
}

/// The keys that matter here: others are ignored, and one that is missing says nothing.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Report {
    hostname: String,
    collector_version: String,
    instance_id: Option<String>,
    collector_status: String,
    last_error_message: String,
    config_revision: Option<Revision>,
    rejected_revision: Option<Revision>,
    config_state: Option<String>,
    uptime_seconds: Option<u64>,
}

/// # Errors
/// What is wrong with the body, in a sentence without any of its values.
pub fn decode(body: &[u8]) -> Result<PodQuestion, String> {
    let body: Report = serde_json::from_slice(body).map_err(|error| match error.classify() {
        // Serde shows the value; where it is does.
        serde_json::error::Category::Data => {
            format!("a key has another type at line {} column {}", error.line(), error.column())
        }
        _ => error.to_string(),
    })?;
    let name = body.instance_id.unwrap_or(body.hostname);
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_of_name) {
        return Err("neither instance_id nor hostname names the pod".into());
    }
    let state = body.config_state.and_then(|state| {
        Some(match state.as_str() {
            "none" => ConfigState::None,
            "pending" => ConfigState::Pending,
            "validating" => ConfigState::Validating,
            "held" => ConfigState::Held,
            "probation" => ConfigState::Probation,
            "unconfirmed" => ConfigState::Unconfirmed,
            "confirmed" => ConfigState::Confirmed,
            _ => return None,
        })
    });
    let mut problem = body.last_error_message;
    problem.truncate(problem.floor_char_boundary(MAX_PROBLEM));
    let report = PodReport {
        active: body.config_revision,
        rejected: body.rejected_revision,
        problem: Some(problem).filter(|problem| !problem.is_empty()),
        state,
        is_running: body.collector_status == "Running",
        uptime: body.uptime_seconds.map(|seconds| Duration::from_secs(seconds.min(u32::MAX.into()))),
    };
    Ok(PodQuestion { pod: PodId(name), report, collector_version: version(body.collector_version) })
}

/// Empty if it is none.
fn version(text: String) -> String {
    let is_of_version = |byte: u8| byte.is_ascii_alphanumeric() || b".+_-".contains(&byte);
    if text.len() <= MAX_VERSION && text.bytes().all(is_of_version) { text } else { String::new() }
}

/// The body of an answer.
pub fn encode(config: Option<&GroupConfig>, restart_required: bool) -> Body {
    Body {
        before: format!("{{\"restart_required\":{restart_required},\"config\":"),
        shared: Some(config.map_or_else(|| "null".into(), |config| config.json.clone())),
        after: "}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value;
    use crate::core::problems::TimedProblem;
    use crate::source::Report;
    use crate::source::kloudmate::{answer, request};
    use crate::source::report::ConfigState as Said;

    const TIME: &str = "2026-11-22T14:04:37.000Z: ";

    #[test]
    fn a_report_is_read_as_an_agent_writes_it() {
        let (active, rejected) = (Value::Null.revision(), Value::Bool(true).revision());
        let problem = TimedProblem { problem: "it \"broke\"\n".into(), at: 1_795_356_277 };
        let report = Report {
            host_name: "node-1".into(),
            is_docker: false,
            uptime: Duration::from_secs(60),
            instance_id: Some("0b1f6d4c-2ab9-4f7a-8e3d-5c6b7a980f1e".into()),
            is_collector_running: true,
            collector_version: "v0.135.0".into(),
            collector_restarts: 3,
            problem: Some(&problem),
            active: Some(active.clone()),
            rejected: Some(&rejected),
            config_state: Said::Probation,
        };
        let question = decode(&request::encode(&report)).unwrap();
        assert_eq!(question.pod, PodId("0b1f6d4c-2ab9-4f7a-8e3d-5c6b7a980f1e".into()));
        assert_eq!(question.collector_version, "v0.135.0");
        let expected = PodReport {
            active: Some(active),
            rejected: Some(rejected.clone()),
            problem: Some(format!("{TIME}it \"broke\"\n")),
            state: Some(ConfigState::Probation),
            is_running: true,
            uptime: Some(Duration::from_secs(60)),
        };
        assert_eq!(question.report, expected);

        // Without the extension, and with nothing to tell.
        let report = Report { instance_id: None, problem: None, is_collector_running: false, ..report };
        let question = decode(&request::encode(&report)).unwrap();
        assert_eq!(question.pod, PodId("node-1".into()));
        let silent =
            PodReport { active: None, rejected: None, problem: None, state: None, is_running: false, uptime: None };
        assert_eq!(question.report, silent);
    }

    #[test]
    fn states_are_words_and_an_unknown_one_says_nothing() {
        use ConfigState::*;
        for (word, state) in [
            ("none", Some(None)),
            ("pending", Some(Pending)),
            ("validating", Some(Validating)),
            ("held", Some(Held)),
            ("probation", Some(Probation)),
            ("unconfirmed", Some(Unconfirmed)),
            ("confirmed", Some(Confirmed)),
            ("Confirmed", Option::None),
            ("adored", Option::None),
        ] {
            let body = format!(r#"{{"instance_id":"a","config_state":"{word}","more":[1,{{}}]}}"#);
            assert_eq!(decode(body.as_bytes()).unwrap().report.state, state, "{word}");
        }
        assert_eq!(decode(br#"{"hostname":"a","config_state":null}"#).unwrap().report.state, Option::None);
    }

    #[test]
    fn what_no_agent_says_is_refused_and_never_repeated() {
        for (body, expected) in [
            ("", "EOF"),
            ("SECRET", "expected value"),
            ("[]", "names the pod"),
            ("{}", "names the pod"),
            (r#"{"instance_id":""}"#, "names the pod"),
            (r#"{"instance_id":"a SECRET"}"#, "names the pod"),
            ("{\"hostname\":\"a\\nSECRET\"}", "names the pod"),
            (r#"{"instance_id":1}"#, "another type at line 1"),
            (r#"{"instance_id":"a","config_revision":"SECRET"}"#, "another type"),
            (r#"{"instance_id":"a","collector_status":["SECRET"]}"#, "another type"),
            (r#"{"instance_id":"a","instance_id":"SECRET"}"#, "another type"),
            (r#"{"instance_id":"a"} SECRET"#, "trailing"),
        ] {
            let error = decode(body.as_bytes()).unwrap_err();
            assert!(error.contains(expected) && !error.contains("SECRET"), "{body}: {error}");
        }
        let long = |length: usize| format!(r#"{{"instance_id":"{}"}}"#, "a".repeat(length));
        assert!(decode(long(MAX_NAME).as_bytes()).is_ok() && decode(long(MAX_NAME + 1).as_bytes()).is_err());
        assert!(decode("[".repeat(60_000).as_bytes()).is_err());
        let problem = format!(r#"{{"instance_id":"a","last_error_message":"{}"}}"#, "é".repeat(4000));
        assert_eq!(decode(problem.as_bytes()).unwrap().report.problem.unwrap().len(), MAX_PROBLEM);
    }

    #[test]
    fn an_uptime_is_bounded() {
        let uptime = |text: &str| {
            let body = format!(r#"{{"instance_id":"a","uptime_seconds":{text}}}"#);
            decode(body.as_bytes()).map(|question| question.report.uptime)
        };
        let most = Some(Duration::from_secs(u32::MAX.into()));
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("null", None),
            ("4294967295", most),
            ("4294967296", most),
            ("18446744073709551615", most),
        ] {
            assert_eq!(uptime(text), Ok(expected), "{text}");
        }
        for text in ["-1", "18446744073709551616", "1.5", "\"1\""] {
            assert!(uptime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_version_is_left_out() {
        for (said, expected) in [
            ("0.135.0", "0.135.0"),
            ("v0.135.0-rc.1+build_7", "v0.135.0-rc.1+build_7"),
            ("", ""),
            ("0.135.0 SECRET", ""),
            ("é", ""),
            (&"1".repeat(MAX_VERSION), &"1".repeat(MAX_VERSION)),
            (&"1".repeat(MAX_VERSION + 1), ""),
        ] {
            let body = format!(r#"{{"instance_id":"a","collector_version":"{said}"}}"#);
            assert_eq!(decode(body.as_bytes()).unwrap().collector_version, expected, "{said}");
        }
    }

    #[test]
    fn an_answer_is_read_by_an_agent_as_it_is_meant() {
        let config = r#"{"receivers":{"otlp":null},"a":[1,-2,1.5,1e300,18446744073709551616,"é\"\\\n\u0001",true,{}]}"#;
        let value: Value = serde_json::from_str(config).unwrap();
        let config = GroupConfig::offered(&value, value.revision(), 1000).unwrap();
        for (config, restart) in [(Some(&config), true), (None, false), (None, true)] {
            let body = encode(config, restart).parts().concat();
            let answer = answer::decode(&body, 1000, |_| String::new()).unwrap();
            assert_eq!(answer.restart_required, restart);
            assert_eq!(answer.config.map(|config| config.revision()), config.map(|config| config.revision.clone()));
        }
    }
}
