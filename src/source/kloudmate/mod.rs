//! The vendor's API as a source: a POST of the report, answered with a config and whether to use it.
//!
//! `request` makes the body, `client` the call, `answer` reads what comes back; `cluster` has both for a Kubernetes
//! cluster. Nothing outside of this directory knows the keys of either.

pub mod answer;
mod client;
pub mod cluster;
pub mod request;

use crate::config::value::Value;
use crate::error::Result;
use crate::settings::Settings;
use crate::source::{Failure, Offer, Refusal, Report, Response};
use answer::Answer;
use client::{Client, Options};

pub struct KloudMate {
    client: Client,
}

impl KloudMate {
    /// # Errors
    /// `Exit::Settings` for an endpoint, key, ca-file or proxy variable that cannot be used.
    pub fn new(settings: &Settings, endpoint: &str) -> Result<KloudMate> {
        Ok(KloudMate { client: Client::new(&Options::of(settings, endpoint, 1))? })
    }

    /// # Errors
    /// `Denied` for a refused key, `TryAgain` for what may pass, `BadAnswer` for an answer that is not one of this API.
    pub fn ask(&self, report: &Report) -> std::result::Result<Response, Failure> {
        self.client.post(&request::encode(report)).map(Response::from)
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Response {
        Response { offer: answer.config.map(offer), restart: answer.restart_required }
    }
}

fn offer(value: Value) -> std::result::Result<Offer, Refusal> {
    let revision = value.revision();
    match value.as_object() {
        Some([]) => {
            let problem = "the API sent an empty config, which no collector can run";
            Err(Refusal { revision, problem })
        }
        _ => Ok(Offer { value, revision }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(body: &str) -> Response {
        answer::decode(body.as_bytes(), 100, |_| String::new()).unwrap().into()
    }

    #[test]
    fn an_answer_is_an_offer() {
        let response = response(r#"{"config":{"receivers":{"otlp":null}},"restart_required":true}"#);
        let offer = response.offer.unwrap().unwrap();
        assert!(response.restart);
        assert_eq!(offer.value.canonical(), r#"{"receivers":{"otlp":null}}"#);
        assert_eq!(offer.revision, offer.value.revision());
    }

    #[test]
    fn an_empty_answer_offers_nothing_and_an_empty_config_is_refused() {
        assert_eq!(response("{}"), Response::default());
        let response = response(r#"{"config":{}}"#);
        assert!(response.offer.unwrap().unwrap_err().problem.contains("empty config"));
    }
}
