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

/// What configs from a source are held to.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Another policy, and another version of the default one, has another.
    identity: String,
    /// `None`: the source is trusted.
    rules: Option<Arc<Rules>>,
}

impl Policy {
    /// Nothing is judged.
    pub fn none() -> Policy {
        Policy { identity: "none".to_string(), rules: None }
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
        Ok(Policy { identity, rules: Some(Arc::new(rules)) })
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What `offered` violates with `overlay` over it, whose places are the site's own. What the confirmed config has
    /// at the same place with the same value is allowed.
    pub fn judge(&self, offered: &Value, overlay: Option<&Value>, confirmed: Option<&Value>) -> Violations {
        self.rules.as_ref().map(|rules| judge::judge(rules, offered, overlay, confirmed)).unwrap_or_default()
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
        let _ = write!(text, "to allow it, add to {file}: allow: [{}]", places.join(", "));
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
