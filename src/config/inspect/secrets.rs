//! The strings of a config that must not appear in logs and messages.
//!
//! Pure. It finds them; `log::redact` masks them.

use super::references::{Env, expand};
use crate::config::value::Value;

/// Shorter strings are no secrets worth the name, and masking them would make logs unreadable.
const MIN_SECRET_LENGTH: usize = 6;

/// A key that contains one of these, in any case, holds a secret.
const SECRET_KEYS: [&str; 22] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "access-key",
    "license_key",
    "authorization",
    "credential",
    "private_key",
    "private-key",
    "connection_string",
    "pwd",
    "cookie",
    "shared_key",
    "signing_key",
    "encryption_key",
    "instrumentation_key",
];

/// Unless it ends in one of these: then it says where the secret is, which an operator wants to read in a log.
const LOCATION_SUFFIXES: [&str; 5] = ["_file", "_path", "_url", "_uri", "_id"];

/// The strings of `config` that must not appear in logs and messages: values of keys that say so, values of headers,
/// and passwords in URLs; with the environment's values in place of references to it, each line by itself, and also
/// without a scheme such as `Bearer`.
pub fn secrets(config: &Value, env: &Env<'_>) -> Vec<String> {
    let mut found = Vec::new();
    collect(config, Meaning::Anything, &mut |text| {
        if let Some(text) = expand(text, env) {
            for line in text.lines().map(str::trim) {
                found.push(line.to_owned());
                found.extend(line.split_once(' ').map(|(_, rest)| rest.to_owned()));
            }
        }
    });
    found.retain(|secret| secret.len() >= MIN_SECRET_LENGTH);
    found.sort_unstable();
    found.dedup();
    found
}

/// What the keys above a value say of it.
#[derive(Clone, Copy, PartialEq)]
enum Meaning {
    Anything,
    /// Strings here, and in a list here, are secrets.
    Secret,
    /// An object of header names and values, or a list of objects of which `value` may be one.
    Headers,
    ListedHeader,
}

fn collect(value: &Value, meaning: Meaning, found: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => {
            if meaning == Meaning::Secret {
                found(text);
            }
            url_password(text).into_iter().for_each(found);
        }
        Value::Array(items) => {
            let inner = if meaning == Meaning::Headers { Meaning::ListedHeader } else { meaning };
            items.iter().for_each(|item| collect(item, inner, found));
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                let is_header_value =
                    meaning == Meaning::Headers || (meaning == Meaning::ListedHeader && key == "value");
                collect(value, if is_header_value { Meaning::Secret } else { meaning_of(key) }, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
    }
}

fn meaning_of(key: &str) -> Meaning {
    let key = key.to_lowercase();
    if key == "headers" {
        Meaning::Headers
    } else if SECRET_KEYS.iter().any(|part| key.contains(part))
        && !LOCATION_SUFFIXES.iter().any(|end| key.ends_with(end))
    {
        Meaning::Secret
    } else {
        Meaning::Anything
    }
}

/// The password in `scheme://user:password@host`.
fn url_password(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    user_info.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    #[test]
    fn secrets_of_a_config() {
        let text = r#"
receivers:
  sql: {datasource: "postgres://app:hunter22@db:5432/x?a=b@c", password: "${env:KEY}", username: application}
  scrape: {bearer_token_file: /run/secrets/token, token_url: https://a.example/token, tokens: [first-one, short]}
exporters:
  otlphttp:
    headers: {Authorization: "Bearer abcdef123", x-tenant: tenant-1, x-n: 5, short: abc}
    timeout: 30s-or-so
  other: {headers: [{name: X-Some-Name, value: listed-value}], Api_Key: "${file:/key}", clientSecret: "pa$$word"}
extensions:
  setter: {headers: [{action: insert, key: X-Scope-OrgID, from_context: tenant_id}]}
  azure: {instrumentation_key: ikey-0001, pwd: "${env:KEY}", Shared_Key: shared-1}
  tls: {private_key: "-----BEGIN-----\nMIIBVQ==\n"}
  empty: {token: , password: true, secret: "${env:UNSET}", access_key_id: AKIAEXAMPLE}
"#;
        let expected = [
            "-----BEGIN-----",
            "Bearer abcdef123",
            "MIIBVQ==",
            "abcdef123",
            "first-one",
            "hunter22",
            "ikey-0001",
            "listed-value",
            "pa$word",
            "shared-1",
            "sk-12345",
            "tenant-1",
        ];
        let env = |name: &str| (name == "KEY").then(|| "sk-12345".to_owned());
        assert_eq!(secrets(&yaml::parse(text.as_bytes()).unwrap(), &env), expected);
    }
}
