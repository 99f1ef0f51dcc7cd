//! Tables of records and collector lines, and the lines that they must give.

use std::time::Duration;

use log::kv::ToValue;

use super::*;
use crate::log::sanitize::is_invisible;

const TS: &str = "2026-11-22T14:04:37.123Z";

fn style<'a>(format: LogFormat, secrets: &'a [&'a Secrets]) -> Style<'a> {
    Style { format, is_journal: false, at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_356_277_123), secrets }
}

/// The line for a message of the supervisor with fields.
fn line(format: LogFormat, message: &str, fields: &[(&str, kv::Value)]) -> String {
    let secrets = Secrets::new(vec![
        "key".to_owned(),
        "key-long".to_owned(),
        "secret".to_owned(),
        String::new(),
        "4711".to_owned(),
    ]);
    style(format, &[&secrets]).record(
        &Record::builder()
            .level(Level::Info)
            .target("kmagent::supervise")
            .args(format_args!("{message}"))
            .key_values(&fields)
            .build(),
    )
}

#[test]
fn json_is_one_object_with_typed_fields() {
    let path = std::path::Path::new("/a b");
    let fields: &[(&str, kv::Value)] = &[
        ("revision", "a1b2".into()),
        ("attempt", 3.into()),
        ("ratio", 0.5.into()),
        ("nan", f64::NAN.into()),
        ("is_new", true.into()),
        ("none", None::<u64>.to_value()),
        ("path", kv::Value::from_debug(&path)),
    ];
    let line = line(LogFormat::Json, "config installed", fields);
    let expected = format!(
        r#"{{"ts":"{TS}","level":"info","target":"supervise","msg":"config installed","revision":"a1b2","attempt":3,"ratio":0.5,"nan":"NaN","is_new":true,"none":null,"path":"\"/a b\""}}"#
    );
    assert_eq!(line, expected + "\n");
    serde_json::from_str::<serde_json::Value>(&line).unwrap();
}

#[test]
fn text_quotes_only_what_needs_it() {
    let fields: &[(&str, kv::Value)] = &[
        ("revision", "abc".into()),
        ("path", "a b".into()),
        ("empty", "".into()),
        ("attempt", 3.into()),
        ("odd", "x=\"\\".into()),
    ];
    assert_eq!(
        line(LogFormat::Text, "config installed", fields),
        format!(
            "{TS} INFO  supervise: config installed revision=abc path=\"a b\" empty=\"\" attempt=3 odd=\"x=\\\"\\\\\"\n"
        )
    );
}

#[test]
fn nobody_can_forge_a_line_or_a_terminal_escape() {
    const ATTACK: &str = "a\nb\r\u{1b}[31m\u{9b}2J\0\u{7f}\u{2028}\u{202e}\u{200f}\u{61c}\u{e0041}c";
    for format in [LogFormat::Json, LogFormat::Text] {
        for line in [line(format, ATTACK, &[("field", ATTACK.into())]), {
            style(format, &[]).collector(Level::Info, ATTACK.as_bytes())
        }] {
            let text = line.strip_suffix('\n').unwrap();
            // A newline of the collector's separates two of its lines.
            assert!(!text.replacen("a\nb", "ab", 1).contains(is_invisible), "{line:?}");
        }
    }
    let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, ATTACK, &[])).unwrap();
    assert_eq!(json["msg"], ATTACK);
}

#[test]
fn secrets_are_masked_wherever_they_stand() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let fields = [("a", "xsecretx".into()), ("b", "monkey".into()), ("n", 4711.into())];
        let line = line(format, "the key-long and the key and a secret", &fields);
        assert!(line.contains("the **** and the **** and a ****") && line.contains("x****x"), "{line}");
        assert!(line.contains("monkey"), "less than six characters are masked as a whole word only: {line}");
        assert!(!line.contains("4711") && !line.contains("secret"), "{line}");
    }
    let quoted = Secrets::new(vec!["a\"b\\c".to_owned()]);
    let quoted = [&quoted];
    assert_eq!(style(LogFormat::Text, &quoted).collector(Level::Info, b"x a\"b\\c y"), "x **** y\n");
    assert!(style(LogFormat::Json, &quoted).collector(Level::Info, b"x a\"b\\c y").contains("x **** y"));
}

#[test]
fn collector_lines_are_passed_on() {
    let (json, text) = (style(LogFormat::Json, &[]), style(LogFormat::Text, &[]));
    assert_eq!(
        text.collector(Level::Info, b"2026\tinfo\tready {\"a\":\"b\"}\r\n"),
        "2026\tinfo\tready {\"a\":\"b\"}\n"
    );
    assert_eq!(text.collector(Level::Info, b"bad \xff utf-8"), "bad \u{fffd} utf-8\n");
    assert_eq!(
        json.collector(Level::Info, b"2026\tinfo"),
        format!("{{\"ts\":\"{TS}\",\"level\":\"info\",\"target\":\"collector\",\"msg\":\"2026\\tinfo\"}}\n")
    );
    assert_eq!(text.collector(Level::Info, &vec![b'x'; 70_000]).len(), MAX_COLLECTOR_LINE + 1);
}

#[test]
fn a_collector_line_does_not_pass_for_one_of_ours() {
    let ours = line(LogFormat::Text, "agent stopped", &[]);
    let ours = ours.trim_end();
    assert_eq!(style(LogFormat::Text, &[]).collector(Level::Info, ours.as_bytes()), format!("collector: {ours}\n"));
    let json = style(LogFormat::Json, &[]).collector(Level::Info, ours.as_bytes());
    assert!(json.contains(r#""target":"collector""#) && json.contains("agent stopped"), "{json}");
    for theirs in ["2026-11-22T14:04:37.123Z\tinfo\tready", "2026-11-22T14:04:37.123+0100 info", "2026"] {
        assert_eq!(style(LogFormat::Text, &[]).collector(Level::Info, theirs.as_bytes()), format!("{theirs}\n"));
    }
}

/// The journal would take it from them (sd-daemon(3)), wherever it splits a line.
#[test]
fn nobody_chooses_a_priority_of_the_journal() {
    for (text, shown) in [("<0>a <191>b", "\\u{3c}0>a \\u{3c}191>b"), ("<a> <> <1 <1234> x<y", "<a> <> <1 <1234> x<y")]
    {
        assert_eq!(style(LogFormat::Text, &[]).collector(Level::Info, text.as_bytes()), format!("{shown}\n"));
        let ours = line(LogFormat::Text, text, &[("word", text.replace(' ', "").as_str().into())]);
        assert!(ours.contains(&format!(": {shown} word={}", shown.replace(' ', ""))), "{ours}");
    }
    let line = style(LogFormat::Json, &[]).collector(Level::Info, b"<0>a");
    assert!(line.starts_with('{') && line.contains(r#""msg":"<0>a""#), "{line}");
}

#[test]
fn dropped_lines_are_counted() {
    let line = style(LogFormat::Json, &[]).dropped(7);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((json["level"].as_str(), json["count"].as_u64()), (Some("warn"), Some(7)));
}
