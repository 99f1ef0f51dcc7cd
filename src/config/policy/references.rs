//! Which providers a config's text asks for values, as the collector's confmap finds its references
//! (confmap/expand.go).
//!
//! The innermost reference is expanded first, and what comes out is searched again; `$${` is an escape. Variables of
//! this host may be set or not: what a reference says as their default is the source's text, and becomes a part of the
//! config.

/// Stands for what a reference is replaced with.
const EXPANDED: char = '\u{fffc}';

/// Whether the text may be something else when the collector has expanded it, or a template of its own
/// (receiver_creator's backticks).
pub fn is_variable(text: &str) -> bool {
    text.contains(['$', '`'])
}

/// # Errors
/// Why the references of this text are not all to these providers.
pub fn judge(text: &str, providers: &[String]) -> Result<(), &'static str> {
    if !text.contains("${") {
        return Ok(());
    }
    // What has no closing brace yet.
    let mut open = String::new();
    for c in text.chars() {
        if c != '}' {
            open.push(c);
            continue;
        }
        let Some(start) = open.rfind("${") else {
            open.clear();
            continue;
        };
        let before = &open[..start];
        let is_escaped = (before.len() - before.trim_end_matches('$').len()) % 2 == 1;
        // The collector stops at an escape, unless it has expanded the same text before it: so what follows counts.
        if !is_escaped {
            judge_reference(&open[start + 2..], providers)?;
        }
        open.truncate(start);
        open.push(EXPANDED);
    }
    Ok(())
}

fn judge_reference(reference: &str, providers: &[String]) -> Result<(), &'static str> {
    // Without a scheme it is a variable's name.
    let (scheme, selector) = reference.split_once(':').unwrap_or((reference, ""));
    if scheme.contains(EXPANDED) {
        return Err("the scheme of its reference is a reference itself");
    }
    let scheme = if reference.contains(':') { scheme } else { "env" };
    if !providers.iter().any(|provider| provider == scheme) {
        return Err("it refers to a provider that is not allowed");
    }
    match scheme {
        "env" if !is_simple(selector) => Err("the default value of its reference cannot be judged"),
        _ => Ok(()),
    }
}

/// Whether a variable and its default can become nothing but one text or number. The default is YAML, so it could be a
/// map with any key, or a text with escapes that is expanded again.
fn is_simple(selector: &str) -> bool {
    let (name, default) = selector.split_once(":-").unwrap_or((selector, ""));
    let mut before = ':';
    let mut is_plain = |c: char| {
        let fits =
            c.is_ascii_alphanumeric() || "._-/:@%+=~*,?".contains(c) || c == ' ' && before.is_ascii_alphanumeric();
        before = c;
        fits
    };
    let is_scalar = default.chars().all(&mut is_plain) && !default.ends_with(':');
    !name.contains(EXPANDED) && (is_scalar || default.chars().eq([EXPANDED]))
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
            "${$${env:S}:/x}",
        ] {
            assert_eq!(verdict(text), Err("the scheme of its reference is a reference itself"), "{text}");
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
            "${env:UNSET:-- /tmp/x}",
            "${env:UNSET:-{file:/x}",
            "${env:UNSET:-$}",
            "${env:UNSET:-!!map x}",
            "${env:UNSET:-a #b}",
            "${env:UNSET:-${env:A} x}",
            "${env:${env:A}}",
            "${env:U${env:V:-:-x}}",
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

    /// It takes time in proportion to the text.
    #[test]
    fn a_text_of_references_alone_is_judged_at_once() {
        let began_at = std::time::Instant::now();
        for text in ["${a}".repeat(1 << 18), "${".repeat(1 << 19) + &"}".repeat(1 << 19), "$".repeat(1 << 20) + "{}"] {
            let _ = verdict(&text);
        }
        assert!(began_at.elapsed() < std::time::Duration::from_secs(5), "{:?}", began_at.elapsed());
    }
}
