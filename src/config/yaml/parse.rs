//! Parses a YAML file as the collector does (go-yaml v3), within bounds that depend on its length alone, in memory and
//! in time.
//!
//! The collector reads the first document alone, strips a byte order mark, takes UTF-16 behind one, and merges `<<`.
//! Plain texts that go-yaml takes for a number or a date and serde_yaml for a text (`017`, `1_000`, `2001-01-01`) stay
//! texts here: nothing is judged by them.
//!
//! serde_yaml bounds neither: aliases can multiply what a file holds, and its scanner takes the square of the depth of
//! brackets.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Error};

use crate::config::value::{ReadBudget, Tree, Value};

/// The scanner looks at every open bracket again for each token: 4 MiB may be a thousand deep, and 64 KiB as deep as it
/// can be. At its largest this takes seconds.
const MAX_NESTING_TIMES_LENGTH: u64 = u32::MAX as u64;

/// Values that any file may hold, however short it is: enough for anchors that people use.
const MIN_BUDGET: usize = 4096;

/// Reads the first document; an empty one is null. What it takes in memory depends on the length of `text` alone:
/// aliases may repeat things, but not multiply them.
///
/// # Errors
/// What is not YAML, local tags, duplicate keys, lists and maps as keys, merges of what is no map, more than 128
/// levels, and aliases that make more of a file than one of its length could hold without them.
pub fn parse(text: &[u8]) -> Result<Value, serde_yaml::Error> {
    let text = &*decoded(text)?;
    if (nesting(text) as u64).saturating_mul(text.len() as u64) > MAX_NESTING_TIMES_LENGTH {
        return Err(serde::de::Error::custom("it is nested too deeply"));
    }
    parse_any_depth(text)
}

/// An upper bound for how deep the brackets of a text are nested. What looks like one within quotes counts too.
pub fn nesting(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut before) = (0usize, 0, b'\n');
    for &byte in text {
        match byte {
            // A bracket that opens something begins a token: it follows a blank, another one, or a separator.
            b'[' | b'{' if matches!(before, b' ' | b'\t' | b'\r' | b'\n' | b'[' | b'{' | b',' | b':') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = byte;
    }
    deepest
}

/// `parse`, whatever the brackets.
pub(super) fn parse_any_depth(text: &[u8]) -> Result<Value, serde_yaml::Error> {
    // The shortest value with what separates it takes two bytes: "- " or "a,".
    let budget = ReadBudget::new(MIN_BUDGET + text.len() / 2);
    let (text, mark) = with_literal_merges(text);
    let Some(document) = serde_yaml::Deserializer::from_slice(&text).next() else { return Ok(Value::Null) };
    Tree::yaml(&budget, mark).deserialize(document).map_err(|error| match budget.is_used_up() {
        true => Error::custom("its YAML aliases expand to too much: use fewer aliases"),
        false => error,
    })
}

/// The text in UTF-8, without a byte order mark.
fn decoded(text: &[u8]) -> Result<Cow<'_, [u8]>, serde_yaml::Error> {
    let units = |text: &[u8], read: fn([u8; 2]) -> u16| -> Vec<u16> {
        text.chunks(2).map(|pair| read([pair[0], *pair.get(1).unwrap_or(&0)])).collect()
    };
    let units = match text {
        [0xff, 0xfe, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => units(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => return Ok(Cow::Borrowed(rest)),
        _ => return Ok(Cow::Borrowed(text)),
    };
    match String::from_utf16(&units) {
        Ok(text) => Ok(Cow::Owned(text.into_bytes())),
        Err(_) => Err(Error::custom("it begins like UTF-16 and is none")),
    }
}

/// The text with a mark behind each `<<` in quotes, which merges nothing: a character for private use that is not in
/// the text.
fn with_literal_merges(text: &[u8]) -> (Cow<'_, [u8]>, Option<char>) {
    let is_quoted = |four: &[u8]| four == b"\"<<\"" || four == b"'<<'";
    if !text.windows(4).any(is_quoted) {
        return (Cow::Borrowed(text), None);
    }
    let mut encoded = [0; 4];
    let mut is_free = |mark: &char| {
        let mark = mark.encode_utf8(&mut encoded).as_bytes();
        !text.windows(mark.len()).any(|window| window == mark)
    };
    let Some(mark) = ('\u{e000}'..='\u{f8ff}').find(|mark| is_free(mark)) else { return (Cow::Borrowed(text), None) };
    let mut literal = Vec::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(at) = rest.windows(4).position(is_quoted) {
        literal.extend_from_slice(&rest[..at + 3]);
        literal.extend_from_slice(mark.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[at + 3..];
    }
    literal.extend_from_slice(rest);
    (Cow::Owned(literal), Some(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn aliases_may_repeat_but_not_multiply() {
        assert_eq!(parse(b"a: &x [1]\nb: *x\nc: {d: *x}\n").unwrap(), json(r#"{"a":[1],"b":[1],"c":{"d":[1]}}"#));
        // The classic one, which grows with each level.
        let mut doubling = String::from("a0: &a0 [x]\n");
        for level in 1..40 {
            let below = format!("*a{}", level - 1);
            doubling.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", ")));
        }
        // One level, which no limit on the number or depth of aliases sees: a billion values from 100 KB.
        let flat = format!("a: &a [{}1]\nb: [{}*a]\n", "1,".repeat(30_000), "*a,".repeat(30_000));
        // Not even many values: 1 GB of text.
        let long = format!("a: &a {}\nb: [{}*a]\n", "x".repeat(50_000), "*a,".repeat(20_000));
        let keys = format!("a: &a {}\nb: [{}]\n", "x".repeat(50_000), "{*a : 1},".repeat(20_000));
        for bomb in [doubling, flat, long, keys] {
            let error = parse(bomb.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("aliases"), "{error}");
        }
    }

    /// So an alias is never blamed where there is none.
    #[test]
    fn without_aliases_nothing_is_too_much() {
        for text in ["- \n".repeat(50_000), format!("{{{}}}", (0..20_000).map(|n| format!("{n},")).collect::<String>())]
        {
            assert!(parse(text.as_bytes()).is_ok());
        }
        assert!(parse(format!("[{}]", "1,".repeat(50_000)).as_bytes()).is_ok());
        assert!(parse("-\n".repeat(50_000).as_bytes()).is_ok());
    }

    #[test]
    fn brackets_may_not_be_nested_without_end() {
        for (text, depth) in [
            ("", 0),
            ("a: [{b: [c]}, [], {}]", 3),
            ("[[[1]]]", 3),
            ("a: '[x'\nb: x[y\nc: \\[\n", 0),
            ("\"a\":[{\"b\":1}]", 2),
            ("]]]][", 0),
            ("]]]] [", 1),
        ] {
            assert_eq!(nesting(text.as_bytes()), depth, "{text}");
        }
        for open in ["[", "{a: ", "[ ", "{\"a\":"] {
            let error = parse(open.repeat(400_000).as_bytes()).unwrap_err().to_string();
            assert!(error.contains("nested too deeply"), "{error}");
        }
    }

    #[test]
    fn an_empty_document_is_null() {
        for empty in ["", "\n", "# nothing\n", "---\n", "--- ~\n"] {
            assert_eq!(parse(empty.as_bytes()).unwrap(), Value::Null, "{empty:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_yaml_are_an_error() {
        for bytes in [&b"\xff\xfe\x00\xd8"[..], b"a: \0", b"a: \xc3\x28", b"\t- a", b"a: b: c", b"%", b"\x1b"] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_merge_adds_what_is_not_there() {
        for (text, expected) in [
            ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", r#"{"a":{"x":1,"y":2},"b":{"y":3,"x":1}}"#),
            ("a: &a {x: 1}\nb: {y: 3, <<: *a, z: 4}\n", r#"{"a":{"x":1},"b":{"y":3,"z":4,"x":1}}"#),
            ("b: {<<: [{x: 1}, {x: 2, y: 2}], z: 4}\n", r#"{"b":{"z":4,"x":1,"y":2}}"#),
            ("a: &a {<<: {x: 1}, y: 2}\nb: {<<: *a}\n", r#"{"a":{"y":2,"x":1},"b":{"y":2,"x":1}}"#),
            ("a: [{<<: {}}]\n", r#"{"a":[{}]}"#),
            // In quotes it is a key, and a value always a text.
            ("{\"<<\": {x: 1}, '<<a': <<, c: '<<'}", r#"{"<<":{"x":1},"<<a":"<<","c":"<<"}"#),
            ("{\"<<\": \"<<\u{e000}\", '<<\u{f8ff}': 1}", "{\"<<\":\"<<\u{e000}\",\"<<\u{f8ff}\":1}"),
            ("a: &a {\"<<\": 1}\nb: {<<: *a}\n", r#"{"a":{"<<":1},"b":{"<<":1}}"#),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), json(expected), "{text}");
        }
        for text in ["{<<: 1}", "{<<: ~}", "{<<: [{}, 1]}"] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("a merge (<<) takes"), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_document_is_read_whatever_follows() {
        for text in ["a: 1\n---\nb: 2\n", "a: 1\n...\n---\nb: 2\n", "--- {a: 1}\n--- [\n"] {
            assert_eq!(parse(text.as_bytes()).unwrap(), json(r#"{"a":1}"#), "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let text = "ä: [\"\u{10348}\"]\n";
        let units = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let forms = [
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe".as_slice(), &units(u16::to_le_bytes)].concat(),
            [b"\xfe\xff".as_slice(), &units(u16::to_be_bytes)].concat(),
        ];
        for form in forms {
            assert_eq!(parse(&form).unwrap(), parse(text.as_bytes()).unwrap(), "{form:?}");
        }
    }
}
