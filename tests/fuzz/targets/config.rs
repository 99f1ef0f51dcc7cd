//! A collector's config, from any bytes: what is read is written and read again as the same, nothing that looks into it
//! panics or takes for ever, and no secret that is found in it is left in a text about it.
#![no_main]

use std::time::Duration;

use kmagent::collector::handover::eligible::{may_overlap, may_share};
use kmagent::config::policy::Policy;
use kmagent::config::{inspect, yaml};
use kmagent::log::redact::{self, Secrets};
use libfuzzer_sys::fuzz_target;

/// A variable with a value, two that name others, and one whose value is YAML.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "A" => "a-value-of-some-length",
        "B" => "${env:A}${B}",
        "C" => "${file:/c}",
        "D" => "{headers: {authorization: a-value-in-a-map}, list: [1, {password: ${A}}]}",
        _ => return None,
    };
    Some(value.to_string())
}

fuzz_target!(|text: &[u8]| {
    let Ok(config) = yaml::parse(text) else { return };
    let text = yaml::render(&config);
    let back = yaml::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    assert_eq!(back.canonical(), config.canonical(), "{text:?}");

    let found = inspect::expansions(&config, &|_| None);
    assert!(found.iter().all(|one| one.body.len() <= 256), "{found:?}");

    // What reads more than the environment is refused; what is active may stay, and a trusted source may do anything.
    let policy = Policy::default();
    let is_refused = !policy.judge(&config, None, None).is_empty();
    assert!(is_refused || found.iter().all(|one| one.is_env()), "{found:?} is not refused: {text:?}");
    assert!(policy.judge(&config, None, Some(&config)).is_empty(), "{text:?}");
    assert!(Policy::none().judge(&config, None, None).is_empty());
    if let Ok(own) = Policy::parse(&config) {
        let _ = own.judge(&config, None, None);
    }
    if let Some(check) = inspect::health_check(&[&config], &environment) {
        assert!(check.path.starts_with('/') && check.address.contains(':'), "{check:?}");
    }
    let shared = may_share(&[&config], Duration::from_secs(60));
    let _ = may_overlap(&shared, &shared, None);

    let secrets = inspect::secrets(&config, &environment);
    let mask = Secrets::new(secrets.iter().cloned());
    let masked = redact::mask(&[&mask], &text);
    // Shorter ones are masked as whole words only; stars are what they are masked with.
    for secret in secrets.iter().filter(|secret| secret.len() >= 6 && !secret.contains('*')) {
        assert!(!masked.contains(&**secret), "{secret:?} is left in {masked:?}");
    }
});
