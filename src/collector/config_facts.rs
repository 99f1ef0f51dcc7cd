//! What has to be known of a collector's configs while it runs: where its health check answers, which secrets it has,
//! what may be told of its errors, whether another may run beside it.
//!
//! To find that out of a config of megabytes takes seconds, in which its collector would wait for its output to be read
//! and for bind(2). So it is found out before, and the configs themselves are not kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Collector;
use super::disclosure::{Said, in_part};
use super::handover::addresses::{self, Named};
use super::handover::eligible::{self, Obstacle};
use crate::config::inspect::{self, HealthCheck};
use crate::config::merge::merge;
use crate::config::value::{Revision, Value};
use crate::log::Masked;
use crate::log::redact::Secrets;

/// Of the keys that are kept to name the place of an error: a config of 100 KiB has a third of that.
const MAX_KEY_BYTES: usize = 32 * 1024;

#[derive(Debug)]
pub struct ConfigFacts {
    /// Of the config without the overlay; `None` of one that cannot be read.
    pub revision: Option<Revision>,
    pub secrets: Arc<Secrets>,
    pub health_check: Option<HealthCheck>,
    /// Whether its collector may run beside another one; an error, too, if one of the configs cannot be read.
    pub may_share: Result<(), Obstacle>,
    named_twice: Vec<Named>,
    /// Why errors are not told as they are, and the keys that may be.
    withheld: Option<(String, Value)>,
}

impl ConfigFacts {
    /// Of the active config and of what is laid over it, or why they cannot be read: the collector itself says what is
    /// wrong with them. Two collectors run for `longest_overlap` at most.
    pub fn new(
        collector: &Collector,
        config: Result<&Value, String>,
        overlay: Result<Option<&Value>, String>,
        longest_overlap: Duration,
    ) -> ConfigFacts {
        let known = || config.clone().ok().into_iter().chain(overlay.clone().ok().flatten());
        let configs: Vec<&Value> = known().collect();
        let unreadable = config.as_ref().err().or(overlay.as_ref().err());
        let withheld = collector.why_withheld(Said::Running, &configs);
        ConfigFacts {
            revision: config.clone().ok().map(Value::revision),
            secrets: Arc::new(collector.secrets(known())),
            health_check: inspect::health_check(&configs, &|name| collector.env(name)),
            may_share: match unreadable {
                Some(error) => Err(Obstacle::Impossible(error.clone())),
                None => eligible::may_share(&configs, longest_overlap),
            },
            named_twice: addresses::named_twice(&configs),
            withheld: withheld.map(|because| (because, inspect::keys(&merge(&configs), MAX_KEY_BYTES))),
        }
    }

    /// What may be told to the source and to clients of the last lines of a collector with these configs.
    pub fn told_outside(&self, tail: &Masked) -> Masked {
        match &self.withheld {
            None => tail.clone(),
            Some((because, keys)) => in_part(tail, because, keys),
        }
    }

    /// Whether two of its components want this address, as far as the configs spell it out.
    pub fn names_twice(&self, at: SocketAddr, is_stream: bool) -> bool {
        addresses::is_named_twice(&self.named_twice, at, is_stream)
    }
}
