//! How foreign text is shown: with nothing left in it that a terminal obeys or that misleads a reader's eye.
//!
//! Whatever the API, the collector or a certificate says passes through here before it stands on a terminal or in a
//! log.

use std::borrow::Cow;
use std::fmt::Write;

/// Control characters (C0, DEL, C1), line separators, the marks that reorder a line on screen (Unicode's Bidi_Control),
/// and what is not seen at all: zero-width spaces, annotations, the byte order mark, tags.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Appends `c`, escaped as Rust does it if it is invisible.
pub fn push(line: &mut String, c: char) {
    if is_invisible(c) { line.extend(c.escape_default()) } else { line.push(c) }
}

/// `text` on one line.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| push(&mut line, c));
    Cow::Owned(line)
}

/// `text` in as many lines as it has, those after the first behind `indentation`; tabulators stay, as collectors use
/// them.
pub fn lines(text: &str, indentation: &str) -> String {
    let mut lines = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => {
                lines.push('\n');
                lines.push_str(indentation);
            }
            '\t' => lines.push('\t'),
            c => push(&mut lines, c),
        }
    }
    lines
}

/// `text` as a JSON string, on one line and with nothing invisible in it.
pub fn json_string(text: &str) -> String {
    json(&serde_json::to_string(text).expect("any text is a JSON string"))
}

/// JSON as serde writes it, on one line or many, with the invisible characters escaped that JSON lets stand. They can
/// only stand in strings.
pub fn json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            c if c == '\n' || !is_invisible(c) => shown.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // RFC 8259, section 7. Writing to a String does not fail.
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\nb\tc\r\u{1b}[31m\u{7f}\u{9b}2J\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{e0041}é🦀";

    #[test]
    fn one_line_is_one_line() {
        let expected =
            "a\\nb\\tc\\r\\u{1b}[31m\\u{7f}\\u{9b}2J\\u{202e}\\u{2066}\\u{200f}\\u{61c}\\u{2028}\\u{e0041}é🦀";
        assert_eq!(line(NASTY), expected);
        assert!(matches!(line("plain é🦀 👩‍🚀"), Cow::Borrowed(_)));
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(lines("a\nb\tc\u{1b}\r\n", "  "), "a\n  b\tc\\u{1b}\\r\n  ");
    }

    #[test]
    fn json_stays_what_it_is() {
        for text in [serde_json::to_string(NASTY).unwrap(), serde_json::to_string_pretty(&[NASTY]).unwrap()] {
            let shown = json(&text);
            assert!(!shown.replace('\n', "").contains(is_invisible), "{shown}");
            let (before, after): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(&text).unwrap(), serde_json::from_str(&shown).unwrap());
            assert_eq!(before, after);
        }
        assert_eq!(json_string("a\n\"\\\u{1}\u{7f}\u{e0041}é"), r#""a\n\"\\\u0001\u007f\udb40\udc41é""#);
    }
}
