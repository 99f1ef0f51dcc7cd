//! What the collector makes of a variable's value where a config has `${env:NAME}`, if it is not that value.
//!
//! It keeps a text whatever its YAML type. But the value is expanded again, and one that is a mapping must have texts
//! as keys, or there is no config (confmap 1.51, tried with each: tests/collector/values.rs).

use super::expansions;
use crate::config::value::Value;
use crate::config::yaml;

/// What changes it: a form to look for in the value, and what becomes of it.
pub fn misread(value: &str) -> Option<&'static str> {
    let text = Value::String(value.to_string());
    if !expansions(&text, &|_| None).is_empty() {
        Some("${…} in it is expanded")
    } else if value.contains("$$") {
        Some("$$ in it becomes $")
    } else if yaml::parse(value.as_bytes()).is_ok_and(|value| has_odd_key(&value)) {
        Some("it is a YAML mapping with a key that is no text, which the collector refuses")
    } else {
        None
    }
}

/// Whether a key may be a number, a date, a boolean or null.
fn has_odd_key(value: &Value) -> bool {
    let is_odd = |key: &str| {
        let word = key.to_ascii_lowercase();
        !key.starts_with(|c: char| c.is_alphabetic()) || ["true", "false", "null"].contains(&word.as_str())
    };
    matches!(value, Value::Object(entries) if entries.iter().any(|(key, _)| is_odd(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a collector of version 0.145 has sent them in a header.
    #[test]
    fn what_reaches_an_exporter_changed_is_known() {
        let same = [
            "sk_plain-1",
            "123",
            "0x1f",
            "1.50",
            "1e5",
            "true",
            "null",
            "~",
            "2026-01-02",
            "a$b",
            "$a",
            "a${b",
            "a}b",
            "a$b}",
            "$}",
            "a: b",
            "a #b",
            "#abc",
            "*abc",
            "&abc",
            "!abc def",
            "@abc",
            "`abc",
            "\"abc\"",
            "'abc",
            "{abc",
            "{abc}",
            "[abc]",
            "|",
            "- a",
            "? a",
            "?a",
            ":",
            "abc:",
            "key:value",
            "--- a",
            "<<",
            "0o17",
            ".inf",
            "a: {1: b}",
            "[{1: 2}]",
            "- ?",
            "[?]",
            "{a: b}",
            "a}$b{",
            "",
        ];
        for value in same {
            assert_eq!(misread(value), None, "{value}");
        }
        for (value, expected) in [
            ("a$$b", "$$ in it becomes $"),
            ("$$", "$$ in it becomes $"),
            ("a$${b", "$$ in it becomes $"),
            ("a$${b}", "$$ in it becomes $"),
            ("a${HOME}b", "${…} in it is expanded"),
            ("${env:NOT_SET}", "${…} in it is expanded"),
            ("a${}b", "${…} in it is expanded"),
            ("$$${HOME}", "${…} in it is expanded"),
            ("?", "it is a YAML mapping"),
            ("1: a", "it is a YAML mapping"),
            ("12:", "it is a YAML mapping"),
            ("true:", "it is a YAML mapping"),
            ("~: a", "it is a YAML mapping"),
            ("{1}", "it is a YAML mapping"),
            ("{?}", "it is a YAML mapping"),
            ("1.5: a", "it is a YAML mapping"),
            ("2026-01-02: a", "it is a YAML mapping"),
        ] {
            assert!(misread(value).is_some_and(|form| form.starts_with(expected)), "{value}: {:?}", misread(value));
        }
    }
}
