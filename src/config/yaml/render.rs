//! Renders a config as YAML that people can read.
//!
//! What is rendered reads back as the same value in every YAML 1.1 and 1.2 parser: a string is left bare only when no
//! parser could take it for anything else, and is quoted otherwise; nothing is ever folded. `render_proven` shows it
//! for each config before use. Block style, two spaces a level, keys in the order given. No anchors, tags, comments or
//! directives, and no file is touched here.

use std::fmt;

use super::parse::parse_any_depth;
use crate::config::value::Value;

/// Spaces a level, and so also what an indentation indicator says.
const STEP: usize = 2;

/// The longest key, in bytes as rendered, that is written as `key:`. YAML 1.2.2 section 7.4.2 allows 1024 characters;
/// libyaml and its ports count from the key's start to the colon.
const MAX_IMPLICIT_KEY: usize = 1000;

/// YAML 1.1's booleans and null (yaml.org/type), of which YAML 1.2 kept some; readers differ about case.
const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Letters that occur in no YAML number or timestamp: not in hexadecimal digits, `0x`, `0o`, `0b`, an exponent,
/// `inf`, `nan`, `T`, `Z`, nor in `p`, which Go's and C's hexadecimal floats have. With one of them, `30s` or
/// `512MiB` is text to every parser.
const NEVER_IN_A_NUMBER: [char; 26] = [
    'g', 'h', 'j', 'k', 'l', 'm', 'q', 'r', 's', 'u', 'v', 'w', 'y', 'G', 'H', 'J', 'K', 'L', 'M', 'Q', 'R', 'S', 'U',
    'V', 'W', 'Y',
];

/// Renders `value`, reads it back and compares, so that a mistake in here can never reach the collector. `most` is the
/// longest text that is proved, in bytes: a hundred levels make two hundred blanks before each number.
///
/// # Errors
/// A text that is too long; otherwise our own bug, but for one case: `.nan`, which only a hand-written file can hold,
/// is equal to nothing.
pub fn render_proven(value: &Value, most: u64) -> Result<String, Unproven> {
    let text = render(value);
    if text.len() as u64 > most {
        return Err(Unproven::TooLong { most });
    }
    // It has no brackets but empty ones, and those of its texts.
    match parse_any_depth(text.as_bytes()) {
        Ok(back) if back == *value => Ok(text),
        Ok(_) => Err(Unproven::Differs),
        Err(error) => Err(Unproven::Unreadable(error)),
    }
}

/// Why a rendered config must not be used.
#[derive(Debug)]
pub enum Unproven {
    Differs,
    Unreadable(serde_yaml::Error),
    TooLong { most: u64 },
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unproven::Differs => f.write_str("the config reads back from YAML as a different value"),
            Unproven::Unreadable(_) => f.write_str("the config cannot be read back from YAML"),
            Unproven::TooLong { most } => write!(f, "the text is longer than {most} bytes; raise max-config-size"),
        }
    }
}

impl std::error::Error for Unproven {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Unproven::Differs | Unproven::TooLong { .. } => None,
            Unproven::Unreadable(error) => Some(error),
        }
    }
}

/// The YAML text of `value`, ending in a newline.
pub fn render(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(entries) if !entries.is_empty() => object(&mut out, entries, 0),
        Value::Array(items) if !items.is_empty() => array(&mut out, items, 0),
        // Not a literal block: parsers disagree about the indentation of one that is the whole document.
        Value::String(text) => {
            out.push_str(&inline(text));
            out.push('\n');
        }
        _ => leaf(&mut out, value, 0),
    }
    out
}

/// Writes the entries with their keys at column `indent`, where the first one already stands.
fn object(out: &mut String, entries: &[(String, Value)], indent: usize) {
    for (nth, (key, value)) in entries.iter().enumerate() {
        if nth > 0 {
            pad(out, indent);
        }
        let key = inline(key);
        if key.len() > MAX_IMPLICIT_KEY {
            out.push_str("? ");
            out.push_str(&key);
            out.push('\n');
            pad(out, indent);
        } else {
            out.push_str(&key);
        }
        out.push(':');
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                out.push('\n');
                pad(out, indent + STEP);
                object(out, entries, indent + STEP);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                pad(out, indent + STEP);
                array(out, items, indent + STEP);
            }
            _ => {
                out.push(' ');
                leaf(out, value, indent);
            }
        }
    }
}

/// Writes the items with their dashes at column `indent`, where the first one already stands.
fn array(out: &mut String, items: &[Value], indent: usize) {
    for (nth, item) in items.iter().enumerate() {
        if nth > 0 {
            pad(out, indent);
        }
        out.push_str("- ");
        match item {
            Value::Object(entries) if !entries.is_empty() => object(out, entries, indent + STEP),
            Value::Array(items) if !items.is_empty() => array(out, items, indent + STEP),
            _ => leaf(out, item, indent),
        }
    }
}

/// Writes what fits on the current line, or a literal block below it; `indent` is that of the key or dash before it.
fn leaf(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Integer(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::String(text) => match literal_header(text) {
            Some(header) => return literal(out, text, &header, indent + STEP),
            None => out.push_str(&inline(text)),
        },
    }
    out.push('\n');
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// A form that is a float everywhere: YAML 1.1 wants a dot in the mantissa and a sign in the exponent.
fn float(number: f64) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let shortest = format!("{number:?}");
    let Some((mantissa, exponent)) = shortest.split_once('e') else { return shortest };
    let dot = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{mantissa}{dot}e{sign}{exponent}")
}

/// `text` on one line: bare, in single quotes when that spares backslashes, or in double quotes.
fn inline(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else if text.contains(['"', '\\']) && !text.contains(must_be_escaped) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        double_quoted(text)
    }
}

/// Whether every parser takes `text`, unquoted, for this very string. Stricter than any YAML version asks for.
fn is_plain(text: &str) -> bool {
    let starts_well = match text.chars().next() {
        Some('0'..='9') => text.contains(NEVER_IN_A_NUMBER),
        // The npm package yaml, in its 1.1 mode, reads e64 as a number.
        Some('e' | 'E' | '_') => text.contains(|c: char| c.is_alphabetic() && !matches!(c, 'e' | 'E')),
        Some('a'..='z' | 'A'..='Z' | '/' | '$') => true,
        Some(first) => !first.is_ascii() && first.is_alphabetic(),
        None => false,
    };
    starts_well
        && text.chars().all(|c| if c.is_ascii() { matches!(c, ' '..='~') } else { c.is_alphanumeric() })
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Controls, line breaks of any kind, the byte order mark and noncharacters: no YAML stream may hold some of these,
/// and editors and terminals do what they like with the others.
fn must_be_escaped(c: char) -> bool {
    let code = u32::from(c);
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fdd0}'..='\u{fdef}')
        || code & 0xfffe == 0xfffe
}

/// Uses only the escapes that JSON and YAML 1.1 and 1.2 share, and `\x`, which both YAML versions have.
fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if !must_be_escaped(c) => out.push(c),
            _ => match u32::from(c) {
                code @ 0..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push('"');
    out
}

/// The header of the literal block that holds `text` faithfully, or `None` when there is none or quotes serve people
/// better.
///
/// A line of nothing but blanks is where parsers disagree, about indentation, and where editors strip.
fn literal_header(text: &str) -> Option<String> {
    let is_blank = |line: &str| line.trim_matches([' ', '\t']).is_empty();
    let first = text.lines().find(|line| !line.is_empty())?;
    let faithful = text.contains('\n')
        && !text.contains(|c| c != '\n' && c != '\t' && must_be_escaped(c))
        && !text.lines().any(|line| !line.is_empty() && is_blank(line));
    if !faithful {
        return None;
    }
    // Without the indicator a parser would count these blanks as indentation.
    let indentation = if first.starts_with([' ', '\t']) { STEP.to_string() } else { String::new() };
    let chomping = match text.strip_suffix('\n') {
        None => "-",
        Some(rest) if rest.ends_with('\n') => "+",
        Some(_) => "",
    };
    Some(format!("|{indentation}{chomping}"))
}

fn literal(out: &mut String, text: &str, header: &str, indent: usize) {
    out.push_str(header);
    out.push('\n');
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            pad(out, indent);
            out.push_str(line);
        }
        out.push('\n');
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
