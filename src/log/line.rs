//! How one log line looks, as JSON and as text. Pure: the clock, the secrets and the record come in, a line with its
//! newline goes out.
//!
//! A line is always one line, but for a stack trace of the collector's in text: control characters are escaped in both
//! forms, so that nobody who gets a text into a message, a field or the collector's output can forge a line or drive a
//! terminal. Secrets are masked piece by piece
//! before escaping, since an escaped secret would no longer be recognised.

use std::fmt::Write;
use std::time::SystemTime;

use log::kv::{self, Key, VisitSource, VisitValue};
use log::{Level, Record};

use crate::log::LogFormat;
use crate::log::masked::Masked;
use crate::log::redact::Secrets;
use crate::log::sanitize::{self, json_string};
use crate::log::utc::Utc;

/// The target of the collector's own lines.
pub const COLLECTOR: &str = "collector";

/// Longest collector line that is passed on, in bytes (DESIGN.md, "Measurements"); the rest of a longer one is cut off.
const MAX_COLLECTOR_LINE: usize = 64 * 1024;

/// What all lines of one moment have in common.
pub struct Style<'a> {
    pub format: LogFormat,
    /// The reader is the journal, which takes a line's priority from its beginning (sd-daemon(3)).
    pub is_journal: bool,
    pub at: SystemTime,
    pub secrets: &'a [&'a Secrets],
}

impl Style<'_> {
    fn mask(&self, text: &str) -> Masked {
        Masked::with(self.secrets, text)
    }

    /// One of the agent's records, with its fields.
    pub fn record(&self, record: &Record) -> String {
        let target = record.target();
        let target = target.strip_prefix("kmagent::").unwrap_or(target);
        let mut line = self.start(record.level(), target, &self.mask(&record.args().to_string()));
        // A field whose `Display` fails is left out; the line is worth more than the field.
        let _ = record.key_values().visit(&mut Fields { style: self, line: &mut line });
        self.end(line)
    }

    /// One record of the collector's output: in JSON one line, in text as many as it has, which newlines separate.
    pub fn collector(&self, level: Level, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes.trim_ascii_end());
        // Masked before it is cut, or the cut could leave a part of a secret.
        let text = self.mask(&text).cut(MAX_COLLECTOR_LINE);
        match self.format {
            LogFormat::Json => self.end(self.start(level, COLLECTOR, &text)),
            LogFormat::Text => {
                let mut lines = String::with_capacity(text.len() + 8);
                for text in text.split('\n') {
                    lines.push_str(self.priority(level));
                    if looks_like_ours(text) {
                        lines.push_str("collector: ");
                    }
                    for (at, c) in text.char_indices() {
                        if c == '\t' { lines.push(c) } else { push(&mut lines, &text[at..], c) }
                    }
                    lines.push('\n');
                }
                lines
            }
        }
    }

    /// Stands in for `count` lines that could not be written.
    pub fn dropped(&self, count: u64) -> String {
        let message = self.mask("log lines dropped: the reader of stderr is too slow");
        let mut line = self.start(Level::Warn, "logger", &message);
        self.field(&mut line, "count", &Field::Bare(count.to_string()));
        self.end(line)
    }

    /// What tells the journal the priority of a line.
    fn priority(&self, level: Level) -> &'static str {
        match level {
            _ if !self.is_journal => "",
            Level::Error => "<3>",
            Level::Warn => "<4>",
            Level::Info => "<6>",
            Level::Debug | Level::Trace => "<7>",
        }
    }

    fn start(&self, level: Level, target: &str, message: &Masked) -> String {
        let at = Utc::from(self.at);
        let mut line = String::with_capacity(100 + message.len());
        line.push_str(self.priority(level));
        match self.format {
            LogFormat::Json => {
                let level = level.as_str().to_ascii_lowercase();
                let _ = write!(line, r#"{{"ts":"{at}","level":"{level}","target":"#);
                line.push_str(&json_string(target));
                line.push_str(r#","msg":"#);
                line.push_str(&json_string(message));
            }
            LogFormat::Text => {
                let _ = write!(line, "{at} {level:<5} ");
                target.chars().for_each(|c| sanitize::push(&mut line, c));
                line.push_str(": ");
                push_all(&mut line, message);
            }
        }
        line
    }

    fn field(&self, line: &mut String, key: &str, field: &Field) {
        let (text, is_bare) = match field {
            Field::Bare(text) => (text, true),
            Field::Text(text) => (text, false),
        };
        // A number with a masked part is no number any more.
        let masked = self.mask(text);
        let (is_bare, text) = (is_bare && *masked == **text, masked);
        match self.format {
            LogFormat::Json => {
                line.push(',');
                line.push_str(&json_string(key));
                line.push(':');
                if is_bare { line.push_str(&text) } else { line.push_str(&json_string(&text)) }
            }
            LogFormat::Text => {
                line.push(' ');
                key.chars().for_each(|c| sanitize::push(line, c));
                line.push('=');
                let is_word = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || "\"\\=".contains(c));
                if is_word {
                    push_all(line, &text);
                } else {
                    push_quoted(line, &text);
                }
            }
        }
    }

    fn end(&self, mut line: String) -> String {
        line.push_str(if self.format == LogFormat::Json { "}\n" } else { "\n" });
        line
    }
}

/// A field's value, rendered: `Bare` is valid JSON as it stands.
enum Field {
    Bare(String),
    Text(String),
}

struct Fields<'a> {
    style: &'a Style<'a>,
    line: &'a mut String,
}

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let mut field = Field::Bare("null".to_owned());
        value.visit(&mut field)?;
        self.style.field(self.line, key.as_str(), &field);
        Ok(())
    }
}

impl Field {
    fn bare(&mut self, value: impl ToString) -> Result<(), kv::Error> {
        *self = Field::Bare(value.to_string());
        Ok(())
    }
}

impl VisitValue<'_> for Field {
    fn visit_any(&mut self, value: kv::Value) -> Result<(), kv::Error> {
        *self = Field::Text(value.to_string());
        Ok(())
    }
    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.bare("null")
    }
    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.bare(value)
    }
    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.bare(value)
    }
    fn visit_u128(&mut self, value: u128) -> Result<(), kv::Error> {
        self.bare(value)
    }
    fn visit_i128(&mut self, value: i128) -> Result<(), kv::Error> {
        self.bare(value)
    }
    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        // JSON has neither NaN nor infinity.
        *self = if value.is_finite() { Field::Bare(value.to_string()) } else { Field::Text(value.to_string()) };
        Ok(())
    }
    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.bare(value)
    }
}

fn push_quoted(line: &mut String, text: &str) {
    line.push('"');
    for (at, c) in text.char_indices() {
        if c == '"' || c == '\\' {
            line.push('\\');
        }
        push(line, &text[at..], c);
    }
    line.push('"');
}

fn push_all(line: &mut String, text: &str) {
    text.char_indices().for_each(|(at, c)| push(line, &text[at..], c));
}

/// Appends `c`, with which `rest` begins, escaped where it misleads: also in a priority, `<0>`, which the journal takes
/// from the beginning of a line (sd-daemon(3)), or of what it makes one of when a line is longer than its LineMax: a
/// collector could choose one that is shown on every terminal.
fn push(line: &mut String, rest: &str, c: char) {
    let is_priority = || {
        let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
        (1..=3).contains(&digits) && rest[1 + digits..].starts_with('>')
    };
    if c == '<' && is_priority() { line.extend(c.escape_unicode()) } else { sanitize::push(line, c) }
}

/// Whether a line begins as ours do in text form: a time stamp, a blank, a level. The collector's own have a tab there.
fn looks_like_ours(text: &str) -> bool {
    const LENGTH: usize = "2026-11-22T14:04:37.123Z ".len();
    let shape = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
    text.bytes().take(LENGTH).map(shape).eq(*b"0000-00-00T00:00:00.000Z ")
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
