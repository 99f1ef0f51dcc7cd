//! Reads JSON and YAML into one and the same tree, strictly, and within a budget of memory.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};

use super::Value;

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
pub struct Tree<'a>(pub &'a ReadBudget);

impl Tree<'_> {
    fn text<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.0.take(text.len() / TEXT_SHARE)?;
        Ok(Value::String(text.to_owned()))
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take(1)?;
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
        self.text(text)
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
        entries.shrink_to_fit();
        match repeated_key(&entries) {
            Some(key) => Err(de::Error::custom(format_args!("duplicate key {key:?}"))),
            None => Ok(Value::Object(entries)),
        }
    }

    /// serde_yaml shows a node with a local tag as an enum.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (tag, _): (String, _) = tagged.variant()?;
        Err(de::Error::custom(format_args!("the YAML tag !{tag} is not supported, remove it")))
    }
}

/// Sorts instead of comparing each with each: a config of 4 MiB can hold half a million keys.
fn repeated_key(entries: &[(String, Value)]) -> Option<&str> {
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// A key, as text. YAML's integers and booleans become their text, as they do in the collector (`404:` is "404");
/// other types are refused, since a null or a list under which something is filed is a slip of the pen.
struct Key<'a>(Tree<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        match deserializer.deserialize_any(self.0)? {
            Value::String(text) => Ok(text),
            Value::Integer(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Null | Value::Float(_) | Value::Array(_) | Value::Object(_) => {
                Err(de::Error::custom("a key must be text"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_counts_values_and_text() {
        let read = |text: &str, most| {
            let budget = ReadBudget::new(most);
            let tree = Tree(&budget).deserialize(&mut serde_json::Deserializer::from_str(text));
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
