//! A collector config as an ordered tree, the same from JSON (the API) and from YAML (a file), and its identity.
//!
//! Owns the tree, which `deserialize` reads the two formats into; `revision` says when two configs are the same. It
//! knows no key's meaning (`inspect` does) and writes no YAML (`yaml` does). Every function here recurses: the readers
//! refuse a tree that is nested deeper than 127 levels (JSON) or 128 (YAML), which keeps them, and dropping, within any
//! thread's stack.

mod deserialize;
mod revision;

pub use deserialize::{ReadBudget, Tree};
pub use revision::{NotARevision, Revision};

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
    Object(Vec<Entry>),
}

/// Of an object.
pub type Entry = (String, Value);

/// In the order of the keys' bytes. A config of 4 MiB can hold half a million keys: they are not compared each with
/// each.
pub fn sorted(entries: &[Entry]) -> Vec<&Entry> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| key.as_bytes());
    entries
}

/// What sorted entries hold under `key`.
pub fn find<'a>(sorted: &[&'a Entry], key: &str) -> Option<&'a Value> {
    let at = sorted.binary_search_by_key(&key.as_bytes(), |(own, _)| own.as_bytes());
    at.ok().map(|at| &sorted[at].1)
}

impl Value {
    /// What the object holds under `key`; `None` for anything that is not an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn as_object(&self) -> Option<&[Entry]> {
        match self {
            Value::Object(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entries of an object in the order of their keys' bytes; none of anything else.
    pub fn sorted(&self) -> Vec<&Entry> {
        sorted(self.as_object().unwrap_or_default())
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
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeSeed;
    use serde::{Deserialize, Deserializer};

    use super::*;

    impl<'de> Deserialize<'de> for Value {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
            Tree::json(&ReadBudget::new(usize::MAX)).deserialize(deserializer)
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
            ("{a: 1}: 1", "a key must be text"),
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
    fn keys_that_are_no_text_become_what_the_collector_makes_of_them() {
        assert_eq!(yaml("404: a\n-1: b\ntrue: c\n"), json(r#"{"404":"a","-1":"b","true":"c"}"#));
        // As `print-config` of the collector 0.145 shows them.
        for (key, expected) in [
            ("~", "<nil>"),
            ("0x10", "16"),
            ("1.50", "1.5"),
            ("1.0", "1"),
            ("123456.0", "123456"),
            ("1234567.5", "1.2345675e+06"),
            ("12345.678", "12345.678"),
            ("1e3", "1000"),
            ("1e6", "1e+06"),
            ("1e100", "1e+100"),
            ("18446744073709551616", "1.8446744073709552e+19"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("-1.5e-7", "-1.5e-07"),
            ("-0.0", "-0"),
            (".inf", "+Inf"),
            ("-.inf", "-Inf"),
        ] {
            let read = yaml(&format!("{key}: x"));
            assert_eq!(read.as_object().unwrap()[0].0, expected, "{key}");
        }
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
}
