//! Strings and trees that parsers could take for something else, and what is rendered of them.

use super::*;
use crate::config::yaml::parse;

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn prove(value: &Value) -> String {
    render_proven(value, u64::MAX).unwrap_or_else(|error| panic!("{error}: {value:?}\n{}", render(value)))
}

/// What some parser takes for a number, date, boolean, null or syntax.
#[rustfmt::skip]
const TAKEN_FOR_ANYTHING_ELSE: &[&str] = &[
    // Numbers of YAML 1.1, 1.2, Go and C.
    "0", "1", "-1", "+1", "007", "0755", "-0755", "0o7", "0O7", "0x1F", "-0x1F", "0XFF", "0b1", "0B1", "1_000",
    "0x_1F", "1e3", "1E3", "1e+3", "1.5e-3", "1.", ".5", "-.5", "+.5", "1.0", "1,000", "0x1p-2", "1.2.3.4",
    "12:30", "12:30:45", "-1:30", "190:20:30.15", ".inf", "-.inf", "+.Inf", ".INF", ".nan", ".NaN", "1e",
    "e64", "E04_1", "e", "__e1", "_1", "0.", "1_", "123456789012345678901234567890", "1e999", "0x", "0b", "0o", "1d", "1f",
    // Timestamps.
    "2001-12-14", "2001-1-1", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10 -5",
    "2001-12-15T02:59:43.1Z",
    // Words.
    "y", "Y", "n", "N", "yes", "Yes", "YES", "no", "No", "on", "On", "ON", "off", "OFF", "oFF", "true", "True",
    "TRUE", "tRuE", "false", "null", "Null", "NULL", "nUlL", "~", "",
    // Syntax.
    "-", "?", ":", ",", "[", "]", "{", "}", "#", "&", "*", "!", "|", ">", "'", "\"", "%", "@", "`", "=", "<<",
    "---", "...", "--- a", "- a", "? a", ": a", "a: b", "a:", "a #b", "#a", "&a", "*a", "!a", "!!str a", "|-",
    ">-", "'a'", "\"a\"", "%YAML 1.1", "@a", "`a`", "[a]", "{a: b}", "[", "-a", "?a", ":a", "a:  b", ",a", "<<a",
    // Blanks, breaks and what YAML cannot hold.
    " ", "  ", " a", "a ", "\t", "\ta", "a\t", "a\tb", "a: \t", "\n", "\n\n", "\r", "\r\n", "a\r\nb", "a\rb",
    "a\u{85}b", "\u{85}", "\u{2028}", "a\u{2029}b", "\u{feff}", "\u{feff}a", "a\u{feff}", "\0", "a\0b", "\u{1}",
    "\u{1b}[31m", "\u{7f}", "\u{80}", "\u{9f}", "\u{a0}", "\u{a0}a", "a\u{a0}", "\u{2003}a", "\u{3000}",
    "\u{fffe}", "\u{ffff}", "\u{fdd0}", "\u{1fffe}", "\u{10ffff}", "\u{fffd}", "\u{200b}", "\u{202e}a", "\u{d7ff}",
    "\u{e000}", "🦀", "1️⃣",
];

#[rustfmt::skip]
const LEFT_BARE: &[&str] = &[
    "a", "otlp", "batch/2", "30s", "5m", "512MiB", "100ms", "https://otel.example.com:4318", "localhost:4317",
    "/var/log/*.log", "${env:KM_API_KEY}", "${env:PORT:-4317}", "Bearer ${env:TOKEN}", "$${x}", "__address__",
    "a:b", "a#b", "a  b", "it's", "yesterday", "nullable", "x-api-key", "a, b", "say \"hi\"", "k8s.pod.name",
    "Grüße", "日本語", "a\\b", "end?", "endpoint", "e3x",
];

#[rustfmt::skip]
const MULTI_LINE: &[&str] = &[
    "a\nb", "a\nb\n", "a\nb\n\n", "a\n\n\n", "a\n", "\na", "\n\na\n", " a\nb", "\n  a\n b\n", "\ta\nb", "a\n\tb\n",
    "a\n b\n  c\n", "a \nb", "a\n \nb", "a\n\t\nb", " \na", "a\n ", "a\n\t", "- a\n- b\n", "a: b\nc: d\n",
    "# a\n# b\n", "---\na\n...\n", "%a\n%b", "a\n\nb", "a\n#b", "a\r\nb\r\n", "a\n\u{85}b", "a\n\u{2028}b",
    "\u{feff}a\nb", "a\n\u{feff}b", "|\na", "\"a\nb\"", "'a\n'", "🦀\né\n",
];

#[test]
fn nasty_strings_read_back_in_every_position() {
    let long = "x".repeat(5000);
    let long_words = "word ".repeat(400);
    let long_lines = format!("{long}\n{long_words}\nend");
    let others = [long.as_str(), &long_words, &long_lines];
    let all = [TAKEN_FOR_ANYTHING_ELSE, LEFT_BARE, MULTI_LINE, others.as_slice()].concat();
    for &case in &all {
        let pair = || (case.to_owned(), text(case));
        let list = Value::Array(vec![text(case), text(case)]);
        prove(&text(case));
        prove(&list);
        prove(&Value::Object(vec![pair()]));
        prove(&Value::Object(vec![(case.to_owned(), Value::Object(vec![pair(), ("tail".to_owned(), list.clone())]))]));
        prove(&Value::Array(vec![Value::Object(vec![pair(), ("tail".to_owned(), Value::Null)]), list.clone()]));
        prove(&Value::Array(vec![Value::Array(vec![Value::Object(vec![(case.to_owned(), list)])]), Value::Null]));
    }
    let every: Vec<_> = all.iter().map(|case| text(case)).collect();
    prove(&Value::Array(every));
}

#[test]
fn only_what_no_parser_mistakes_is_left_bare() {
    for case in TAKEN_FOR_ANYTHING_ELSE.iter().chain(MULTI_LINE) {
        assert!(!is_plain(case) || *case == "{case:?}");
    }
    for case in LEFT_BARE {
        assert_eq!(inline(case), *case);
    }
}

#[test]
fn quotes() {
    let cases = [
        ("", r#""""#),
        ("10", r#""10""#),
        ("0.0.0.0:4317", r#""0.0.0.0:4317""#),
        (r"^\d+$", r"'^\d+$'"),
        (r#"{"a": 'b'}"#, r#"'{"a": ''b''}'"#),
        ("\"\t\\", r#""\"\t\\""#),
        ("\0\u{1b}\u{85}\u{2028}\u{feff}\u{ffff}\u{10ffff}", r#""\x00\x1b\x85\u2028\ufeff\uffff\U0010ffff""#),
        ("é 🦀", r#""é 🦀""#),
    ];
    for (case, expected) in cases {
        assert_eq!(inline(case), expected);
    }
}

#[test]
fn numbers_keep_their_type() {
    let cases = [
        ("0", "0"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("18446744073709551615", "18446744073709551615"),
        ("1.0", "1.0"),
        ("-0.0", "-0.0"),
        ("0.1", "0.1"),
        ("1e3", "1000.0"),
        ("1e300", "1.0e+300"),
        ("1.5e300", "1.5e+300"),
        ("5e-324", "5.0e-324"),
        ("123456789012345678901234567890", "1.2345678901234568e+29"),
    ];
    for (number, expected) in cases {
        assert_eq!(prove(&json(number)).trim_end(), expected);
    }
    for infinite in [f64::INFINITY, f64::NEG_INFINITY] {
        prove(&Value::Float(infinite));
    }
    assert!(matches!(render_proven(&Value::Float(f64::NAN), 100), Err(Unproven::Differs)));
}

#[test]
fn a_text_that_is_too_long_is_not_proved() {
    let deep = json(&format!("{}1,1,1{}", "[".repeat(100), "]".repeat(100)));
    let length = render(&deep).len() as u64;
    assert!(length > 600 && render_proven(&deep, length).is_ok());
    let error = render_proven(&deep, length - 1).unwrap_err();
    assert!(error.to_string().ends_with("bytes; raise max-config-size"), "{error}");
}

#[test]
fn layout() {
    let config = json(
        r##"{"receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:4317"}, "http": null}}, "filelog": {
                "include": ["/var/log/*.log"], "operators": [{"type": "regex_parser", "regex": "^(?P<a>\\d+): \"x\"$"}, {}], "on": [[1, [2.0]], []]}},
                "processors": {"transform": {"script": "set(a)\n  # why\nset(b)\n", "note": "  a\nb", "tail": "a\n\n"}},
                "service": {"pipelines": {"traces": {"receivers": ["otlp"]}}, "extensions": [], "telemetry": {}}}"##,
    );
    let expected = r##"receivers:
  otlp:
    protocols:
      grpc:
        endpoint: "0.0.0.0:4317"
      http: null
  filelog:
    include:
      - /var/log/*.log
    operators:
      - type: regex_parser
        regex: '^(?P<a>\d+): "x"$'
      - {}
    "on":
      - - 1
        - - 2.0
      - []
processors:
  transform:
    script: |
      set(a)
        # why
      set(b)
    note: |2-
        a
      b
    tail: |+
      a

service:
  pipelines:
    traces:
      receivers:
        - otlp
  extensions: []
  telemetry: {}
"##;
    assert_eq!(prove(&config), expected);
}

#[test]
fn long_keys_are_explicit() {
    let key = "k".repeat(MAX_IMPLICIT_KEY);
    let config = Value::Object(vec![(key.clone(), json("1")), (format!("{key}k"), json(r#"{"a":[1]}"#))]);
    assert_eq!(prove(&config), format!("{key}: 1\n? {key}k\n:\n  a:\n    - 1\n"));
}

/// No anchor, alias, tag or merge key is ever written, whatever a string looks like: it would begin with one of these,
/// bare.
#[test]
fn nothing_rendered_refers_to_anything() {
    for text in ["&a", "*a", "&a x", "*", "&", "!", "!!str", "!a b", "<<", "%TAG", "&a [*a]"] {
        let case = Value::Object(vec![(text.to_owned(), Value::Array(vec![Value::String(text.to_owned())]))]);
        let yaml = prove(&case);
        let bare = |token: &str| token.starts_with(['&', '*', '!', '%']) || token.starts_with("<<");
        assert!(!yaml.lines().flat_map(|line| line.split_whitespace()).any(bare), "{yaml}");
    }
    assert_eq!(prove(&json(r#"{"<<":{"a":1},"b":"*a & b"}"#)), "\"<<\":\n  a: 1\nb: \"*a & b\"\n");
}

#[test]
fn the_deepest_json_can_be_rendered_and_read_back() {
    prove(&json(&format!("{}1{}", "[".repeat(127), "]".repeat(127))));
    prove(&json(&format!("{}1{}", "{\"a\":".repeat(127), "}".repeat(127))));
}

#[test]
fn random_trees_read_back() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..4000 {
        let tree = random.tree(4);
        let yaml = prove(&tree);
        assert_eq!(parse(yaml.as_bytes()).unwrap().revision(), tree.revision());
    }
}

/// Marsaglia's xorshift64: enough to wander, and the same walk on every machine.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    fn one_of<'a>(&mut self, cases: &[&'a str]) -> &'a str {
        cases[self.below(cases.len())]
    }

    fn string(&mut self) -> String {
        let pieces = self.below(4) + 1;
        (0..pieces)
            .map(|_| match self.below(5) {
                0 => self.one_of(TAKEN_FOR_ANYTHING_ELSE).to_owned(),
                1 => self.one_of(LEFT_BARE).to_owned(),
                2 => self.one_of(MULTI_LINE).to_owned(),
                3 => self.one_of(&[" ", "\n", "\t", ":", "#", "0", "1", ".", "e", "-", "'", "\"", "\\"]).to_owned(),
                _ => char::from_u32(self.below(0x11_0000) as u32).map_or(String::new(), String::from),
            })
            .collect()
    }

    fn tree(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => Value::Integer(i128::from(self.bits()) - (1 << 63)),
            3 => Value::Float(Some(f64::from_bits(self.bits())).filter(|f| f.is_finite()).unwrap_or(0.5)),
            4 | 5 => Value::String(self.string()),
            6 | 7 => Value::Array((0..self.below(5)).map(|_| self.tree(depth - 1)).collect()),
            _ => {
                let mut entries: Vec<(String, Value)> = Vec::new();
                for _ in 0..self.below(5) {
                    let key = self.string();
                    if entries.iter().all(|(taken, _)| *taken != key) {
                        entries.push((key, self.tree(depth - 1)));
                    }
                }
                Value::Object(entries)
            }
        }
    }
}
