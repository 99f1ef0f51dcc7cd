//! Answers with status 200 whose body is not what it should be: wrong types, broken JSON, broken text.

use super::hostile::Hostile;
use super::{Case, Trial, body};

const UNREADABLE: &str = "the answer cannot be read";

#[test]
fn every_wrong_type_at_every_place() {
    let all = ["null", "true", "1", "-1", "1.5", "\"text\"", "[]", "[{}]", "{}"];
    let mut cases: Vec<Case> = Vec::new();
    for (place, allowed, says) in [
        ("?", &["{}"][..], "expected a JSON object"),
        (r#"{"restart_required":?}"#, &["true", "null"], "expected restart_required to be true, false or null"),
        (r#"{"config":?,"restart_required":true}"#, &["null", "{}"], "expected config to be an object or null"),
    ] {
        for value in all.iter().filter(|value| !allowed.contains(value)) {
            let text = place.replace('?', value);
            cases.push(body(text.clone(), text, 76, says));
        }
    }
    Trial::new("every wrong type at every place", Hostile::start(None)).run(cases);
}

#[test]
fn broken_json() {
    let good = r#"{"restart_required":true,"config":{"fake":{},"name":"x"}}"#;
    let within = |value: &str| format!(r#"{{"config":{{"a":{value}}}}}"#);
    let deep = |open: &str, close: &str| within(&format!("{}1{}", open.repeat(10_000), close.repeat(10_000)));
    let mut cases: Vec<Case> = [1, 2, 19, 24, 25, 34, 36, 44, 55, 56]
        .into_iter()
        .map(|length| body(format!("the first {length} bytes"), &good[..length], 76, UNREADABLE))
        .collect();
    for (name, text, says) in [
        ("empty", String::new(), "it is empty"),
        ("white space", " \r\n\t ".into(), "it is empty"),
        ("two objects", format!("{good}{good}"), "trailing characters"),
        ("a word behind it", format!("{good} ok"), "trailing characters"),
        ("a zero byte behind it", format!("{good}\0"), "trailing characters"),
        ("a list around it", format!("[{good}]"), "expected a JSON object"),
        ("a page", "<!DOCTYPE html><html><body>Sign in".into(), "it starts with '<!DOCTYPE html><html'"),
        ("YAML", "receivers:\n  otlp:\n".into(), "expected a JSON object"),
        ("XML", "<?xml version=\"1.0\"?><config/>".into(), "expected a JSON object"),
        ("a byte order mark", format!("\u{feff}{good}"), "expected a JSON object"),
        ("restart_required twice", r#"{"restart_required":true,"restart_required":true}"#.into(), "duplicate field"),
        ("config twice", r#"{"config":{"a":1},"config":{"a":1}}"#.into(), "duplicate field `config`"),
        ("a key twice in the config", r#"{"config":{"a":1,"a":1}}"#.into(), "duplicate key"),
        ("a key twice, further in", within(r#"[{"b":{"c":1,"d":2,"c":3}}]"#), "duplicate key"),
        ("a key twice, escaped", within(r#"{"b":1,"\u0062":2}"#), "duplicate key"),
        ("lists, 10,000 deep", deep("[", "]"), "nested deeper than 126 levels"),
        ("objects, 10,000 deep", deep("{\"a\":", "}"), "nested deeper than 126 levels"),
        ("lists, never closed", within(&"[".repeat(1_000_000)), "nested deeper than 126 levels"),
        ("a number out of range", within("1e999"), "number out of range"),
        ("a negative one", within("-1e999"), "number out of range"),
        ("NaN", within("NaN"), UNREADABLE),
        ("Infinity", within("-Infinity"), UNREADABLE),
        ("a leading zero", within("01"), UNREADABLE),
        ("a leading plus", within("+1"), UNREADABLE),
        ("hexadecimal", within("0x1f"), UNREADABLE),
        ("a trailing comma", within("[1,]"), UNREADABLE),
        ("a missing comma", within("[1 2]"), UNREADABLE),
        ("a missing colon", r#"{"config" {}}"#.into(), UNREADABLE),
        ("single quotes", "{'config':{}}".into(), UNREADABLE),
        ("bare keys", "{config:{}}".into(), UNREADABLE),
        ("a comment", within("1 /* SECRET */"), UNREADABLE),
        ("a line break in a string", within("\"SECRET\n\""), "control character"),
        ("half a surrogate pair", within(r#""SECRET\ud800""#), UNREADABLE),
        ("an unknown escape", within(r#""SECRET\x41""#), "invalid escape"),
        ("True", within("True"), UNREADABLE),
        ("an empty config", r#"{"config":{},"restart_required":true"#.into(), UNREADABLE),
    ] {
        cases.push(body(name, text, 76, says));
    }
    Trial::new("broken JSON", Hostile::start(None)).run(cases);
}

#[test]
fn broken_text() {
    let around = |bytes: &[u8]| [&b"{\"config\":{\"a\":\""[..], bytes, b"\"}}"].concat();
    let utf16 = |mark: [u8; 2], order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        mark.into_iter().chain("{\"config\":{}}".encode_utf16().flat_map(order)).collect()
    };
    let cases = [
        ("a lone continuation byte", around(b"\x80"), UNREADABLE),
        ("an overlong slash", around(b"\xc0\xaf"), UNREADABLE),
        ("a surrogate in UTF-8", around(b"\xed\xa0\x80"), UNREADABLE),
        ("beyond Unicode", around(b"\xf5\x80\x80\x80"), UNREADABLE),
        ("half a character", around(b"\xe2\x82"), UNREADABLE),
        ("in a key", b"{\"config\":{\"\xff\":1}}".to_vec(), UNREADABLE),
        ("in a known key", b"{\"conf\xffig\":{}}".to_vec(), UNREADABLE),
        ("outside of strings", b"{\xff}".to_vec(), UNREADABLE),
        ("UTF-16, little endian", utf16([0xff, 0xfe], u16::to_le_bytes), "expected a JSON object"),
        ("UTF-16, big endian", utf16([0xfe, 0xff], u16::to_be_bytes), "expected a JSON object"),
        ("Latin-1", around(b"Gr\xfc\xdfe"), UNREADABLE),
        ("zeroes", vec![0; 1000], "expected a JSON object"),
        ("terminal escapes", b"\x1b[2J\x1b]0;SECRE\x07\xc2\x9b1m".to_vec(), "it starts with '\\u{1b}[2J\\u{1b}]0;"),
        ("the key", super::KEY.as_bytes().to_vec(), "it starts with '****'"),
        ("the key, quoted", format!("\"{}\"", super::KEY).into_bytes(), "it starts with '\"****\"'"),
        ("the key, often", super::KEY.repeat(100).into_bytes(), "it starts with '****"),
        ("bidirectional controls", "\u{202e}}{".as_bytes().to_vec(), "it starts with '\\u{202e}}{'"),
        ("a config as text", br#"{"config":"exporters: {x: {token: SECRET}}"}"#.to_vec(), "invalid type: string"),
    ];
    let cases = cases.into_iter().map(|(name, bytes, says)| body(name, bytes, 76, says)).collect();
    Trial::new("broken text", Hostile::start(None)).run(cases);
}
