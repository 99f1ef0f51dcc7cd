//! What the API answers, and how it is read from the body: strictly, within a budget of memory, and without showing
//! any of it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Unexpected, Visitor};

use crate::config::value::{ReadBudget, Tree, Value};

/// Levels of objects and lists in a config, itself included. serde_json reads 127; one of them is the answer around the
/// config.
pub const MAX_CONFIG_DEPTH: usize = 126;

/// What the API asks for.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub restart_required: bool,
    /// `None` when there is nothing new to say. An object whenever there is one, perhaps an empty one.
    pub config: Option<Value>,
}

/// The body of an answer with status 200, or what is wrong with it and where. Unknown keys are ignored; a known key
/// that comes twice, or anything but white space after the object, is an error: it is not clear what such an answer
/// means.
///
/// A config may have `most_values` values, as `ReadBudget` counts them. An error never repeats a value of the body,
/// which may be secret, though it may name a key; of a body that is no object it has what `beginning` makes of it.
pub fn decode(body: &[u8], most_values: usize, beginning: impl Fn(&[u8]) -> String) -> Result<Answer, String> {
    let allowance = ReadBudget::new(most_values);
    read_object(body, Wanted(&allowance), &allowance, MAX_CONFIG_DEPTH, beginning)
}

/// One JSON object and nothing after it, as `wanted` reads it. That it is nested too deep is said of a config in it,
/// which may have `max_depth` levels.
pub(super) fn read_object<'de, V: Visitor<'de>>(
    body: &'de [u8],
    wanted: V,
    allowance: &ReadBudget,
    max_depth: usize,
    beginning: impl Fn(&[u8]) -> String,
) -> Result<V::Value, String> {
    match body.trim_ascii_start().first() {
        Some(b'{') => {}
        Some(_) => return Err(format!("expected a JSON object, but it starts with '{}'", beginning(body))),
        None => return Err("expected a JSON object, but it is empty".to_owned()),
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let answer = reader.deserialize_any(wanted).and_then(|answer| reader.end().map(|()| answer));
    answer.map_err(|error| match error.to_string() {
        text if text.starts_with("recursion limit exceeded") => {
            format!("its config is nested deeper than {max_depth} levels; send one that is flatter")
        }
        text if allowance.is_used_up() => format!("{text}; raise max-config-size"),
        text => text,
    })
}

/// Reads what is wanted of an answer.
struct Wanted<'a>(&'a ReadBudget);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Answer;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Answer, A::Error> {
        let (mut restart_required, mut config) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "restart_required" if restart_required.is_some() => {
                    return Err(Error::duplicate_field("restart_required"));
                }
                "restart_required" => restart_required = Some(map.next_value_seed(Flag)?),
                "config" if config.is_some() => return Err(Error::duplicate_field("config")),
                "config" => config = Some(map.next_value_seed(Config(self.0))?),
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(Answer { restart_required: restart_required.unwrap_or_default(), config: config.flatten() })
    }
}

pub(super) struct Flag;

impl<'de> DeserializeSeed<'de> for Flag {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Flag {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("restart_required to be true, false or null")
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<bool, E> {
        Err(not_a_string(&self))
    }
}

/// A config under any name: an object or null.
pub(super) struct Config<'a>(pub(super) &'a ReadBudget);

impl<'de> DeserializeSeed<'de> for Config<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Config<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("config to be an object or null")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Value>, A::Error> {
        Tree::json(self.0).visit_map(map).map(Some)
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Option<Value>, E> {
        Err(not_a_string(&self))
    }
}

/// Serde would show the string: a whole config, for instance, that was sent as text.
pub(super) fn not_a_string<E: Error>(expected: &dyn serde::de::Expected) -> E {
    E::invalid_type(Unexpected::Other("string"), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_VALUES: usize = 1000;

    fn read(body: &[u8]) -> Result<Answer, String> {
        decode(body, MAX_VALUES, |body| String::from_utf8_lossy(body).into_owned())
    }

    #[test]
    fn answers_are_read() {
        let config: Option<Value> = serde_json::from_str(r#"{"receivers":{"otlp":null}}"#).ok();
        let empty: Option<Value> = serde_json::from_str("{}").ok();
        for (body, restart_required, config) in [
            ("{}", false, None),
            (" \n{ }\r\n\t ", false, None),
            (r#"{"restart_required":true}"#, true, None),
            (r#"{"restart_required":null,"config":null}"#, false, None),
            (r#"{"config":{},"restart_required":true}"#, true, empty),
            (r#"{"config":{"receivers":{"otlp":null}},"more":[1,{"config":2}]}"#, false, config),
            (r#"{"Config":{},"more":1,"more":2}"#, false, None),
        ] {
            assert_eq!(read(body.as_bytes()), Ok(Answer { restart_required, config }), "{body}");
        }
    }

    #[test]
    fn unreadable_answers_say_what_and_where() {
        for (body, expected) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("[true,{}]", "starts with '[true,{}]'"),
            ("null", "starts with 'null'"),
            ("<html>\n<body>", "starts with '<html>\n<body>'"),
            ("\u{feff}{}", "starts with '\u{feff}{}'"),
            (r#"{"config":{}} {}"#, "trailing characters at line 1 column 15"),
            (r#"{"config":{}"#, "EOF while parsing an object at line 1 column 12"),
            ("{\"config\":\n[1]}", "invalid type: sequence, expected config to be an object or null at line 2 column"),
            (r#"{"config":"receivers:"}"#, "expected config to be an object or null at line 1 column 22"),
            (r#"{"config":false}"#, "expected config to be an object or null"),
            (
                r#"{"restart_required":"true"}"#,
                "expected restart_required to be true, false or null at line 1 column 26",
            ),
            (r#"{"restart_required":1}"#, "expected restart_required to be true, false or null"),
            (r#"{"config":{},"config":null}"#, "duplicate field `config`"),
            (r#"{"restart_required":true,"restart_required":true}"#, "duplicate field `restart_required`"),
            ("{\"config\":{\"a\":\"\u{1}\"}}", "control character"),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
        assert!(read(b"{\"config\":\"\xff\"}").is_err() && read(b"{\"config\":{\"\xff\":1}}").is_err());
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
        assert!(read(format!("{{\"config\":{}", "{\"a\":".repeat(100_000)).as_bytes()).is_err());
    }

    #[test]
    fn an_error_never_repeats_a_value() {
        for body in [
            r#"{"config":"password: SECRET"}"#,
            r#"{"restart_required":"SECRET"}"#,
            r#"{"config":["SECRET"]}"#,
            r#"{"config":{"a":"SECRET","b":"SECRET","a":"SECRET"}}"#,
            r#"{"config":{"a":"SECRET"},"config":{"a":"SECRET"}}"#,
            r#"{"config":{"a":"SECRET\ud800"}}"#,
            r#"{"config":{"a":"SECRET"#,
            r#"{"config":{"a":"SECRET"} SECRET"#,
            r#"{"config":{"a":1e999,"b":"SECRET"}}"#,
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(!error.contains("SECRET"), "{body}: {error}");
        }
    }

    #[test]
    fn a_config_of_too_many_values_is_not_read() {
        let config = |count: usize| format!("{{\"config\":{{\"a\":[{}1]}}}}", "1,".repeat(count - 1));
        // The list is one, the config itself is not counted.
        assert!(read(config(MAX_VALUES - 1).as_bytes()).is_ok());
        let error = read(config(MAX_VALUES).as_bytes()).unwrap_err();
        assert!(error.contains("more than 1000 values") && error.ends_with("; raise max-config-size"), "{error}");
        // What is not wanted takes no memory.
        assert!(read(config(MAX_VALUES).replace("config", "more").as_bytes()).is_ok());
    }

    #[test]
    fn a_config_may_be_126_levels_deep_and_a_deeper_one_is_refused_with_the_limit() {
        let answer = |depth: usize| {
            let config = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            decode(format!("{{\"config\":{config}}}").as_bytes(), MAX_VALUES, |_| String::new())
        };
        assert!(answer(MAX_CONFIG_DEPTH).unwrap().config.is_some());
        let refusal = answer(MAX_CONFIG_DEPTH + 1).unwrap_err();
        assert_eq!(refusal, "its config is nested deeper than 126 levels; send one that is flatter");
    }
}
