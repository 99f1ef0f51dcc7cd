//! What the value at a place is: nothing, an address to send to or listen at, texts.

use super::components;
use crate::config::value::Value;

pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Whether a component says where it listens or sends: in each of its protocols, if it has some.
pub fn names_address(value: &Value) -> bool {
    let Some(entries) = value.as_object() else { return false };
    if let Some(protocols) = value.get("protocols").and_then(Value::as_object) {
        return !protocols.is_empty() && protocols.iter().all(|(_, protocol)| names_address(protocol));
    }
    entries.iter().any(|(key, value)| match value {
        Value::Object(_) => names_address(value),
        _ => components::is_address(key) && !is_empty(value) && texts(value).is_some(),
    })
}

/// The texts of a list, or of a text, which the collector takes apart at commas. `None`: anything else.
pub fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(text.split(',').collect()),
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}
