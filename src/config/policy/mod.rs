//! What a config that comes over the network may do on this host: the policy as a value, and its judgement.
//!
//! ```text
//!   file        a policy file's rules
//!   judge       the walk over an offered config: which place violates which rule
//!   components  what is known of the collector's components: what they run, write, listen on, send to
//!   address     hosts and paths in a config's texts
//!   references  ${…} in a config's texts: which providers it asks
//!   pattern     * in a rule
//! ```
//! Local, never remote: nothing here reads a file or knows where a config comes from. The caller judges only what a
//! source newly offers. Where a rule covers a place, what cannot be judged is refused.

mod address;
mod components;
mod file;
mod judge;
mod pattern;
mod references;

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use crate::config::value::Value;
use file::Rules;

/// Violations that are kept and shown; a config with more is as bad as one with these.
const MAX_SHOWN: usize = 8;

/// Bytes of a place that are shown: four times the longest one of a config that people write.
const MAX_PLACE: usize = 400;

/// The rule of a policy that cannot be read.
const UNREADABLE: &str = "policy";

/// What configs from a source are held to.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Another policy, and another version of the default one, has another.
    identity: String,
    hold: Hold,
}

#[derive(Clone, Debug)]
enum Hold {
    /// The source is trusted.
    Nothing,
    Rules(Arc<Rules>),
    /// There are rules that nobody can read.
    Everything,
}

impl Policy {
    /// Nothing is judged.
    pub fn none() -> Policy {
        Policy { identity: "none".to_string(), hold: Hold::Nothing }
    }

    /// Whatever is offered is refused, since which rules hold is not known.
    pub fn refusing() -> Policy {
        Policy { identity: "unknown".to_string(), hold: Hold::Everything }
    }

    /// The rules of a policy file, in addition to those of the default policy, which an empty file stands for.
    ///
    /// # Errors
    /// What is wrong with the first rule that is not one.
    pub fn parse(file: &Value) -> Result<Policy, String> {
        let rules = Rules::parse(file)?;
        // The default rules are those of this version.
        let version = Value::String(env!("CARGO_PKG_VERSION").to_string());
        let identity = Value::Array(vec![version, file.clone()]).revision().short().to_string();
        Ok(Policy { identity, hold: Hold::Rules(Arc::new(rules)) })
    }

    /// The same, where the collector finds this as `KM_COLLECTOR_ENDPOINT`: with it, a host can be judged.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: &str) -> Policy {
        if let Hold::Rules(rules) = &mut self.hold
            && rules.exporter_hosts.is_some()
        {
            let both = vec![Value::String(self.identity), Value::String(endpoint.to_string())];
            self.identity = Value::Array(both).revision().short().to_string();
            Arc::make_mut(rules).endpoint = Some(endpoint.to_string());
        }
        self
    }

    pub fn is_refusing(&self) -> bool {
        matches!(self.hold, Hold::Everything)
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What `offered` violates with `overlay` over it, whose places are the site's own. What the confirmed config has
    /// at the same place with the same value is allowed.
    pub fn judge(&self, offered: &Value, overlay: Option<&Value>, confirmed: Option<&Value>) -> Violations {
        match &self.hold {
            Hold::Nothing => Violations::default(),
            Hold::Rules(rules) => judge::judge(rules, offered, overlay, confirmed),
            Hold::Everything => Violations::of_unknown_rules(),
        }
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::parse(&Value::Null).expect("an empty file has no bad rule")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    rule: &'static str,
    /// The keys down to it, with `::` between them, as the collector writes them.
    place: String,
    why: &'static str,
}

/// The first ones, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    shown: Vec<Violation>,
    more: usize,
}

impl Violations {
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    fn of_unknown_rules() -> Violations {
        let why = "the policy cannot be read, so no config is accepted";
        Violations { shown: vec![Violation { rule: UNREADABLE, place: "config".to_string(), why }], more: 0 }
    }

    fn push(&mut self, violation: Violation) {
        if self.shown.len() < MAX_SHOWN { self.shown.push(violation) } else { self.more += 1 }
    }

    /// Each with its place and rule, and the line of the policy file that allows them.
    pub fn explain(&self, file: &str) -> String {
        let mut text = String::new();
        let mut places: Vec<String> = Vec::new();
        for Violation { rule, place, why } in &self.shown {
            let _ = write!(text, "{}: {why} (rule {rule}); ", shortened(place));
            let place = Value::String(shortened(place).into_owned()).canonical();
            if !places.contains(&place) {
                places.push(place);
            }
        }
        if self.more > 0 {
            let _ = write!(text, "and {} more; ", self.more);
        }
        if self.shown.iter().any(|violation| violation.rule == UNREADABLE) {
            let _ = write!(text, "fix {file}");
        } else {
            let _ = write!(
                text,
                "to allow it, add to the list in {file}, and run `kmagent reload`: allow: [{}]",
                places.join(", ")
            );
        }
        text
    }
}

/// At most `MAX_PLACE`; so no key makes a place that takes long to look at.
fn shortened(place: &str) -> Cow<'_, str> {
    match place.char_indices().find(|(at, _)| *at >= MAX_PLACE) {
        Some((end, _)) => Cow::Owned(format!("{}…", &place[..end])),
        None => Cow::Borrowed(place),
    }
}

#[cfg(test)]
mod tests;
