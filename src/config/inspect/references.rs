//! The expansions in a config, `${scheme:body}`: where they are, and what those of the environment are replaced with.
//!
//! The one reader of them. Pure: the environment is asked through a function; what another provider (`${file:…}`) would
//! give is unknown here.
//! It follows the collector's confmap (expand.go, provider/envprovider), of which four things matter to a judge of
//! configs. The innermost expansion goes first, and its result is read again: so a scheme can be put together. What a
//! variable holds, or its default, is YAML when it is the whole of a value: `${env:UNSET:-a: "\x24\x7bfile:…\x7d"}`
//! is a map with an expansion in it. After an odd number of dollars `${` is literal (confmap 1.51 then leaves the rest
//! of the text alone too; here it is read on). Keys are never expanded.

use std::cell::RefCell;

use crate::config::value::Value;
use crate::config::yaml;

/// The value of an environment variable of the collector; `None` when it is not set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What an expansion gives: of a scheme, which is unknown (`None`) if it is an expansion itself, and of what is behind
/// it. `None` leaves the expansion as it is written.
type Provider<'a> = dyn Fn(Option<&str>, &str) -> Option<String> + 'a;

/// What is expanded in what was expanded at most: enough for variables that name variables.
const MAX_DEPTH: u32 = 8;
/// Bytes of values that are read again at most in one config: more is a bomb, for the collector too.
const MAX_BYTES: usize = 1 << 20;
/// Bytes of a body that are kept: a path or a URL, to name it in a message.
const MAX_BODY: usize = 256;
/// Bytes of all places and bodies that are kept: twenty thousand expansions.
const MAX_FOUND: usize = 4 << 20;
/// What an expansion counts for besides its texts.
const FOUND_SHARE: usize = 128;

/// One `${…}` of a config that the collector would expand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expansion {
    /// The keys above it, as confmap joins them: `service::telemetry::logs::level`; of a list, the index.
    pub place: String,
    /// `env` also when none is written; `None` when it is an expansion itself, or nobody can tell what is expanded.
    pub scheme: Option<String>,
    /// What is behind the scheme, cut after 256 bytes.
    pub body: String,
}

impl Expansion {
    /// Whether it reads a variable of the environment and nothing else.
    pub fn is_env(&self) -> bool {
        self.scheme.as_deref() == Some(ENV)
    }
}

const ENV: &str = "env";

/// Every expansion in `config`, with those that only show when a variable or its default is put in. Of more than there
/// is room for, the rest is one with an unknown scheme.
pub fn expansions(config: &Value, env: &Env<'_>) -> Vec<Expansion> {
    let provider = from_environment(env);
    let mut expander = Expander::new(&provider);
    expander.value(config, &Place::Top, 0);
    expander.found
}

/// Asks for each expansion in `text`, the innermost first. Whether that were all: there is a bound.
pub fn each_expansion(text: &str, provider: &Provider<'_>) -> bool {
    let mut expander = Expander::new(provider);
    expander.feed(&mut Out::default(), text, &Place::Top, false, 0);
    expander.found.iter().all(|it| it.scheme.is_some())
}

/// `config` as the collector reads it: with the environment put in, which may add keys and lists. Other expansions stay
/// as they are written.
pub fn expanded(config: &Value, env: &Env<'_>) -> Value {
    Expander::new(&from_environment(env)).value(config, &Place::Top, 0)
}

/// What the environment holds under each name that `config` refers to.
pub fn referenced(config: &Value, env: &Env<'_>) -> Vec<String> {
    // No more than the environment has.
    let values = RefCell::new(Vec::new());
    let asked = |name: &str| {
        let value = env(name)?;
        let mut values = values.borrow_mut();
        if !values.contains(&value) {
            values.push(value.clone());
        }
        Some(value)
    };
    Expander::new(&from_environment(&asked)).value(config, &Place::Top, 0);
    values.into_inner()
}

/// `text` with its references to the environment replaced; `None` when it has any other.
pub fn expand(text: &str, env: &Env<'_>) -> Option<String> {
    let provider = from_environment(env);
    let mut expander = Expander::new(&provider);
    let mut out = Out::default();
    expander.feed(&mut out, text, &Place::Top, false, 0);
    expander.found.iter().all(Expansion::is_env).then(|| unescape(&out.text))
}

/// Where a value is.
enum Place<'a> {
    Top,
    Key(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl Place<'_> {
    fn write(&self, to: &mut String) {
        let (above, last) = match self {
            Place::Top => return,
            Place::Key(above, key) => (above, key.to_string()),
            Place::Index(above, index) => (above, index.to_string()),
        };
        above.write(to);
        if !to.is_empty() {
            to.push_str("::");
        }
        to.push_str(&last);
    }
}

/// A text that is being expanded.
#[derive(Default)]
struct Out {
    text: String,
    /// How many dollars it ends in.
    dollars: usize,
    /// Those that are open, the innermost last.
    open: Vec<Open>,
}

/// A `${` without its `}` yet.
struct Open {
    at: usize,
    /// How many dollars are right before it.
    dollars: usize,
    /// Where the first expansion inside of it was.
    inner_at: Option<usize>,
}

impl Out {
    fn push(&mut self, c: char) {
        self.dollars = if c == '$' { self.dollars + 1 } else { 0 };
        self.text.push(c);
    }

    /// Whatever is at `at` is the result of an expansion.
    fn mark(&mut self, at: usize) {
        if let Some(open) = self.open.last_mut() {
            open.inner_at.get_or_insert(at);
        }
    }
}

struct Expander<'a> {
    provider: &'a Provider<'a>,
    found: Vec<Expansion>,
    /// Bytes for what is found.
    room: usize,
    bytes_left: usize,
}

impl<'a> Expander<'a> {
    fn new(provider: &'a Provider<'a>) -> Expander<'a> {
        Expander { provider, found: Vec::new(), room: MAX_FOUND, bytes_left: MAX_BYTES }
    }

    fn value(&mut self, value: &Value, place: &Place<'_>, depth: u32) -> Value {
        match value {
            Value::String(text) => {
                let mut out = Out::default();
                let tree = self.feed(&mut out, text, place, true, depth);
                tree.unwrap_or_else(|| Value::String(unescape(&out.text)))
            }
            Value::Array(items) => {
                let item = |(index, item)| self.value(item, &Place::Index(place, index), depth);
                Value::Array(items.iter().enumerate().map(item).collect())
            }
            Value::Object(entries) => {
                let entry =
                    |(key, value): &(String, Value)| (key.clone(), self.value(value, &Place::Key(place, key), depth));
                Value::Object(entries.iter().map(entry).collect())
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => value.clone(),
        }
    }

    /// Appends `text`, expanded. `is_last`: nothing follows, so that an expansion may be the whole; then what it gives
    /// if that is a list or a map.
    fn feed(&mut self, out: &mut Out, text: &str, place: &Place<'_>, is_last: bool, depth: u32) -> Option<Value> {
        if !text.contains(['$', '{', '}']) {
            text.chars().for_each(|c| out.push(c));
            return None;
        }
        for (at, c) in text.char_indices() {
            match c {
                '{' if out.dollars > 0 => {
                    let (at, dollars) = (out.text.len() - 1, out.dollars - 1);
                    out.open.push(Open { at, dollars, inner_at: None });
                    out.push(c);
                }
                '}' => match out.open.pop() {
                    Some(open) if open.dollars.is_multiple_of(2) => {
                        let is_whole = is_last && open.at == 0 && at + 1 == text.len();
                        if let Some(tree) = self.close(out, &open, place, is_whole, depth) {
                            return Some(tree);
                        }
                    }
                    Some(_) | None => out.push(c),
                },
                c => out.push(c),
            }
        }
        None
    }

    /// Replaces what is open with what it gives; left as it is if that is not known.
    fn close(&mut self, out: &mut Out, open: &Open, place: &Place<'_>, is_whole: bool, depth: u32) -> Option<Value> {
        let body_at = open.at + "${".len();
        let (scheme, body) = out.text[body_at..].split_once(':').unwrap_or((ENV, &out.text[body_at..]));
        let scheme_end = out.text.len() - body.len();
        let is_known = open.inner_at.is_none_or(|inner_at| inner_at >= scheme_end && scheme_end > body_at);
        let scheme = is_known.then_some(scheme);
        let value = (self.provider)(scheme, body);
        self.note(place, scheme, body);
        out.mark(open.at);
        let value = value.filter(|value| {
            let is_bounded = depth < MAX_DEPTH && value.len() <= self.bytes_left;
            self.bytes_left = self.bytes_left.saturating_sub(value.len());
            if !is_bounded {
                self.note(place, None, "");
            }
            is_bounded
        });
        let Some(value) = value else {
            out.push('}');
            return None;
        };
        out.text.truncate(open.at);
        out.dollars = open.dollars;
        if is_whole && let Some(tree) = self.whole(&value, place, depth + 1) {
            return Some(tree);
        }
        self.feed(out, &value, place, is_whole, depth + 1)
    }

    /// What a value that is the whole of a text gives if that is a list or a map.
    fn whole(&mut self, value: &str, place: &Place<'_>, depth: u32) -> Option<Value> {
        // A tag may hide a text (!!binary), and this reader is stricter than Go's.
        match yaml::parse(value.as_bytes()) {
            Ok(tree @ (Value::Array(_) | Value::Object(_))) => {
                if value.contains('!') {
                    self.note(place, None, value);
                }
                Some(self.value(&tree, place, depth))
            }
            // Collectors before 0.105 took the text out of its quotes.
            Ok(Value::String(inner)) if inner != value => {
                self.value(&Value::String(inner), place, depth);
                None
            }
            Err(_) if value.contains(['!', '\\']) => {
                self.note(place, None, value);
                None
            }
            Ok(_) | Err(_) => None,
        }
    }

    fn note(&mut self, place: &Place<'_>, scheme: Option<&str>, body: &str) {
        if self.room == 0 {
            return;
        }
        let mut path = String::new();
        place.write(&mut path);
        let cut = |text: &str| text[..text.floor_char_boundary(MAX_BODY)].to_owned();
        let body = cut(body);
        self.room = self.room.saturating_sub(path.len() + body.len() + FOUND_SHARE);
        let scheme = scheme.filter(|_| self.room > 0).map(cut);
        self.found.push(Expansion { place: path, scheme, body });
    }
}

/// The value of a variable: of `NAME` or `NAME:-default`. One that is set, even to nothing, beats the default; one that
/// is unset is empty. `None` for what the collector refuses.
fn from_environment<'a>(env: &'a Env<'a>) -> impl Fn(Option<&str>, &str) -> Option<String> + 'a {
    move |scheme, body| {
        if scheme != Some(ENV) {
            return None;
        }
        let (name, default) = body.split_once(":-").unwrap_or((body, ""));
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !is_name || default.contains('$') {
            return None;
        }
        Some(env(name).unwrap_or_else(|| default.to_owned()))
    }
}

/// What confmap does last.
fn unescape(text: &str) -> String {
    text.replace("$$", "$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let set = [
            ("A", "alpha"),
            ("EMPTY", ""),
            ("NESTED", "${env:A}-${file:/n}"),
            ("ITSELF", "x${env:ITSELF}"),
            ("LIST", "[1, two]"),
            ("DOLLAR", "5$"),
            ("BRACE", "x}"),
        ];
        set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    /// `scheme:body` of each, `?` for an unknown scheme.
    fn listed(text: &str) -> Vec<String> {
        let found = expansions(&Value::String(text.to_owned()), &env);
        found.iter().map(|it| format!("{}:{}", it.scheme.as_deref().unwrap_or("?"), it.body)).collect()
    }

    /// As the collector 0.145 expands them when they are `service::telemetry::logs::level`; but it stops at the first
    /// that is escaped.
    #[test]
    fn expansions_are_those_of_confmap() {
        for (text, expected) in [
            ("plain $ {} $5 $A ${", &[][..]),
            ("x${file:/etc/hostname}", &["file:/etc/hostname"]),
            ("${A} ${env:A} ${env:B:-c:d}", &["env:A", "env:A", "env:B:-c:d"]),
            ("$${file:/a} $$${file:/b} $$$${file:/c}", &["file:/b"]),
            ("$${ ${file:/a} }", &["file:/a"]),
            ("${http://h/${env:A}/x}", &["env:A", "http://h/alpha/x"]),
            ("${fi${env:NO:-l}e:/a}", &["env:NO:-l", "?:/a"]),
            ("${${env:NO:-file}:/a}", &["env:NO:-file", "?:/a"]),
            ("${${env:NO:-file:/a}}", &["env:NO:-file:/a", "?:/a"]),
            ("${env:${A}}", &["env:A", "env:alpha"]),
            ("${env:NESTED}", &["env:NESTED", "env:A", "file:/n"]),
            ("${env:DOLLAR}{file:/a}", &["env:DOLLAR", "file:/a"]),
            ("${file:${env:BRACE}", &["env:BRACE", "file:x"]),
            ("${yaml:a: 1}", &["yaml:a: 1"]),
            ("${nosuch:x}", &["nosuch:x"]),
            (r#"${env:NO:-a: ["\x24\x7bfile:/a\x7d"]}"#, &[r#"env:NO:-a: ["\x24\x7bfile:/a\x7d"]"#, "file:/a"]),
            (r#"${env:NO:-"\x24\x7bfile:/a\x7d"}"#, &[r#"env:NO:-"\x24\x7bfile:/a\x7d""#, "file:/a"]),
            (
                "${env:NO:-[!!binary JHtmaWxlOi9hfQ==]}",
                &["env:NO:-[!!binary JHtmaWxlOi9hfQ==]", "?:[!!binary JHtmaWxlOi9hfQ==]"],
            ),
        ] {
            assert_eq!(listed(text), expected, "{text}");
        }
    }

    #[test]
    fn a_place_is_written_as_confmap_writes_it() {
        let text = r#"
service: {telemetry: {logs: {level: "${file:/a}"}}}
"a::b": [x, {c: "${env:A}"}]
"${file:/k}": 1
whole: '${env:NO:-inner: ["\x24\x7bhttp:x\x7d"]}'
"#;
        let found = expansions(&yaml::parse(text.as_bytes()).unwrap(), &env);
        let places: Vec<&str> = found.iter().map(|it| it.place.as_str()).collect();
        assert_eq!(places, ["service::telemetry::logs::level", "a::b::1::c", "whole", "whole::inner::0"]);
        assert!(!found[0].is_env() && found[1].is_env() && found[2].is_env() && !found[3].is_env());
    }

    #[test]
    fn a_config_is_expanded_as_the_collector_does_it() {
        for (text, expected) in [
            ("$5 $$5 $${A} ${A}", r#""$5 $5 ${A} alpha""#),
            ("${env:LIST}", r#"[1,"two"]"#),
            ("x${env:LIST}", r#""x[1, two]""#),
            ("${env:NO:-a: ${env:A}}", r#"{"a":"alpha"}"#),
            ("${env:EMPTY:-b}${env:NO}", r#""""#),
            ("${file:/a} ${env:A}", r#""${file:/a} alpha""#),
        ] {
            let expected: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(expanded(&Value::String(text.to_owned()), &env), expected, "{text}");
        }
        assert_eq!(expand("${env:LIST}:${A}", &env).as_deref(), Some("[1, two]:alpha"));
        assert_eq!(expand("${env:NESTED}", &env), None);
    }

    #[test]
    fn a_bomb_ends() {
        assert_eq!(listed("${env:ITSELF}").last().map(String::as_str), Some("?:"));
        let deep = format!("{}a{}", "${env:NO:-".repeat(100_000), "}".repeat(100_000));
        let others = format!("{}a{}", "${file:".repeat(100_000), "}".repeat(100_000));
        let long = "${env:NESTED}".repeat(100_000);
        for text in [deep, others, long, "$".repeat(1 << 20) + &"${}".repeat(100_000)] {
            let found = listed(&text);
            assert!(found.iter().map(|it| it.len() + FOUND_SHARE).sum::<usize>() < MAX_FOUND * 2, "{}", found.len());
            assert!(found.len() < 100_000, "{}", found.len());
        }
        let last = |count| listed(&"${A}".repeat(count)).pop().unwrap();
        assert_eq!((last(20_000).as_str(), last(100_000).as_str()), ("env:A", "?:A"));
    }
}
