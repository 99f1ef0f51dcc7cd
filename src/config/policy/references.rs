//! Which providers a config's text asks for values.
//!
//! Variables of this host may be set or not, and their values are the host's own: each expansion is replaced with a
//! mark, and what one says as its default is the source's text, which may become a part of the config.

use std::cell::Cell;

use super::address;
use crate::config::inspect::each_expansion;
use crate::config::value::Value;
use crate::config::yaml;

/// Stands for what an expansion is replaced with.
const EXPANDED: char = '\u{fffc}';

/// Of lists in a default: each level is looked at again for each item.
const MAX_NESTING: usize = 8;

/// Whether the text may be something else when the collector has expanded it, or a template of its own
/// (receiver_creator's backticks).
pub fn is_variable(text: &str) -> bool {
    text.contains(['$', '`'])
}

/// The text with the one variable whose value is known, which is in what an exporter's endpoint is by default.
pub fn with_endpoint(text: &str, endpoint: Option<&str>) -> String {
    let references = ["${env:KM_COLLECTOR_ENDPOINT}", "${KM_COLLECTOR_ENDPOINT}"];
    let Some(endpoint) = endpoint else { return text.to_string() };
    references.iter().fold(text.to_string(), |text, reference| text.replace(reference, endpoint))
}

/// # Errors
/// Why the references of this text are not all to these providers.
pub fn judge(text: &str, providers: &[String]) -> Result<(), &'static str> {
    if !text.contains("${") {
        return Ok(());
    }
    let (verdict, has_any) = (Cell::new(Ok(())), Cell::new(false));
    let are_all = each_expansion(text, &|scheme, selector| {
        has_any.set(true);
        verdict.set(verdict.get().and_then(|()| judge_reference(scheme, selector, providers)));
        Some(EXPANDED.to_string())
    });
    verdict.get()?;
    // A value may end in a dollar. An escaped reference counts, as the collector replaces that too if the text has it
    // a second time.
    if has_any.get() && text.contains("}{") {
        return Err("it has { right behind a reference, which makes another one of a value that ends in $");
    }
    if are_all { Ok(()) } else { Err("it has too many references") }
}

fn judge_reference(scheme: Option<&str>, selector: &str, providers: &[String]) -> Result<(), &'static str> {
    let Some(scheme) = scheme else { return Err("the scheme of its reference is a reference itself") };
    if !providers.iter().any(|provider| provider == scheme) {
        return Err("it refers to a provider that is not allowed");
    }
    match scheme {
        "env" if !is_simple(selector) => Err("the default value of its reference cannot be judged"),
        _ => Ok(()),
    }
}

/// Whether a variable and its default can become nothing but texts and numbers without references. The default is YAML,
/// so it could be a map with any key, or a text with escapes that is expanded again. A name with a dollar may have an
/// escaped reference.
fn is_simple(selector: &str) -> bool {
    let (name, default) = selector.split_once(":-").unwrap_or((selector, ""));
    !name.contains([EXPANDED, '$']) && (is_plain(default) || default.chars().eq([EXPANDED]))
}

/// A `{` may become a reference behind a dollar, `!` is a tag, and what an escape stands for only a YAML reader knows.
/// A `}` is in no default: it ends the reference.
fn is_plain(default: &str) -> bool {
    let fits = |c: char| (c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric()) && !"$\\{}!`".contains(c);
    default.chars().all(fits)
        && yaml::nesting(default.as_bytes()) <= MAX_NESTING
        && match yaml::parse(default.as_bytes()) {
            Ok(value) => has_no_map(&value),
            // For the collector it is a text then, but its reader may be less strict.
            Err(_) => {
                !default.contains([' ', ',', '"', '\'']) && (address::host(default).is_some() || is_word(default))
            }
        }
}

/// Characters that no YAML reader takes for a map when no blank is between them and none is a bracket.
fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@%+=~*".contains(c)) && !text.ends_with(':')
}

fn has_no_map(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => items.iter().all(has_no_map),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Result<(), &'static str> {
        judge(text, &["env".to_string()])
    }

    #[test]
    fn the_environment_and_escapes_are_fine() {
        for text in [
            "",
            "$",
            "${",
            "}",
            "a } b ${",
            "${X}",
            "a ${X} b ${env:Y} c",
            "${env:X}${env:X}",
            "${env:X:-}",
            "${env:X:-localhost:4317}",
            "${env:X:-https://a.example:4318/v1?a=b}",
            "${env:X:-two words}",
            "${env:X:-*}",
            "${env:X:--1.5}",
            "${env:X:-\"127.0.0.1\"}",
            "${env:X:-'a: b'}",
            "${env:X:-[]}",
            "${env:X:-[a, \"b\"]}",
            "${env:X:-a, b}",
            "${env:X:-https://a.example/?a=b&c=d;e#f}",
            "${env:X:-[::1]:4317}",
            "${env:X:-::1}",
            "${env:X:-#fff}",
            "${env:X:-(none)}",
            "${env:X:-it's}",
            "${env:X:-a #b}",
            "${env:X:-gött}",
            "${env:X:-- /tmp/x}",
            "${env:X:-${env:Y}}",
            "${env:X:-${env:Y:-z}}",
            "$${file:/etc/shadow}",
            "$$$${file:/etc/shadow}",
            "$${1}:9100",
            "$file:/etc/shadow",
            "{file:/etc/shadow}",
        ] {
            assert_eq!(verdict(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn any_other_provider_is_found_wherever_it_stands() {
        for text in [
            "${file:/etc/shadow}",
            "x${file:/etc/shadow}",
            "${http://169.254.169.254/}",
            "${https://a.example/}",
            "${yaml:a: b}",
            "${ENV:X}",
            "${X:-default}",
            "${:x}",
            "$$${file:/etc/shadow}",
            "${env:X} ${file:/x}",
            "${$${env:S}:/x}",
            "${env:X:-${file:/x}}",
            "${file:${env:X}}",
            "} ${file:/x}",
            "${ ${file:/x}",
            "${file:/a\nb}",
            // The collector replaces all of one text at once, escaped or not, and goes on.
            "${env:A} $${env:A} ${file:/x}",
            "$${1} ${file:/x}",
        ] {
            assert_eq!(verdict(text), Err("it refers to a provider that is not allowed"), "{text}");
        }
    }

    #[test]
    fn a_scheme_that_is_an_expansion_is_refused() {
        for text in [
            "${${env:S}:/etc/shadow}",
            "${f${env:S}e:/etc/shadow}",
            "${${env:S:-file}:/etc/shadow}",
            "${${env:S}}",
            "${${X}}",
        ] {
            assert_eq!(verdict(text), Err("the scheme of its reference is a reference itself"), "{text}");
        }
    }

    /// A value may end in a dollar, or be nothing.
    #[test]
    fn a_brace_behind_a_reference_is_refused() {
        for text in [
            "${env:KM_API_KEY}{file:/etc/shadow}",
            "x${KM_API_KEY}{file:/etc/shadow}",
            "${env:X:-a}{file:/etc/shadow}",
            "${env:A}${env:B}{file:/etc/shadow}",
            "$$${env:UNSET}{file:/etc/shadow}",
            "${env:UNSET} $${env:UNSET}{file:/etc/shadow}",
        ] {
            let why = verdict(text).expect_err(text);
            assert!(why.starts_with("it has { right behind a reference"), "{text}: {why}");
        }
        for text in ["$${1}{a}", "a}{b ${", "${env:X} {a}", "${env:X}/{a}", "{a}${env:X}", "%{a}-%{b} ${env:X}"] {
            assert_eq!(verdict(text), Ok(()), "{text}");
        }
    }

    /// A default is YAML, and what it becomes is expanded again.
    #[test]
    fn a_default_that_may_become_anything_is_refused() {
        for text in [
            r#"${env:UNSET:-["\x24\x7bfile:/etc/shadow\x7d"]}"#,
            r#"${env:UNSET:-"\x24\x7bfile:/etc/shadow\x7d"}"#,
            "${env:UNSET:-output_paths: [/tmp/x]}",
            "${env:UNSET:-output_paths:\n- /tmp/x}",
            "${env:UNSET:-output_paths:}",
            "${env:UNSET:-[a: b]}",
            "${env:UNSET:-[\"a\":b]}",
            "${env:UNSET:-- a: b}",
            "${env:UNSET:-? a}",
            "${env:UNSET:-a: &x b}",
            "${env:UNSET:-'a': b}",
            "${env:UNSET:-[a, b: c}",
            "${env:UNSET:-[a:b,*x]}",
            "${env:UNSET:-a:\tb}",
            "${env:UNSET:-a\u{2028}b: c}",
            "${env:UNSET:-\"\\u0024\"}",
            "${env:UNSET:-{}}",
            "${env:UNSET:-`x`}",
            "${env:UNSET:-[[[[[[[[[a]]]]]]]]]}",
            "${env:UNSET:-{file:/x}",
            "${env:UNSET:-$}",
            "${env:UNSET:-!!map x}",
            "${env:UNSET:-${env:A} x}",
            "${env:${env:A}}",
            "${env:U${env:V:-:-x}}",
            "${env:a$${env:X}}",
            "${env:UNSET:-{file:/x} $${env:UNSET:-{file:/x}}",
        ] {
            assert_eq!(verdict(text), Err("the default value of its reference cannot be judged"), "{text}");
        }
    }

    #[test]
    fn a_policy_may_name_more_providers() {
        let providers = ["env", "file"].map(String::from);
        assert_eq!(judge("${file:/run/secrets/key}", &providers), Ok(()));
        assert!(judge("${yaml:a}", &providers).is_err());
        assert!(judge("${X}", &providers[1..]).is_err());
    }

    /// Replaced in a copy each time it would be four hundred times as much.
    #[test]
    #[cfg(unix)]
    fn twenty_times_the_references_cost_little_more_than_twenty_times_as_much() {
        let nested = |count| "${".repeat(count) + &"}".repeat(count);
        let lists = |count| format!("${{env:a:-{}}}", "[".repeat(count));
        for text in [|count| "${a}".repeat(count), nested, lists, |count| "$".repeat(count) + "${}"] {
            let cost = |count| {
                let text: String = text(count);
                crate::thread_time::least(|| {
                    let _ = verdict(&text);
                })
            };
            let (few, many) = (cost(1 << 10), cost(20 << 10));
            assert!(many < few * 100, "{many:?} instead of {few:?}");
        }
    }
}
