//! Where configs come from: one enum, which is asked with a report and answers with an offer.
//!
//! What a source's wire looks like, its own directory alone knows; the rest of the agent knows reports, offers and
//! failures. The HTTP sources, and the client of the Kubernetes API, share `body`, `client_options`, `proxy`,
//! `transport` and `failure`. Nothing here knows what an offer is good for: comparing, rendering and installing a
//! config is not its business.

pub mod body;
pub mod client_options;
pub mod failure;
pub mod kloudmate;
pub mod proxy;
pub mod report;
pub mod transport;

use std::time::Duration;

use crate::config::value::{Revision, Value};
use crate::error::{Error, Result};
use crate::settings::{Polling, Settings};
pub use failure::Failure;
use kloudmate::KloudMate;
pub use report::Report;

pub enum Source {
    /// The vendor's API.
    KloudMate(Box<KloudMate>),
    /// There is none to ask.
    Nobody { reason: String },
    /// What it takes cannot be used at present, such as a ca-file that is missing: each question tries anew.
    Unready(Box<Settings>),
}

/// What a source answers. Empty: there is nothing new.
#[derive(Debug, Default, PartialEq)]
pub struct Response {
    /// The config that the source wants to be active.
    pub offer: Option<std::result::Result<Offer, Refusal>>,
    /// The source wants the collector to be restarted; with another config than the active one, that it is used now.
    pub restart: bool,
}

#[derive(Debug, PartialEq)]
pub struct Offer {
    pub value: Value,
    pub revision: Revision,
}

/// An offer that no collector can run.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    pub revision: Revision,
    /// Why, in a sentence.
    pub problem: &'static str,
}

impl Source {
    /// The one that the settings name. Touches the network only when it is asked.
    ///
    /// # Errors
    /// `Exit::Settings` for an endpoint, key, ca-file or proxy variable that cannot be used.
    pub fn new(settings: &Settings) -> Result<Source> {
        Ok(match &settings.polling {
            Polling::Endpoint(url) => Source::KloudMate(Box::new(KloudMate::new(settings, url)?)),
            Polling::Local { reason } => Source::Nobody { reason: reason.clone() },
        })
    }

    /// How often to ask; `None` is never.
    pub fn interval(&self, settings: &Settings) -> Option<Duration> {
        match self {
            Source::KloudMate(_) | Source::Unready(_) => settings.config_check_interval,
            Source::Nobody { .. } => None,
        }
    }

    /// Reports, and takes the answer. Of nobody that is an empty one, at once.
    ///
    /// # Errors
    /// There is no answer, or none that can be read.
    pub fn ask(&mut self, report: &Report) -> std::result::Result<Response, Failure> {
        match self {
            Source::KloudMate(kloudmate) => kloudmate.ask(report),
            Source::Nobody { .. } => Ok(Response::default()),
            Source::Unready(settings) => {
                *self = Source::new(settings).map_err(|error| {
                    let error = Error::because(error.exit(), "the API cannot be asked", error);
                    Failure { error, answer: None, retry_after: None }
                })?;
                self.ask(report)
            }
        }
    }
}
