//! What the agent must know of a collector config: where its health check answers, and which strings are secrets.
//!
//! Pure questions: the environment is asked through a function, and nothing is read, probed or logged here. A config
//! is never judged (the collector's `validate` does that): whatever cannot be told for sure is answered with `None`,
//! so that a good config is not rolled back for a probe that could not have succeeded. References are expanded as the
//! collector's confmap does it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::value::Value;

/// The value of an environment variable of the collector; `None` when it is not set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// An HTTP endpoint, in the clear, that answers 200 when the collector is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `host:port`, with a host that can be connected to from this machine.
    pub address: String,
    /// Begins with `/`, printable ASCII only.
    pub path: String,
}

/// The first health check extension in force that can be probed; `effective` is in the order of the `--config`
/// arguments.
///
/// `None` also when the extension is behind TLS or wants authentication, when its endpoint depends on something other
/// than the environment, and when its port is 0.
pub fn health_check(effective: &[&Value], env: &Env<'_>) -> Option<HealthCheck> {
    let extensions = setting(effective, &["service", "extensions"])?.as_array()?;
    extensions.iter().filter_map(Value::as_str).find_map(|id| probed_extension(effective, id, env))
}

/// The extension `id` (`type` or `type/name`), if it is one that answers and that can be asked.
///
/// Both types read `endpoint` and `path`, or with `use_v2` an `http` block (contrib's
/// extension/healthcheckv2extension).
fn probed_extension(effective: &[&Value], id: &str, env: &Env<'_>) -> Option<HealthCheck> {
    let kind = id.split('/').next().unwrap_or(id).trim();
    if !matches!(kind, "health_check" | "healthcheckv2") {
        return None;
    }
    let of = |keys: &[&str]| setting(effective, &[&["extensions", id], keys].concat());
    let is_v2 = of(&["use_v2"])?.as_bool().unwrap_or(false);
    let http: &[&str] = if is_v2 { &["http"] } else { &[] };
    let (path_keys, default_path): (&[&str], _) =
        if is_v2 { (&["status", "path"], "/status") } else { (&["path"], "/") };
    if is_v2 && (*of(http)? == Value::Null || *of(&["http", "status", "enabled"])? == Value::Bool(false)) {
        return None;
    }
    for refused in ["tls", "auth"] {
        if *of(&[http, &[refused]].concat())? != Value::Null {
            return None;
        }
    }
    let endpoint = text_or(of(&[http, &["endpoint"]].concat())?, "localhost:13133", env)?;
    let path = text_or(of(&[http, path_keys].concat())?, default_path, env)?;
    let path_is_sound = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    Some(HealthCheck { address: address(&endpoint)?, path }).filter(|_| path_is_sound)
}

/// What the collector finds under `path` once it has merged its configs: objects merge, anything else replaces what
/// came before. Null when it is absent; `None` when a reference (`${file:…}`) stands where an object is looked for,
/// so that nobody can tell.
fn setting<'a>(configs: &[&'a Value], path: &[&str]) -> Option<&'a Value> {
    static ABSENT: Value = Value::Null;
    'configs: for config in configs.iter().rev() {
        let mut at = *config;
        for key in path {
            match (at, at.get(key)) {
                (_, Some(inner)) => at = inner,
                (Value::Object(_), None) => continue 'configs,
                (Value::String(_), None) => return None,
                (Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Array(_), None) => {
                    return Some(&ABSENT);
                }
            }
        }
        return Some(at);
    }
    Some(&ABSENT)
}

fn text_or(value: &Value, default: &str, env: &Env<'_>) -> Option<String> {
    match value {
        Value::Null => Some(default.to_owned()),
        Value::String(text) => expand(text, env),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `endpoint` as something to connect to: an address that means "every interface" to a listener becomes this
/// machine's loopback.
fn address(endpoint: &str) -> Option<String> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => {
            let ip: Ipv6Addr = inner.parse().ok()?;
            let reachable = if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { ip };
            format!("[{reachable}]")
        }
        None if host.is_empty() || host.parse() == Ok(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.to_string(),
        None if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) => host.to_owned(),
        None => return None,
    };
    Some(format!("{host}:{port}"))
}

/// `text` with its references to the environment replaced; `None` when it has any other reference, or one inside
/// another.
fn expand(text: &str, env: &Env<'_>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (reference, after) = after.split_once('}')?;
            out.push_str(&referenced(reference, env)?);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Some(out)
}

/// `env:NAME`, `env:NAME:-default` or `NAME`, as the collector's env provider reads them: a variable that is set,
/// even to nothing, beats the default, and one that is unset is empty.
fn referenced(reference: &str, env: &Env<'_>) -> Option<String> {
    let (name, default) = match reference.strip_prefix("env:") {
        Some(uri) => uri.split_once(":-").unwrap_or((uri, "")),
        None => (reference, ""),
    };
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return None;
    }
    let value = env(name).unwrap_or_else(|| default.to_owned());
    // The collector would expand this again.
    if value.contains("${") { None } else { Some(value) }
}

/// Shorter strings are no secrets worth the name, and masking them would make logs unreadable.
const SHORTEST_SECRET: usize = 6;

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
const NOT_THE_SECRET: [&str; 5] = ["_file", "_path", "_url", "_uri", "_id"];

/// The strings of `config` that must not appear in logs and messages: values of keys that say so, values of headers,
/// and passwords in URLs; with the environment's values in place of references to it, each line by itself, and also
/// without a scheme such as `Bearer`.
pub fn secrets(config: &Value, env: &Env<'_>) -> Vec<String> {
    let mut found = Vec::new();
    collect(config, Within::Anything, &mut |text| {
        if let Some(text) = expand(text, env) {
            for line in text.lines().map(str::trim) {
                found.push(line.to_owned());
                found.extend(line.split_once(' ').map(|(_, rest)| rest.to_owned()));
            }
        }
    });
    found.retain(|secret| secret.len() >= SHORTEST_SECRET);
    found.sort_unstable();
    found.dedup();
    found
}

/// What the keys above a value say of it.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Anything,
    /// Strings here, and in a list here, are secrets.
    Secret,
    /// An object of header names and values, or a list of objects of which `value` may be one.
    Headers,
    ListedHeader,
}

fn collect(value: &Value, within: Within, found: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => {
            if within == Within::Secret {
                found(text);
            }
            url_password(text).into_iter().for_each(found);
        }
        Value::Array(items) => {
            let inner = if within == Within::Headers { Within::ListedHeader } else { within };
            items.iter().for_each(|item| collect(item, inner, found));
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                let is_header_value = within == Within::Headers || (within == Within::ListedHeader && key == "value");
                collect(value, if is_header_value { Within::Secret } else { meaning(key) }, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
    }
}

fn meaning(key: &str) -> Within {
    let key = key.to_lowercase();
    if key == "headers" {
        Within::Headers
    } else if SECRET_KEYS.iter().any(|part| key.contains(part)) && !NOT_THE_SECRET.iter().any(|end| key.ends_with(end))
    {
        Within::Secret
    } else {
        Within::Anything
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

    fn config(yaml: &str) -> Value {
        crate::config::yaml::read(yaml.as_bytes()).unwrap_or_else(|error| panic!("{yaml}: {error}"))
    }

    fn env(name: &str) -> Option<String> {
        let set = [
            ("PORT", "8080"),
            ("EMPTY", ""),
            ("ENDPOINT", "0.0.0.0:9"),
            ("NESTED", "${env:PORT}"),
            ("KEY", "sk-12345"),
        ];
        set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    fn probe(configs: &[&str]) -> Option<String> {
        let configs: Vec<Value> = configs.iter().map(|yaml| config(yaml)).collect();
        let layers: Vec<&Value> = configs.iter().collect();
        health_check(&layers, &env).map(|check| format!("{}{}", check.address, check.path))
    }

    #[test]
    fn health_check_of_one_config() {
        let cases = [
            ("{}", None),
            ("[]", None),
            ("extensions: {health_check: {}}", None),
            ("service: {extensions: [pprof, health_checker]}", None),
            ("service: {extensions: health_check}", None),
            ("service: {extensions: '${file:x}'}", None),
            ("service: {extensions: [pprof, health_check]}", Some("localhost:13133/")),
            ("{extensions: {health_check: }, service: {extensions: [health_check]}}", Some("localhost:13133/")),
            (
                "{extensions: {health_check/a: {endpoint: '127.0.0.1:1', path: /up?x}}, service: {extensions: [health_check/a]}}",
                Some("127.0.0.1:1/up?x"),
            ),
            ("{extensions: {health_check: '${file:x}'}, service: {extensions: [health_check]}}", None),
            ("{extensions: '${file:x}', service: {extensions: [health_check]}}", None),
        ];
        for (yaml, expected) in cases {
            assert_eq!(probe(&[yaml]).as_deref(), expected, "{yaml}");
        }
    }

    #[test]
    fn health_check_settings() {
        let cases = [
            ("endpoint: 0.0.0.0:13133", Some("127.0.0.1:13133/")),
            ("endpoint: ':13133'", Some("127.0.0.1:13133/")),
            ("endpoint: '[::]:13133'", Some("[::1]:13133/")),
            ("endpoint: '[0:0::0]:13133'", Some("[::1]:13133/")),
            ("endpoint: '[fe80::1]:13133'", Some("[fe80::1]:13133/")),
            ("endpoint: edge-7.example_net:80", Some("edge-7.example_net:80/")),
            ("endpoint: localhost:0", None),
            ("endpoint: localhost:65536", None),
            ("endpoint: localhost:http", None),
            ("endpoint: localhost", None),
            ("endpoint: '::1:80'", None),
            ("endpoint: '[::1'", None),
            ("endpoint: ''", None),
            ("endpoint: http://localhost:80", None),
            ("endpoint: 'local host:80'", None),
            ("endpoint: 13133", None),
            ("endpoint: '${env:ENDPOINT}'", Some("127.0.0.1:9/")),
            ("endpoint: '${env:IP}:${PORT}'", Some("127.0.0.1:8080/")),
            ("endpoint: '${env:IP:-10.0.0.1}:1'", Some("10.0.0.1:1/")),
            ("endpoint: '${env:EMPTY:-10.0.0.1}:1'", Some("127.0.0.1:1/")),
            ("endpoint: 'a:${env:NESTED}'", None),
            ("endpoint: 'a:${file:x}'", None),
            ("endpoint: 'a:${PORT:-1}'", None),
            ("endpoint: 'a:${env:${PORT}}'", None),
            ("endpoint: 'a:${env:}'", None),
            ("endpoint: 'a:${PORT'", None),
            ("endpoint: 'a:$PORT'", None),
            ("path: up", None),
            ("path: \"/a b\"", None),
            ("path: \"/a\\r\\nHost: b\"", None),
            ("path: /${env:PORT}$$", Some("localhost:13133/8080$")),
            ("path: [/]", None),
            ("tls: {cert_file: a}", None),
            ("tls: ", Some("localhost:13133/")),
            ("auth: {authenticator: basicauth}", None),
            ("{use_v2: true, endpoint: a:1, http: {endpoint: b:2}}", Some("b:2/status")),
            ("{use_v2: true, http: {status: {path: /s}}}", Some("localhost:13133/s")),
            ("{use_v2: true, http: {status: {enabled: false}}}", None),
            ("{use_v2: true, http: {tls: {}}}", None),
            ("{use_v2: true, grpc: {}}", None),
            ("{endpoint: a:1, http: {endpoint: b:2}}", Some("a:1/")),
        ];
        for (settings, expected) in cases {
            for kind in ["health_check", "healthcheckv2", "health_check/x"] {
                let settings = config(settings);
                let extensions = Value::Object(vec![(kind.to_owned(), settings.clone())]);
                let whole = Value::Object(vec![
                    ("extensions".to_owned(), extensions),
                    ("service".to_owned(), config(&format!("extensions: [{kind}]"))),
                ]);
                let found = health_check(&[&whole], &env).map(|check| format!("{}{}", check.address, check.path));
                assert_eq!(found.as_deref(), expected, "{kind}: {settings:?}");
            }
        }
    }

    #[test]
    fn a_later_config_wins() {
        let base = "{extensions: {health_check: {endpoint: a:1, path: /a}}, service: {extensions: [health_check]}}";
        let cases = [
            ("{}", Some("a:1/a")),
            ("extensions: {health_check: {endpoint: b:2}}", Some("b:2/a")),
            ("extensions: {health_check: {tls: {}}}", None),
            ("extensions: {health_check: }", Some("localhost:13133/")),
            ("extensions: {health_check/b: {endpoint: b:2}}", Some("a:1/a")),
            ("{extensions: {health_check/b: {endpoint: b:2}}, service: {extensions: [health_check/b]}}", Some("b:2/")),
            ("service: {extensions: []}", None),
            ("service: {extensions: }", None),
            ("service: {telemetry: {}}", Some("a:1/a")),
        ];
        for (overlay, expected) in cases {
            assert_eq!(probe(&[base, overlay]).as_deref(), expected, "{overlay}");
        }
    }

    #[test]
    fn the_first_extension_that_can_be_probed_is_taken() {
        let yaml = "{extensions: {health_check: {tls: {}}, health_check/b: {endpoint: b:2}}, service: {extensions: [health_check, health_check/b]}}";
        assert_eq!(probe(&[yaml]).as_deref(), Some("b:2/"));
    }

    #[test]
    fn secrets_of_a_config() {
        let yaml = r#"
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
        assert_eq!(secrets(&config(yaml), &env), expected);
    }
}
