//! The text of a setting that is a list: its items, put together.

use std::fmt::Write;

/// What separates the items. In one of them it is a control character, which no item may have.
pub const SEPARATOR: char = '\n';

/// Adds an item, as it was given.
pub fn push(text: &mut String, item: &str) {
    if !text.is_empty() {
        text.push(SEPARATOR);
    }
    text.extend(item.chars().map(|c| if c == SEPARATOR { '\r' } else { c }));
}

pub fn of_items<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    items.into_iter().filter(|item| !item.is_empty()).for_each(|item| push(&mut text, item));
    text
}

/// As it is shown: words, those with a blank in quotes.
pub fn shown(text: &str) -> String {
    let mut words = String::new();
    for item in text.split(SEPARATOR) {
        let blank = if words.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = if item.contains(' ') { write!(words, "{blank}{item:?}") } else { write!(words, "{blank}{item}") };
    }
    words
}
