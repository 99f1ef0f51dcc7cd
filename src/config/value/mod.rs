//! A collector config as an ordered tree, the same from JSON (the API) and from YAML (a file), and its identity.
//!
//! Owns the tree, which `read` reads the two formats into, and what two configs must have in common to be the same
//! *revision*. It knows no key's meaning (`inspect` does) and writes no YAML (`yaml` does). Every function here recurses:
//! the readers refuse a tree that is nested deeper than 127 levels (JSON) or 128 (YAML), which keeps them, and dropping,
//! within any thread's stack.

mod read;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize as FromSerde, Serialize};

pub use read::{ReadBudget, Tree};

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// From `i64::MIN` to `u64::MAX`. An integer beyond that range is read as a `Float`, which is what Go's readers
    /// make of it.
    Integer(i128),
    /// Finite from JSON; YAML also has infinities and `.nan`, which is not even equal to itself.
    Float(f64),
    String(String),
    Array(Vec<Value>),
    /// In the order given, no key twice.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// What the object holds under `key`; `None` for anything that is not an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn as_object(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

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
            Value::Object(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_unstable_by_key(|(key, _)| key.as_bytes());
                out.push('{');
                for (nth, (key, value)) in sorted.into_iter().enumerate() {
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

/// RFC 8259 section 7: only the quote, the backslash and what is below the space must be escaped.
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, FromSerde, Serialize)]
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
    use serde::de::DeserializeSeed;
    use serde::{Deserialize, Deserializer};

    use super::*;

    impl<'de> Deserialize<'de> for Value {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
            Tree(&ReadBudget::new(usize::MAX)).deserialize(deserializer)
        }
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn reads_the_same_tree_from_json_and_yaml() {
        let from_json = json(r#"{"b":[null,true,-9223372036854775808,18446744073709551615,1.5,"x"],"a":{}}"#);
        let from_yaml = yaml("b: [~, true, -9223372036854775808, 18446744073709551615, 1.5, x]\na: {}\n");
        assert_eq!(from_json, from_yaml);
        let keys: Vec<_> = from_json.as_object().unwrap().iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["b", "a"]);
    }

    #[test]
    fn integers_too_large_for_64_bits_become_floats_in_both_formats() {
        for text in ["18446744073709551616", "-9223372036854775809", "340282366920938463463374607431768211456"] {
            assert!(matches!(json(text), Value::Float(_)), "{text}");
            assert_eq!(json(text), yaml(text));
        }
    }

    #[test]
    fn refuses_what_has_no_place_in_a_config() {
        let cases = [
            ("{a: 1, b: 2, a: 3}", "duplicate key \"a\""),
            ("x: {1: a, '1': b}", "duplicate key \"1\""),
            ("~: 1", "a key must be text"),
            ("1.5: 1", "a key must be text"),
            ("[a]: 1", "a key must be text"),
            ("a: !secret b", "the YAML tag !secret is not supported"),
            ("a: !map {b: c}", "the YAML tag !map is not supported"),
            ("a: 1\n---\nb: 2\n", "more than one document"),
            ("a: [", "did not find expected"),
        ];
        for (text, expected) in cases {
            let error = serde_yaml::from_str::<Value>(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = serde_json::from_str::<Value>(r#"{"a":{"b":1,"b":1}}"#).unwrap_err().to_string();
        assert!(error.contains("duplicate key \"b\""), "{error}");
    }

    /// serde_json's quick reader is off by one unit in the last place now and then, and YAML's readers are not.
    #[test]
    fn floats_are_read_exactly() {
        for text in ["2.638344616030823e-256", "1.2345678901234567e-7", "9007199254740993.0", "7.038531e-26"] {
            assert_eq!(json(text), Value::Float(text.parse().unwrap()));
        }
    }

    #[test]
    fn keys_that_are_integers_or_booleans_become_their_text() {
        assert_eq!(yaml("404: a\n-1: b\ntrue: c\n"), json(r#"{"404":"a","-1":"b","true":"c"}"#));
    }

    #[test]
    fn deep_nesting_is_an_error_and_what_is_accepted_fits_a_small_stack() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for depth in [129, 10_000] {
            assert!(serde_json::from_str::<Value>(&nested(depth)).is_err(), "{depth}");
            assert!(serde_yaml::from_str::<Value>(&nested(depth)).is_err(), "{depth}");
        }
        // Half of what Rust gives a thread, in the unoptimised build, where frames are several times larger.
        let small = std::thread::Builder::new().stack_size(1024 * 1024).spawn(move || {
            for deepest in [nested(127), format!("{}1{}", "{\"a\":".repeat(127), "}".repeat(127))] {
                let value = json(&deepest);
                assert_eq!(value, yaml(&deepest));
                assert_eq!(value.canonical(), deepest);
                drop(value.clone());
            }
        });
        small.unwrap().join().unwrap();
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
