//! The identity of a config: what two configs have in common that are the same *revision*.
//!
//! The canonical form is a promise: state files and the API know revisions that older versions of the agent computed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Value;

impl Value {
    /// Compact JSON with the keys of each object in the order of their bytes: equal for equal configs, however they
    /// were written.
    ///
    /// `1` and `1.0` differ, since they do to the collector: a text field gets "1" or "1.0". To take two unlike
    /// configs for one would lose an update; the opposite costs one restart. `1.0`, `1.00` and `10e-1` are one
    /// number, and `-0.0` is `0.0`, as nothing in a collector tells them apart. Escapes are only those that JSON
    /// demands.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write_canonical(&mut out);
        out
    }

    /// The identity of this config: the SHA-256 of its canonical form.
    pub fn revision(&self) -> Revision {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.canonical().as_bytes());
        Revision(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn write_canonical(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Value::Integer(number) => out.push_str(&number.to_string()),
            // Adding zero turns -0.0 into 0.0. Debug is the shortest text that reads back as this number, always with
            // a dot or exponent.
            Value::Float(number) => out.push_str(&format!("{:?}", number + 0.0)),
            Value::String(text) => write_json_string(text, out),
            Value::Array(items) => {
                out.push('[');
                for (nth, item) in items.iter().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    item.write_canonical(out);
                }
                out.push(']');
            }
            Value::Object(_) => {
                out.push('{');
                for (nth, (key, value)) in self.sorted().into_iter().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    write_json_string(key, out);
                    out.push(':');
                    value.write_canonical(out);
                }
                out.push('}');
            }
        }
    }
}

/// RFC 8259 section 7: only the quote, the backslash and what is below the space must be escaped. No library's escapes,
/// nor those of the log: revisions that were stored depend on these very bytes.
fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// A config's identity: 64 lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Revision(String);

impl Revision {
    /// Twelve digits, as in git's listings: enough to tell a fleet's configs apart (48 bits), short enough to say
    /// aloud.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Revision {
    type Error = NotARevision;

    fn try_from(text: String) -> Result<Revision, NotARevision> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits && text.len() == 64 { Ok(Revision(text)) } else { Err(NotARevision) }
    }
}

impl FromStr for Revision {
    type Err = NotARevision;

    fn from_str(text: &str) -> Result<Revision, NotARevision> {
        text.to_owned().try_into()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct NotARevision;

impl fmt::Display for NotARevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a revision is 64 lowercase hexadecimal digits")
    }
}

impl std::error::Error for NotARevision {}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn canonical_form() {
        let cases = [
            (r#"{"b":1,"a":{"d":2,"c":3}}"#, r#"{"a":{"c":3,"d":2},"b":1}"#),
            // By bytes, not by UTF-16 units or by locale.
            (r#"{"é":1,"z":2,"Z":3,"":4}"#, r#"{"":4,"Z":3,"z":2,"é":1}"#),
            ("[1, 1.0, 1.00, 10e-1, 1e3, 1e300]", "[1,1.0,1.0,1.0,1000.0,1e300]"),
            ("[0, -0, 0.0, -0.0]", "[0,0.0,0.0,0.0]"),
            (r#""\u0000\n\"\\\/\u007f\u2028é""#, "\"\\u0000\\u000a\\\"\\\\/\u{7f}\u{2028}é\""),
            ("[[], {}, null, true, false]", "[[],{},null,true,false]"),
        ];
        for (text, expected) in cases {
            let canonical = json(text).canonical();
            assert_eq!(canonical, expected);
            assert_eq!(json(&canonical).canonical(), canonical, "{text}: not stable");
        }
    }

    #[test]
    fn revision_is_the_hash_of_the_canonical_form() {
        // printf '{}' | sha256sum
        let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(json("{}").revision().to_string(), empty);
        assert_eq!(json("{}").revision().short(), "44136fa355b3");
        assert_eq!(json(r#"{"a":1,"b":2}"#).revision(), yaml("b: 2\na: 1\n").revision());
        assert_ne!(json(r#"{"a":1}"#).revision(), json(r#"{"a":1.0}"#).revision());
        assert_ne!(json(r#"{"a":1}"#).revision(), json(r#"{"a":"1"}"#).revision());
    }

    #[test]
    fn revision_survives_its_text_and_refuses_any_other() {
        let revision = json("{}").revision();
        assert_eq!(revision.to_string().parse(), Ok(revision.clone()));
        let stored = serde_json::to_string(&revision).unwrap();
        assert_eq!(stored, format!("\"{revision}\""));
        assert_eq!(serde_json::from_str::<Revision>(&stored).unwrap(), revision);
        let upper = revision.to_string().to_uppercase();
        for wrong in ["", "44136fa355b3", upper.as_str(), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Revision>(), Err(NotARevision), "{wrong}");
            assert!(serde_json::from_str::<Revision>(&format!("\"{wrong}\"")).is_err(), "{wrong}");
        }
    }
}
