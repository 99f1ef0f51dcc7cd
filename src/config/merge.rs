//! Several configs of one collector, merged as its confmap merges them.
//!
//! Maps merge, whatever else comes later replaces what was there, and references are expanded only afterwards
//! (opentelemetry-collector, confmap/resolver.go).

use std::borrow::Cow;

use crate::config::value::{Value, find, sorted};

/// What the collector finds when it is given these, in the order of its `--config` arguments; null for none.
pub fn merge<'a>(configs: &[&'a Value]) -> Cow<'a, Value> {
    let Some((first, later)) = configs.split_first() else { return Cow::Owned(Value::Null) };
    let mut merged = Cow::Borrowed(*first);
    for above in later {
        match above {
            Value::Object(_) => merge_into(merged.to_mut(), above),
            _ => merged = Cow::Borrowed(above),
        }
    }
    merged
}

fn merge_into(below: &mut Value, above: &Value) {
    let (Value::Object(lower), Value::Object(upper)) = (&mut *below, above) else {
        above.clone_into(below);
        return;
    };
    let known = sorted(lower);
    let new: Vec<_> = upper.iter().filter(|(key, _)| find(&known, key).is_none()).cloned().collect();
    let by_key = sorted(upper);
    for (key, value) in &mut *lower {
        if let Some(above) = find(&by_key, key) {
            merge_into(value, above);
        }
    }
    lower.extend(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn merged(configs: &[&str]) -> String {
        let configs: Vec<Value> = configs.iter().map(|config| yaml::parse(config.as_bytes()).unwrap()).collect();
        let layers: Vec<&Value> = configs.iter().collect();
        yaml::render(&merge(&layers)).replace('\n', " ")
    }

    #[test]
    fn maps_merge_and_anything_else_is_replaced() {
        for (configs, expected) in [
            (&[][..], "null "),
            (&["a: 1"], "a: 1 "),
            (&["a: 1", "b: 2", "c: 3"], "a: 1 b: 2 c: 3 "),
            (&["{b: 1, a: 2}", "{c: 3, a: 4, d: 5}"], "b: 1 a: 4 c: 3 d: 5 "),
            (&["a: {b: {c: 1, d: 2}}", "a: {b: {c: 3}}"], "a:   b:     c: 3     d: 2 "),
            (&["a: {b: 1}", "a: null", "a: {c: 2}"], "a:   c: 2 "),
            (&["a: {b: 1}", "a: null"], "a: null "),
            (&["a: [1, 2]", "a: [3]"], "a:   - 3 "),
            (&["a: '${file:x}'", "a: {b: 1}"], "a:   b: 1 "),
            (&["a: 1", "null"], "null "),
            (&["null", "a: 1"], "a: 1 "),
        ] {
            assert_eq!(merged(configs), expected, "{configs:?}");
        }
    }

    #[test]
    fn a_single_config_is_not_copied() {
        let config = Value::Array(Vec::new());
        assert!(matches!(merge(&[&config]), Cow::Borrowed(_)));
    }
}
