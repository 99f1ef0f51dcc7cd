//! A flat YAML mapping as pairs of key and scalar text, and the line of each key.
//!
//! serde_yaml gives neither a scalar's own text beside its type nor any position but an error's. So the text is read
//! several times: for the shapes, for the texts, and up to one key for its line. It knows nothing of settings.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use super::list;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

#[derive(Debug)]
pub struct Pair {
    pub key: String,
    pub shape: Shape,
    /// As it stands in the file, without its quotes; of a list the items, as `list` puts them together. Empty for what
    /// is neither.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Null,
    Boolean,
    /// A string or a number.
    Text,
    /// Of strings, numbers and booleans.
    List,
    Collection,
}

/// All pairs, in the order of the file. Fails with a line and what is wrong there; that never repeats the file's text,
/// which may be secret.
pub fn parse(text: &str) -> Result<Vec<Pair>, (usize, String)> {
    let items = Cell::new(text.len());
    let document = || serde_yaml::Deserializer::from_str(text);
    let pairs = document()
        .deserialize_any(Pass::Shapes(&items))
        .and_then(|pairs| document().deserialize_any(Pass::Texts { pairs, most: text.len() }));
    pairs.map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        // serde_yaml appends the position, which our caller puts in front; and it quotes a value of the wrong type.
        let message = error.to_string();
        let cause = match message.split(" at line ").next().unwrap_or_default() {
            cause if cause.contains("invalid type") => "expected \"key: value\" lines, without tags",
            cause => cause,
        };
        (line, cause.to_string())
    })
}

/// The line, counted from 1, of the key of the pair at `index` in a text that `parse` accepted.
pub fn line_of(text: &str, index: usize) -> usize {
    let outcome = serde_yaml::Deserializer::from_str(text).deserialize_any(Pass::FailAt(index));
    outcome.err().and_then(|error| error.location()).map_or(1, |location| location.line())
}

/// Aliases can multiply what a file holds; nothing else makes more of it than it is long.
const TOO_MUCH: &str = "its YAML aliases expand to too much";

/// What is done at one reading.
enum Pass<'a> {
    /// Pairs of which only the shape is known, within so many items of lists and mappings.
    Shapes(&'a Cell<usize>),
    /// Reads the rest of these. `most`: bytes of all texts together, which only aliases can exceed.
    Texts { pairs: Vec<Pair>, most: usize },
    /// Fails at the key with this index, for the sake of the error's position.
    FailAt(usize),
}

impl<'de> Visitor<'de> for Pass<'_> {
    type Value = Vec<Pair>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    /// A document that says `null`.
    fn visit_unit<E: Error>(self) -> Result<Vec<Pair>, E> {
        Ok(Vec::new())
    }

    /// No document: an empty file.
    fn visit_none<E: Error>(self) -> Result<Vec<Pair>, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Pair>, A::Error> {
        match self {
            Pass::Shapes(items) => {
                let mut pairs = Vec::new();
                while let Some((IgnoredAny, shape)) = map.next_entry_seed(PhantomData, ShapeOf(items))? {
                    pairs.push(Pair { key: String::new(), shape, text: String::new() });
                }
                Ok(pairs)
            }
            Pass::Texts { mut pairs, most: mut left } => {
                for Pair { key, shape, text } in &mut pairs {
                    *key = map.next_key::<String>()?.unwrap_or_default();
                    match shape {
                        // Asked for a string, serde_yaml gives any scalar as it is written.
                        Shape::Boolean | Shape::Text => *text = map.next_value::<String>()?,
                        Shape::List => *text = map.next_value_seed(Items(left))?,
                        Shape::Null | Shape::Collection => _ = map.next_value::<IgnoredAny>()?,
                    }
                    left = left.checked_sub(key.len() + text.len()).ok_or_else(|| Error::custom(TOO_MUCH))?;
                }
                // serde_yaml takes a mapping that is not read to its end for an error.
                map.next_key::<IgnoredAny>()?;
                Ok(pairs)
            }
            Pass::FailAt(index) => {
                for _ in 0..index {
                    map.next_entry::<IgnoredAny, IgnoredAny>()?;
                }
                map.next_key::<NoKey>().map(|_| Vec::new())
            }
        }
    }
}

/// A key that no text is; only an error raised inside a visitor gets the position of the value it visits.
struct NoKey;

impl<'de> Deserialize<'de> for NoKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NoKey, D::Error> {
        deserializer.deserialize_str(NoKey)
    }
}

impl Visitor<'_> for NoKey {
    type Value = NoKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no key")
    }
}

struct ShapeOf<'a>(&'a Cell<usize>);

impl ShapeOf<'_> {
    fn one_more<E: Error>(&self) -> Result<(), E> {
        self.0.set(self.0.get().checked_sub(1).ok_or_else(|| E::custom(TOO_MUCH))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ShapeOf<'_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ShapeOf<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Boolean)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::List;
        while let Some(item) = items.next_element_seed(ShapeOf(self.0))? {
            self.one_more()?;
            if !matches!(item, Shape::Boolean | Shape::Text) {
                shape = Shape::Collection;
            }
        }
        Ok(shape)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            self.one_more()?;
        }
        Ok(Shape::Collection)
    }
}

/// A list of scalars, of so many bytes at most: an alias can repeat a long one.
struct Items(usize);

impl<'de> DeserializeSeed<'de> for Items {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<String, A::Error> {
        let mut text = String::new();
        while let Some(item) = items.next_element::<String>()? {
            list::push(&mut text, &item);
            if text.len() > self.0 {
                return Err(Error::custom(TOO_MUCH));
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_texts_and_lines() {
        let text = "a: 1\nb: ~\n\nc: [1,\n 2]\n'd': yes\ne: {x: y}\n# f\nf: TRUE\ng: |\n h: 1\n? i\n: -1.50\n";
        let pairs = parse(text).unwrap();
        let got: Vec<_> = pairs
            .iter()
            .enumerate()
            .map(|(index, pair)| (&*pair.key, pair.shape, &*pair.text, line_of(text, index)))
            .collect();
        let expected = [
            ("a", Shape::Text, "1", 1),
            ("b", Shape::Null, "", 2),
            ("c", Shape::List, "1\n2", 4),
            ("d", Shape::Text, "yes", 6),
            ("e", Shape::Collection, "", 7),
            ("f", Shape::Boolean, "TRUE", 9),
            ("g", Shape::Text, "h: 1\n", 10),
            ("i", Shape::Text, "-1.50", 12),
        ];
        assert_eq!(got, expected);
    }
}
