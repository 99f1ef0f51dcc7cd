//! A text that may leave: no secret that is known is in it.
//!
//! Reports, state files, replies on the control socket and lines of the log are made of it, and there is no other way
//! to make one than through the mask. Who learns of a secret calls `know`, with what it is a secret of, and again when
//! that has others.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize};

use super::redact::{self, Secrets};

/// What secrets are known of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The settings and the environment.
    Agent,
    /// The API keys before and after the latest change.
    Keys,
    /// The config that was validated last.
    Candidate,
    /// What a roll back would have gone to at the start.
    Fallback,
    /// The configs of a collector, by its number.
    Collector(u64),
}

type Known = Vec<(Holder, Arc<Secrets>)>;

static KNOWN: Mutex<Option<Arc<Known>>> = Mutex::new(None);

/// From now on nothing is shown of these, which are all that `holder` has.
pub fn know(holder: Holder, secrets: impl Into<Arc<Secrets>>) {
    let secrets = secrets.into();
    change(|known| {
        known.retain(|(other, _)| *other != holder);
        known.push((holder, secrets));
    });
}

/// Forgets those of the collectors that `is_kept` denies.
pub fn forget_collectors(is_kept: impl Fn(u64) -> bool) {
    change(|known| known.retain(|(holder, _)| !matches!(holder, Holder::Collector(number) if !is_kept(*number))));
}

fn change(change: impl FnOnce(&mut Known)) {
    let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut known = all.as_deref().cloned().unwrap_or_default();
    change(&mut known);
    *all = Some(Arc::new(known));
}

pub(super) fn with_known<T>(use_them: impl FnOnce(&[&Secrets]) -> T) -> T {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
    let mut sets: Vec<&Secrets> = Vec::with_capacity(known.len());
    for (_, secrets) in known.iter() {
        // A config is a candidate first, and a collector's then.
        if !sets.iter().any(|known| std::ptr::eq(*known, &**secrets) || **known == **secrets) {
            sets.push(secrets);
        }
    }
    use_them(&sets)
}

/// Where a text that goes on must be cut, so that the mask recognises a secret in what follows.
pub fn cut(text: &[u8]) -> usize {
    with_known(|secrets| redact::cut(secrets, text))
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Masked(String);

impl Masked {
    pub fn new(text: &str) -> Masked {
        with_known(|secrets| Masked::with(secrets, text))
    }

    /// With these, for whoever has them at hand.
    pub(super) fn with(secrets: &[&Secrets], text: &str) -> Masked {
        Masked(redact::mask(secrets, text).into_owned())
    }

    /// Of a text whose end is missing: what may be the beginning of a secret at its end is left out.
    pub fn beginning(text: &str) -> Masked {
        Masked::new(&text[..cut(text.as_bytes())])
    }

    /// At most `limit` bytes of it.
    #[must_use]
    pub fn cut(mut self, limit: usize) -> Masked {
        self.0.truncate(self.0.floor_char_boundary(limit));
        self
    }

    /// What `part` takes of it, which is to be a part of it.
    pub fn part(&self, part: impl FnOnce(&str) -> &str) -> Masked {
        Masked(part(&self.0).to_owned())
    }
}

impl Deref for Masked {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&str> for Masked {
    fn from(text: &str) -> Masked {
        Masked::new(text)
    }
}

impl From<String> for Masked {
    fn from(text: String) -> Masked {
        Masked::new(&text)
    }
}

impl log::kv::ToValue for Masked {
    fn to_value(&self) -> log::kv::Value<'_> {
        self.0.as_str().into()
    }
}

impl<'de> Deserialize<'de> for Masked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Masked, D::Error> {
        String::deserialize(deserializer).map(Masked::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_any_holder_is_masked_until_it_is_forgotten() {
        let secret = |text: &str| Secrets::new([text.to_owned()]);
        know(Holder::Collector(901), secret("masked-test-one"));
        know(Holder::Collector(902), secret("masked-test-two"));
        let text = "masked-test-one, masked-test-two";
        assert_eq!(&*Masked::new(text), "****, ****");
        assert_eq!(&*serde_json::from_str::<Masked>(r#""a masked-test-two""#).unwrap(), "a ****");
        assert_eq!(&*Masked::beginning("a masked-te"), "a ");
        know(Holder::Collector(901), secret("masked-test-three"));
        assert_eq!(&*Masked::new(text), "masked-test-one, ****");
        forget_collectors(|number| !(901..=902).contains(&number));
        assert_eq!(&*Masked::new(text), text);
    }
}
