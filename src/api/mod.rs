//! The wire contract with the remote API: what a config check reports and what it may be told, as plain types and pure functions.
//!
//! `client` makes the call from its `parts`; `proxy` and `transport` say how it gets there, `explain` what a failure means. Nothing
//! here knows what an answer is good for: comparing, rendering and installing a config is not its business.

mod client;
mod explain;
mod parts;
mod proxy;
mod transport;

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::value::Value;
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

/// What the API asks for.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Answer {
    #[serde(deserialize_with = "flag")]
    pub restart_required: bool,
    /// `None` when there is nothing new to say. An object whenever there is one, perhaps an empty one.
    #[serde(deserialize_with = "config")]
    pub config: Option<Value>,
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

/// The body of an answer with status 200, or what is wrong with it and where. Unknown keys are ignored; a known key that comes twice,
/// or anything but white space after the object, is an error: it is not clear what such an answer means.
pub fn decode(body: &[u8]) -> Result<Answer, String> {
    // Serde would read a list as the fields in order.
    match body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(body).map_err(|error| excerpt(error.to_string().as_bytes(), EXCERPT)),
        Some(_) => Err(format!("expected a JSON object, but it starts with '{}'", excerpt(body, 20))),
        None => Err("expected a JSON object, but it is empty".to_owned()),
    }
}

/// Most bytes of somebody else's text in a message of ours (design, section 5).
const EXCERPT: usize = 512;

/// At most `limit` bytes of a foreign text, on one line, without anything that a terminal might obey.
fn excerpt(text: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(limit)]);
    let mut line = String::with_capacity(text.len());
    for c in text.trim().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Flag;
    impl Visitor<'_> for Flag {
        type Value = bool;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("restart_required to be true, false or null")
        }
        fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }
        fn visit_unit<E>(self) -> Result<bool, E> {
            Ok(false)
        }
    }
    deserializer.deserialize_any(Flag)
}

fn config<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    struct Config;
    impl<'de> Visitor<'de> for Config {
        type Value = Option<Value>;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("config to be an object or null")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Value>, A::Error> {
            Value::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
        fn visit_unit<E>(self) -> Result<Option<Value>, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Config)
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
    fn answers_are_read() {
        let config: Option<Value> = serde_json::from_str(r#"{"receivers":{"otlp":null}}"#).ok();
        let empty: Option<Value> = serde_json::from_str("{}").ok();
        for (body, restart_required, config) in [
            ("{}", false, None),
            (" \n{ }\r\n\t ", false, None),
            (r#"{"restart_required":true}"#, true, None),
            (r#"{"restart_required":null,"config":null}"#, false, None),
            (r#"{"config":{},"restart_required":true}"#, true, empty),
            (r#"{"config":{"receivers":{"otlp":null}},"more":[1,{"config":2}]}"#, false, config),
            (r#"{"Config":{},"more":1,"more":2}"#, false, None),
        ] {
            assert_eq!(decode(body.as_bytes()), Ok(Answer { restart_required, config }), "{body}");
        }
    }

    #[test]
    fn unreadable_answers_say_what_and_where() {
        for (body, expected) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("[true,{}]", "starts with '[true,{}]'"),
            ("null", "starts with 'null'"),
            ("<html>\n<body>Sign in to the WiFi", "starts with '<html>\\n<body>Sign in'"),
            (r#"{"config":{}} {}"#, "trailing characters at line 1 column 15"),
            (r#"{"config":{}"#, "EOF while parsing an object at line 1 column 12"),
            ("{\"config\":\n[1]}", "invalid type: sequence, expected config to be an object or null at line 2 column"),
            (r#"{"config":"receivers:"}"#, "expected config to be an object or null at line 1 column 22"),
            (r#"{"config":false}"#, "expected config to be an object or null"),
            (
                r#"{"restart_required":"true"}"#,
                "expected restart_required to be true, false or null at line 1 column 26",
            ),
            (r#"{"restart_required":1}"#, "expected restart_required to be true, false or null"),
            (r#"{"config":{},"config":null}"#, "duplicate field `config`"),
            (r#"{"restart_required":true,"restart_required":true}"#, "duplicate field `restart_required`"),
            ("{\"config\":{\"a\":\"\u{1}\"}}", "control character"),
        ] {
            let error = decode(body.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
        assert!(decode(b"{\"config\":\"\xff\"}").is_err());
        assert!(
            decode(&[br#"{"config":""#.as_slice(), &[b'x'; 9999], br#""}"#].concat()).unwrap_err().len() <= EXCERPT
        );
        assert!(decode("[".repeat(100_000).as_bytes()).is_err());
        assert!(decode(format!("{{\"config\":{}", "{\"a\":".repeat(100_000)).as_bytes()).is_err());
    }

    #[test]
    fn names_are_those_of_go() {
        assert!(!["x86_64", "x86", "aarch64"].contains(&architecture()));
        assert_eq!((platform(true), platform(false)), ("docker", std::env::consts::OS));
    }
}
