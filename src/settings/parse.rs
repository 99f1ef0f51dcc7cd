//! The text of one setting → its value: durations, sizes, switches, words, paths, keys.
//!
//! Pure but for the working directory that a relative path is joined to. Every function fails with the predicate of a
//! sentence whose subject the caller adds (`"abc" is not a duration: …`), so none repeats the text, which may be
//! secret.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::cluster::ClusterMode;
use super::list::SEPARATOR;
use super::{RestartMode, Secret};
use crate::log::LogFormat;

type Parsed<T> = std::result::Result<T, String>;

const HOUR: Duration = Duration::from_secs(3600);

/// `config-check-interval`: 1 s, the least that 1.x could say, to a week. `None`, written `0`, is never.
pub fn interval(text: &str) -> Parsed<Option<Duration>> {
    match duration(text)? {
        Duration::ZERO => Ok(None),
        interval => within(interval, Duration::from_secs(1), 168 * HOUR, "0 (never), or 1s to 168h").map(Some),
    }
}

/// The timeouts: 100 ms, several times what a start or `validate` takes (DESIGN.md, "Measurements"), to an hour.
pub fn timeout(text: &str) -> Parsed<Duration> {
    within(duration(text)?, Duration::from_millis(100), HOUR, "100ms to 1h")
}

/// `confirm-time`: up to a day; a config that fails later has hardly been wrong from the start.
pub fn confirm_time(text: &str) -> Parsed<Duration> {
    within(duration(text)?, Duration::ZERO, 24 * HOUR, "0 to 24h")
}

/// `--splay`: up to a day, since cron runs no `--check` less often.
pub fn splay(text: &str) -> Parsed<Duration> {
    within(duration(text)?, Duration::ZERO, 24 * HOUR, "0 to 24h")
}

fn within(value: Duration, least: Duration, most: Duration, range: &str) -> Parsed<Duration> {
    if (least..=most).contains(&value) { Ok(value) } else { Err(format!("is out of range: it takes {range}")) }
}

/// A count of seconds, or what Go's time.ParseDuration accepts, since 2.x documents it so; never negative.
pub fn duration(text: &str) -> Parsed<Duration> {
    if text.starts_with('-') {
        return Err("is negative: give a positive duration".to_string());
    }
    let malformed = || "is not a duration: write seconds, or units as in 500ms, 60s, 5m, 1h, 1h30m".to_string();
    if let Ok(seconds) = digits(text).ok_or(()).and_then(|text| text.parse().map_err(|_| ())) {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanoseconds = unit_nanoseconds(unit).and_then(|unit| scaled(number, unit)).ok_or_else(malformed)?;
        total = total.checked_add(nanoseconds).ok_or_else(malformed)?;
        rest = tail;
    }
    if text.is_empty() { Err(malformed()) } else { Ok(Duration::from_nanos(total)) }
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number` × `unit`, where `number` may have a fraction (`1.5`).
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let mut total = digits(whole)?.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut place = unit;
    for digit in digits(fraction)?.bytes() {
        place /= 10;
        total = total.checked_add(u64::from(digit - b'0') * place)?;
    }
    Some(total)
}

/// `text` if it is decimal digits and nothing else; `str::parse` would let a sign through.
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

/// `generations`: one at least, as there is an active config; a hundred are listed in a moment.
pub fn generations(text: &str) -> Parsed<usize> {
    let count = digits(text).and_then(|text| text.parse().ok()).ok_or("is not a number: write one such as 5")?;
    if (1..=100).contains(&count) { Ok(count) } else { Err("is out of range: it takes 1 to 100".to_string()) }
}

/// `max-config-size`, `generations-size`: 1 KiB, below which no config is of use, to 64 MiB, which a constrained host
/// can still hold.
pub fn size(text: &str) -> Parsed<u64> {
    let (number, unit) = match text.split_at(digits_end(text)) {
        (number, "") => (number, 1),
        (number, "KiB") => (number, 1024),
        (number, "MiB") => (number, 1024 * 1024),
        _ => ("", 1),
    };
    let bytes = digits(number)
        .and_then(|number| number.parse::<u64>().ok()?.checked_mul(unit))
        .ok_or("is not a size: write bytes, or as in 512KiB, 4MiB")?;
    if (1024..=64 * 1024 * 1024).contains(&bytes) {
        Ok(bytes)
    } else {
        Err("is out of range: it takes 1KiB to 64MiB".to_string())
    }
}

/// `collector-log-rate`: a line a minute to what no journal keeps up with; 0 is no limit.
pub fn rate(text: &str) -> Parsed<u32> {
    match digits(text).and_then(|text| text.parse().ok()) {
        Some(lines @ 0..=1_000_000) => Ok(lines),
        _ => Err("is not a number of lines a minute: it takes 0 (no limit), or 1 to 1000000".to_string()),
    }
}

fn digits_end(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

/// YAML's words and those that 1.x took, in any case.
pub fn switch(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "off" | "0" => Ok(false),
        _ => Err("is neither true nor false".to_string()),
    }
}

/// `warning` and any case are what 1.x took. There is no `trace`: it would let the HTTP library log headers.
pub fn log_level(text: &str) -> Parsed<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(LevelFilter::Error),
        "warn" | "warning" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        _ => Err("is not a log level: it takes error, warn, info or debug".to_string()),
    }
}

pub fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("is not a log format: it takes json or text".to_string()),
    }
}

pub fn cluster_mode(text: &str) -> Parsed<ClusterMode> {
    match text {
        "relay" => Ok(ClusterMode::Relay),
        "rollout" => Ok(ClusterMode::Rollout),
        _ => Err("is not a cluster mode: it takes relay or rollout".to_string()),
    }
}

/// The name of a Kubernetes object: a DNS subdomain (RFC 1123) of lower-case letters, digits, `-` and `.`.
pub fn object_name(text: &str) -> Parsed<String> {
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(is_end) && label.ends_with(is_end) && label.chars().all(|c| is_end(c) || c == '-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(text.to_string())
    } else {
        Err("is not the name of a Kubernetes object: it takes lower-case letters, digits, - and .".to_string())
    }
}

/// `monitored-namespaces`: the original separates them by commas.
pub fn namespaces(text: &str) -> Parsed<Vec<String>> {
    words(text).map(object_name).collect()
}

/// Separated by commas, blanks or as the items of a list are.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

/// `relay-listen`: an address and a port; a port alone is that of every address.
pub fn listen(text: &str) -> Parsed<SocketAddr> {
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_string() };
    whole.parse().map_err(|_| "is not an address to listen at: write one such as 0.0.0.0:8443 or [::]:8443".to_string())
}

/// `rollout-steps`: ascending percentages that end with all pods.
pub fn steps(text: &str) -> Parsed<Vec<u8>> {
    let step = |step: &str| digits(step.strip_suffix('%').unwrap_or(step)).and_then(|number| number.parse().ok());
    let words = words(text);
    let steps: Option<Vec<u8>> = words.map(step).collect();
    match steps {
        Some(steps) if steps.is_sorted_by(|a, b| a < b) && steps.first() > Some(&0) && steps.last() == Some(&100) => {
            Ok(steps)
        }
        _ => Err("are not steps: write ascending percentages of which the last is 100%, as in 25% 100%".to_string()),
    }
}

pub fn restart_mode(text: &str) -> Parsed<RestartMode> {
    match text {
        "auto" => Ok(RestartMode::Auto),
        "restart" => Ok(RestartMode::Restart),
        "handover" => Ok(RestartMode::Handover),
        _ => Err("is not a restart mode: it takes auto, restart or handover".to_string()),
    }
}

/// An absolute path; a relative one is taken from the working directory.
pub fn path(text: &str) -> Parsed<PathBuf> {
    line(text)?;
    std::path::absolute(text).map_err(|error| format!("cannot be made an absolute path: {error}"))
}

/// Each of a list.
pub fn paths(text: &str) -> Parsed<Vec<PathBuf>> {
    text.split(SEPARATOR).map(path).collect()
}

/// One line of text, fit for an environment variable, a header and a log.
pub fn line(text: &str) -> Parsed<String> {
    if text.contains(char::is_control) { Err("contains a control character".to_string()) } else { Ok(text.to_string()) }
}

/// `collector-args`: nothing that would have it run another config, or answer something else than it is asked.
pub fn arguments(text: &str) -> Parsed<Vec<String>> {
    let mut takes_value = false;
    for arg in text.split(SEPARATOR) {
        let (name, has_value) = arg.split_once('=').map_or((arg, false), |(name, _)| (name, true));
        match name {
            "--config" | "-config" => return Err("has --config: use config and local-config".to_string()),
            "--help" | "-h" | "--version" | "-v" | "--" => {
                return Err(format!("has {name}, with which nothing is run"));
            }
            _ if !name.starts_with('-') && !takes_value => {
                return Err("has what is no option: begin each with --".to_string());
            }
            _ => takes_value = name.starts_with('-') && !has_value,
        }
        line(arg)?;
    }
    Ok(text.split(SEPARATOR).map(str::to_string).collect())
}

/// A shell command, which may have several lines but, as any argument, no NUL.
pub fn command(text: &str) -> Parsed<String> {
    if text.contains('\0') { Err("contains a NUL character".to_string()) } else { Ok(text.to_string()) }
}

/// An API key: what a header value carries unchanged, that is visible ASCII, and blanks but at its ends (RFC 9110,
/// 5.5).
pub fn api_key(text: &str) -> Parsed<Secret> {
    if text.trim().is_empty() {
        Err("is blank: give the API key".to_string())
    } else if text.contains(char::is_control) {
        Err("contains a line break or another control character: give the API key alone".to_string())
    } else if !text.is_ascii() {
        Err("contains a character outside ASCII: give the API key as it was issued".to_string())
    } else if text != text.trim() {
        Err("begins or ends with a blank: give the API key alone".to_string())
    } else {
        Ok(Secret::new(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |n| Ok(Duration::from_millis(n));
        for (text, expected) in [
            ("0", ms(0)),
            ("60", ms(60_000)),
            ("60s", ms(60_000)),
            ("5m", ms(300_000)),
            ("1h", ms(3_600_000)),
            ("500ms", ms(500)),
            ("1h30m", ms(5_400_000)),
            ("1.5h", ms(5_400_000)),
            ("0.25s", ms(250)),
            ("250000us", ms(250)),
            ("250000µs", ms(250)),
            ("1m1s1ms", ms(61_001)),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
        for text in [
            "",
            " ",
            "s",
            "1d",
            "1 s",
            " 1s",
            "+5s",
            "1.s",
            ".5s",
            "1..5s",
            "1e3",
            "60.0",
            "0x10",
            "1h30",
            "ten",
            "99999999999999999999",
            "99999999999h",
            "5S",
        ] {
            assert!(duration(text).unwrap_err().contains("500ms, 60s, 5m, 1h"), "{text}");
        }
        for text in ["-1", "-5s", "-"] {
            assert!(duration(text).unwrap_err().contains("negative"), "{text}");
        }
    }

    #[test]
    fn duration_ranges() {
        assert_eq!(interval("0"), Ok(None));
        assert_eq!(interval("0s"), Ok(None));
        assert_eq!(interval("1s"), Ok(Some(Duration::from_secs(1))));
        assert_eq!(interval("168h"), Ok(Some(168 * HOUR)));
        for text in ["999ms", "168h1s"] {
            assert!(interval(text).unwrap_err().contains("1s to 168h"), "{text}");
        }
        assert_eq!(timeout("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(timeout("1h"), Ok(HOUR));
        for text in ["0", "99ms", "3601"] {
            assert!(timeout(text).unwrap_err().contains("100ms to 1h"), "{text}");
        }
        assert_eq!(splay("0"), Ok(Duration::ZERO));
        assert!(splay("25h").is_err());
    }

    #[test]
    fn sizes() {
        for (text, expected) in
            [("1024", 1024), ("1KiB", 1024), ("512KiB", 524_288), ("4MiB", 4_194_304), ("64MiB", 67_108_864)]
        {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["1023", "0", "0MiB", "65MiB", "67108865"] {
            assert!(size(text).unwrap_err().contains("1KiB to 64MiB"), "{text}");
        }
        for text in ["", "MiB", "4MB", "4M", "4 MiB", "-4MiB", "+4MiB", "1.5MiB", "1GiB", "99999999999999999MiB"] {
            assert!(size(text).unwrap_err().contains("512KiB"), "{text}");
        }
    }

    #[test]
    fn counts() {
        for (text, expected) in [("1", 1), ("5", 5), ("100", 100)] {
            assert_eq!(generations(text), Ok(expected), "{text}");
        }
        for (text, words) in
            [("0", "1 to 100"), ("101", "1 to 100"), ("", "a number"), ("-1", "a number"), ("five", "a number")]
        {
            assert!(generations(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn rates() {
        for (text, expected) in [("0", 0), ("1", 1), ("600", 600), ("1000000", 1_000_000)] {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "+1", "1000001", "1.5", "10/s", "99999999999"] {
            assert!(rate(text).unwrap_err().contains("0 (no limit), or 1 to 1000000"), "{text}");
        }
    }

    #[test]
    fn words() {
        for text in ["true", "True", "t", "yes", "ON", "1"] {
            assert_eq!(switch(text), Ok(true), "{text}");
        }
        for text in ["false", "F", "no", "off", "0"] {
            assert_eq!(switch(text), Ok(false), "{text}");
        }
        for text in ["", "2", "maybe", "true "] {
            assert!(switch(text).is_err(), "{text}");
        }
        assert_eq!(log_level("WARNING"), Ok(LevelFilter::Warn));
        assert!(log_level("trace").is_err());
        assert_eq!(log_format("text"), Ok(LogFormat::Text));
        assert!(log_format("xml").is_err());
        assert_eq!(restart_mode("handover"), Ok(RestartMode::Handover));
        assert!(restart_mode("hand-over").is_err());
    }

    #[test]
    fn paths_become_absolute() {
        assert_eq!(path("/a/b"), Ok(PathBuf::from("/a/b")));
        assert_eq!(path("a/b"), Ok(std::env::current_dir().unwrap().join("a/b")));
        assert!(path("/a\n").is_err());
    }

    #[test]
    fn arguments_are_options_and_their_values() {
        for text in ["--feature-gates=+a,-b", "--set=a.b=x y\n--set\na.b=c\n-x", "-x"] {
            assert_eq!(arguments(text), Ok(text.lines().map(str::to_string).collect()), "{text:?}");
        }
        for (text, cause) in [
            ("--config=x", "use config and local-config"),
            ("--set=a=b\n--config\nx", "use config and local-config"),
            ("-config=x", "use config and local-config"),
            ("--help", "nothing is run"),
            ("--set\n--version", "nothing is run"),
            ("--\nx", "nothing is run"),
            ("components", "no option"),
            ("--set=a=b\nx", "no option"),
            ("--set\na=b\nx", "no option"),
            ("--set=a=b\n", "no option"),
            ("--set=a\rb", "control character"),
        ] {
            assert!(arguments(text).unwrap_err().contains(cause), "{text:?}");
        }
    }

    #[test]
    fn keys_are_what_a_header_can_carry() {
        for text in ["abc", "sk_123=", "two words"] {
            assert_eq!(api_key(text).unwrap().expose(), text);
        }
        for text in ["", " ", "a\nb", "a\r", "a\tb", "\u{7f}", "schlüssel", " a", "a "] {
            let cause = api_key(text).unwrap_err();
            assert!(text.trim().len() < 3 || !cause.contains(text), "{cause}");
        }
    }
}
