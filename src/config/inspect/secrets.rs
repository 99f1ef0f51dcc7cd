//! The strings of a config that must not appear in logs and messages.
//!
//! Pure. It finds them; `log::redact` masks them.

use super::references::{Env, expand, expanded, referenced};
use crate::config::credentials::passwords;
use crate::config::value::Value;

/// A header of an unsuspicious name that is shorter is a number or a flag.
const MIN_HEADER_LENGTH: usize = 6;

/// Bytes of passwords in URLs and connection strings at most: beyond it a config is made of nothing else.
const MAX_PASSWORD_BYTES: usize = 16 << 20;

/// What is no secret wherever it stands, and would take the words out of every line.
const COMMON: [&str; 30] = [
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "none",
    "null",
    "auto",
    "default",
    "all",
    "any",
    "env",
    "file",
    "basic",
    "bearer",
    "http",
    "https",
    "grpc",
    "tcp",
    "udp",
    "debug",
    "info",
    "warn",
    "warning",
    "error",
    "local",
    "localhost",
    "prod",
    "production",
];

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

/// The strings of `config` that must not appear in logs and messages: what the environment holds under each name that
/// it refers to, values of keys that say so, values of headers, and passwords in URLs and connection strings, with the
/// environment put in; each line by itself, and also without a scheme such as `Bearer`.
pub fn secrets(config: &Value, env: &Env<'_>) -> Vec<String> {
    let mut found = Found { env, texts: Vec::new(), password_bytes: 0 };
    found.collect(config, Meaning::Anything);
    for value in referenced(config, env) {
        if !is_number(&value) {
            found.secret(&value);
        }
        found.passwords(&value);
    }
    let mut texts = found.texts;
    texts.retain(|text| !text.is_empty() && !COMMON.contains(&text.to_ascii_lowercase().as_str()));
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// Whether a variable of the environment with that name, which nothing need refer to, holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // The shell's working directory.
    let is_directory = matches!(name.as_str(), "pwd" | "oldpwd");
    !is_directory && meaning_of(&name) == Meaning::Secret || name.ends_with("_headers")
}

/// A port, a percentage, the root directory.
fn is_number(text: &str) -> bool {
    text.len() < MIN_HEADER_LENGTH && !text.bytes().any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii())
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
    HeaderValue,
}

struct Found<'a> {
    env: &'a Env<'a>,
    texts: Vec<String>,
    password_bytes: usize,
}

impl Found<'_> {
    fn collect(&mut self, value: &Value, meaning: Meaning) {
        match value {
            Value::String(text) if text.contains("${") => match expanded(value, self.env) {
                Value::String(_) => {
                    let text = expand(text, self.env);
                    text.into_iter().for_each(|text| self.text(&text, meaning));
                }
                // A variable, or its default, that is a list or a map.
                tree => self.collect_expanded(&tree, meaning),
            },
            Value::String(text) => self.text(&text.replace("$$", "$"), meaning),
            _ => self.inside(value, meaning, &mut |found, value, meaning| found.collect(value, meaning)),
        }
    }

    /// The same for a value that has been expanded.
    fn collect_expanded(&mut self, value: &Value, meaning: Meaning) {
        match value {
            Value::String(text) => self.text(text, meaning),
            _ => self.inside(value, meaning, &mut |found, value, meaning| found.collect_expanded(value, meaning)),
        }
    }

    fn inside(&mut self, value: &Value, meaning: Meaning, collect: &mut dyn FnMut(&mut Self, &Value, Meaning)) {
        match value {
            Value::Array(items) => {
                let inner = if meaning == Meaning::Headers { Meaning::ListedHeader } else { meaning };
                items.iter().for_each(|item| collect(self, item, inner));
            }
            Value::Object(entries) => {
                for (key, value) in entries {
                    // Confmap takes `a::b` for a key within a key.
                    let inner = key.split("::").fold(meaning, below);
                    collect(self, value, inner);
                }
            }
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
        }
    }

    fn text(&mut self, text: &str, meaning: Meaning) {
        match meaning {
            Meaning::Secret => self.secret(text),
            Meaning::HeaderValue if text.len() >= MIN_HEADER_LENGTH => self.secret(text),
            Meaning::HeaderValue | Meaning::Anything | Meaning::Headers | Meaning::ListedHeader => {}
        }
        self.passwords(text);
    }

    fn secret(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            self.texts.push(line.to_owned());
            self.texts.extend(line.split_once(' ').map(|(_, rest)| rest.to_owned()));
        }
    }

    fn passwords(&mut self, text: &str) {
        let found = passwords(text);
        for password in found.into_iter().filter(|password| !is_number(password)) {
            self.password_bytes += password.len();
            if self.password_bytes <= MAX_PASSWORD_BYTES {
                self.texts.push(password.to_owned());
            }
        }
    }
}

/// What a key says of its value where `above` says this.
fn below(above: Meaning, key: &str) -> Meaning {
    let own = meaning_of(&key.to_ascii_lowercase());
    let is_header_value = above == Meaning::Headers || above == Meaning::ListedHeader && key == "value";
    if is_header_value && own != Meaning::Secret { Meaning::HeaderValue } else { own }
}

/// `key` is in lower case.
fn meaning_of(key: &str) -> Meaning {
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
            "hunter22@db:5432/x?a=b",
            "ikey-0001",
            "listed-value",
            "pa$word",
            "shared-1",
            "short",
            "sk-12345",
            "tenant-1",
        ];
        let env = |name: &str| (name == "KEY").then(|| "sk-12345".to_owned());
        assert_eq!(secrets(&yaml::parse(text.as_bytes()).unwrap(), &env), expected);
    }

    /// A shell exports where it is: that would take the paths out of every message.
    #[test]
    fn the_working_directory_is_no_secret() {
        for (name, expected) in [("pwd", false), ("oldpwd", false), ("mysql_pwd", true), ("db_password", true)] {
            assert_eq!(is_secret_name(name), expected, "{name}");
        }
    }
}
