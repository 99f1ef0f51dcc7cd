//! Which place of an overlay an error is about: one that sets what the error quotes, and the config does not.
//!
//! Pure. The place is keys only, so it tells no value.

use crate::config::value::Value;

/// Shorter texts are in many an error by chance.
const SHORTEST: usize = 4;

/// The first such place, as the collector joins keys: a text that the error has as a whole word, else a component.
pub fn quoted_place(error: &str, overlay: &Value, config: &Value) -> Option<String> {
    let is_quoted = |text: &str| text.len() >= SHORTEST && has_word(error, text);
    let text = find(overlay, &mut Vec::new(), &|_, value| value.as_str().is_some_and(is_quoted))
        .filter(|(_, value)| find(config, &mut Vec::new(), &|_, other| other == *value).is_none());
    let component = || {
        find(overlay, &mut Vec::new(), &|place, _| match place {
            [section, id] if *section != "service" => {
                error.contains(&format!("\"{id}\"")) && config.get(section).is_none_or(|it| it.get(id).is_none())
            }
            _ => false,
        })
    };
    text.or_else(component).map(|(place, _)| place)
}

/// Not within a longer name, path or address.
fn has_word(error: &str, text: &str) -> bool {
    let is_inner = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-/.".contains(byte));
    error.match_indices(text).any(|(at, _)| {
        let (before, after) = (&error.as_bytes()[..at], &error.as_bytes()[at + text.len()..]);
        !is_inner(before.last()) && !is_inner(after.first())
    })
}

fn find<'a>(
    value: &'a Value,
    above: &mut Vec<&'a str>,
    is_it: &dyn Fn(&[&str], &Value) -> bool,
) -> Option<(String, &'a Value)> {
    if is_it(above, value) {
        return Some((above.join("::"), value));
    }
    match value {
        Value::Object(entries) => entries.iter().find_map(|(key, value)| {
            above.push(key);
            let found = find(value, above, is_it);
            above.pop();
            found
        }),
        Value::Array(items) => items.iter().find_map(|item| find(item, above, is_it)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    #[test]
    fn what_only_the_overlay_sets_is_found_by_what_the_error_quotes() {
        let config = "receivers: {otlp: {protocols: {http: {endpoint: 127.0.0.1:4318}}}}\nexporters: {otlp: {a: info}}";
        let ca = "exporters: {otlp: {tls: {ca_file: /etc/ca.pem}}}";
        for (overlay, error, place) in [
            (ca, "failed to load /etc/ca.pem: no such file or directory", "exporters::otlp::tls::ca_file"),
            (ca, "failed to load /x/etc/ca.pem: no such file", ""),
            (ca, "open /etc/ca.pem.old: no such file", ""),
            (ca, "listen tcp 127.0.0.1:4318: bind: address already in use", ""),
            ("receivers: {otlp: {hosts: [x, \"1.2.3.4:5\"]}}", "listen tcp 1.2.3.4:5: bind", "receivers::otlp::hosts"),
            ("receivers: {otlp: {hosts: [\"1.2.3.4:5\"]}}", "listen tcp 1.2.3.4:55: bind", ""),
            ("exporters: {otlp/site: {}}", "failed to start \"otlp/site\" exporter: boom", "exporters::otlp/site"),
            // The config has it too.
            ("exporters: {otlp: {b: info}}", "info: failed to start \"otlp\" exporter: boom", ""),
            ("a: tcp", "listen tcp", ""),
        ] {
            let [overlay, config] = [overlay, config].map(|text| yaml::parse(text.as_bytes()).unwrap());
            assert_eq!(quoted_place(error, &overlay, &config).unwrap_or_default(), place, "{error}");
        }
    }
}
