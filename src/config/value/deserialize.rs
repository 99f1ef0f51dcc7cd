//! Reads JSON and YAML into one and the same tree, strictly, and within a budget of memory.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};

use super::{Entry, Value, find, sorted};

/// How much one reading may bring to memory, whatever the text is that it is read from: dense JSON takes thirty times
/// its length, and YAML's aliases have no limit of their own.
#[derive(Debug)]
pub struct ReadBudget {
    most: usize,
    left: Cell<usize>,
}

/// Bytes of text that count as one value: about what a value itself takes.
const TEXT_SHARE: usize = 64;

impl ReadBudget {
    /// `most` values, keys not counted; `TEXT_SHARE` bytes of text count as one more.
    pub fn new(most: usize) -> ReadBudget {
        ReadBudget { most, left: Cell::new(most) }
    }

    fn take<E: de::Error>(&self, count: usize) -> Result<(), E> {
        match self.left.get().checked_sub(count) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                Err(de::Error::custom(format_args!("it has more than {} values", self.most)))
            }
        }
    }

    /// Whether a reading failed for want of it.
    pub fn is_used_up(&self) -> bool {
        self.left.get() == 0
    }
}

/// Reads a tree, within a budget.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    budget: &'a ReadBudget,
    /// The key `<<` merges maps.
    is_yaml: bool,
    /// With this character behind it, it does not.
    literal: Option<char>,
}

/// YAML's key whose value is merged into the map that it is in (yaml.org/type/merge).
const MERGE: &str = "<<";

impl<'a> Tree<'a> {
    pub fn json(budget: &'a ReadBudget) -> Tree<'a> {
        Tree { budget, is_yaml: false, literal: None }
    }

    /// Of a text in which each `<<` in quotes, which is a text like any other, has `literal` behind it, if any has: the
    /// parser does not say which it is.
    pub fn yaml(budget: &'a ReadBudget, literal: Option<char>) -> Tree<'a> {
        Tree { budget, is_yaml: true, literal }
    }

    /// A text that may have been a `<<` in quotes.
    fn literal(self, text: String) -> String {
        match self.literal {
            Some(mark) if text.contains(mark) => text.replace(&format!("{MERGE}{mark}"), MERGE),
            _ => text,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.budget.take(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a config value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    /// An empty YAML document.
    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    /// serde_yaml calls the 128-bit ones only for what fits neither `i64` nor `u64`.
    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Float(number as f64))
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<Value, E> {
        Ok(Value::Float(number as f64))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.budget.take(text.len() / TEXT_SHARE)?;
        Ok(Value::String(self.literal(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            items.push(item);
        }
        items.shrink_to_fit();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry_seed(Key(self), self)? {
            entries.push(entry);
        }
        if let Some(key) = repeated_key(&entries) {
            return Err(de::Error::custom(format_args!("duplicate key {key:?}")));
        }
        if self.is_yaml {
            merge(&mut entries).map_err(de::Error::custom)?;
            entries.iter_mut().for_each(|(key, _)| *key = self.literal(std::mem::take(key)));
        }
        entries.shrink_to_fit();
        Ok(Value::Object(entries))
    }

    /// serde_yaml shows a node with a local tag as an enum.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (tag, _): (String, _) = tagged.variant()?;
        Err(de::Error::custom(format_args!("the YAML tag !{tag} is not supported, remove it")))
    }
}

/// Sorts instead of comparing each with each: a config of 4 MiB can hold half a million keys.
fn repeated_key(entries: &[Entry]) -> Option<&str> {
    sorted(entries).windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0.as_str())
}

/// Does what `<<` says: the keys of its map, or of its list of maps, are added to those that are there; what comes
/// first holds, and what is there anyway comes before all.
fn merge(entries: &mut Vec<(String, Value)>) -> Result<(), &'static str> {
    let Some(at) = entries.iter().position(|(key, _)| key == MERGE) else { return Ok(()) };
    let maps = match entries.remove(at).1 {
        Value::Array(maps) => maps,
        map => vec![map],
    };
    let is_map = |map| if let Value::Object(entries) = map { Some(entries) } else { None };
    let maps: Option<Vec<_>> = maps.into_iter().map(is_map).collect();
    let mut maps = maps.ok_or("a merge (<<) takes a map or a list of maps")?;
    // Two by two, since there may be as many maps as keys.
    while maps.len() > 1 {
        let mut rest = maps.into_iter();
        maps = Vec::new();
        while let Some(mut map) = rest.next() {
            add_missing(&mut map, rest.next().unwrap_or_default());
            maps.push(map);
        }
    }
    add_missing(entries, maps.pop().unwrap_or_default());
    Ok(())
}

/// Adds those of the other map whose keys are not there.
fn add_missing(entries: &mut Vec<Entry>, mut others: Vec<Entry>) {
    let known = sorted(entries);
    others.retain(|(key, _)| find(&known, key).is_none());
    entries.append(&mut others);
}

/// A key, as text. What is no text in YAML becomes what it becomes in the collector, whose Go prints it with `%v`:
/// `404:` is "404", `1.50:` is "1.5", `~:` is `<nil>`. Lists and maps are refused, there as here.
struct Key<'a>(Tree<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        match deserializer.deserialize_any(Tree::json(self.0.budget))? {
            Value::String(text) => Ok(text),
            Value::Integer(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Float(number) => Ok(printed_by_go(number)),
            Value::Null => Ok("<nil>".to_string()),
            Value::Array(_) | Value::Object(_) => Err(de::Error::custom("a key must be text")),
        }
    }
}

/// A float as Go prints it with `%v`: its shortest digits, with an exponent below -4 and from 6 on.
fn printed_by_go(number: f64) -> String {
    if number.is_nan() || number.is_infinite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_string();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent @ (..-4 | 6..)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_counts_values_and_text() {
        let read = |text: &str, most| {
            let budget = ReadBudget::new(most);
            let tree = Tree::json(&budget).deserialize(&mut serde_json::Deserializer::from_str(text));
            assert!(tree.is_ok() || budget.is_used_up());
            tree.map(|_| ()).map_err(|error| error.to_string())
        };
        let text = "x".repeat(TEXT_SHARE);
        for (json, values) in [
            ("1", 1),
            ("[]", 1),
            ("[1,true,null,1.5,\"x\"]", 6),
            (r#"{"a":1,"b":{"c":[[]]}}"#, 5),
            (&format!("[\"{text}\"]"), 3),
            (&format!("{{\"{text}{text}\":1}}"), 4),
        ] {
            assert_eq!(read(json, values), Ok(()), "{json}");
            let error = read(json, values - 1).unwrap_err();
            assert!(error.contains(&format!("it has more than {} values", values - 1)), "{json}: {error}");
        }
    }
}
