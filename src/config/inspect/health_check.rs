//! Where a collector's health check answers, as far as its config tells.
//!
//! Pure. A config is never judged (the collector's `validate` does that): what is not certain is answered
//! with `None`, so that a good config is not rolled back for a probe that could not have succeeded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::references::{Env, expand};
use crate::config::merge::merge;
use crate::config::value::Value;

/// An HTTP endpoint, in the clear, that answers 200 when the collector is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `host:port`, with a host that can be connected to from this machine.
    pub address: String,
    /// Begins with `/`, printable ASCII only.
    pub path: String,
    /// `None` when a name stands for it.
    pub binding: Option<Binding>,
}

/// What a collector binds by TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub at: SocketAddr,
    /// Of `[::]`: IPv4 does not reach it.
    pub v6_only: bool,
}

/// The first enabled health check extension that can be probed; `effective` is in the order of the `--config`
/// arguments.
///
/// `None` also when the extension is behind TLS or wants authentication, when its endpoint depends on something other
/// than the environment, and when its port is 0.
pub fn health_check(effective: &[&Value], env: &Env<'_>) -> Option<HealthCheck> {
    let effective = merge(effective);
    let extensions = setting(&effective, &["service", "extensions"])?.as_array()?;
    extensions.iter().filter_map(Value::as_str).find_map(|id| probed_extension(&effective, id, env))
}

/// The extension `id` (`type` or `type/name`), if it is one that answers and that can be asked.
///
/// Both types read `endpoint` and `path`, or with `use_v2` an `http` block (contrib's
/// extension/healthcheckv2extension).
fn probed_extension(effective: &Value, id: &str, env: &Env<'_>) -> Option<HealthCheck> {
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
    let transport = text_or(of(&[http, &["transport"]].concat())?, "tcp", env)?;
    let binding = binding(&endpoint, &transport);
    let path_is_sound = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    Some(HealthCheck { address: address(&endpoint)?, path, binding }).filter(|_| path_is_sound)
}

/// What is under `path`: null when it is absent; `None` when a reference (`${file:…}`) stands where an object is looked
/// for, so that nobody can tell.
fn setting<'a>(config: &'a Value, path: &[&str]) -> Option<&'a Value> {
    static ABSENT: Value = Value::Null;
    let mut at = config;
    for key in path {
        match (at, at.get(key)) {
            (_, Some(inner)) => at = inner,
            (Value::String(_), None) => return None,
            (_, None) => return Some(&ABSENT),
        }
    }
    Some(at)
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

/// As Go's net.Listen has it: by `tcp` each address that means "every interface" is `[::]` with IPv4 too.
fn binding(endpoint: &str, transport: &str) -> Option<Binding> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let ip = match host.trim_start_matches('[').trim_end_matches(']') {
        "" => Ipv6Addr::UNSPECIFIED.into(),
        "localhost" if transport == "tcp6" => Ipv6Addr::LOCALHOST.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse::<IpAddr>().ok()?,
    };
    let ip = match transport {
        "tcp4" if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
        _ if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
        _ => ip,
    };
    Some(Binding { at: SocketAddr::new(ip, port.parse().ok()?), v6_only: transport == "tcp6" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Value {
        crate::config::yaml::parse(yaml.as_bytes()).unwrap_or_else(|error| panic!("{yaml}: {error}"))
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
            ("endpoint: 'a:${env:NESTED}'", Some("a:8080/")),
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
    fn what_is_bound_for_an_endpoint() {
        for (endpoint, transport, at, v6_only) in [
            ("127.0.0.1:1", "tcp", "127.0.0.1:1", false),
            ("[::1]:1", "tcp", "[::1]:1", false),
            ("localhost:1", "tcp", "127.0.0.1:1", false),
            ("localhost:1", "tcp6", "[::1]:1", true),
            ("0.0.0.0:1", "tcp", "[::]:1", false),
            (":1", "tcp", "[::]:1", false),
            ("[::]:1", "tcp", "[::]:1", false),
            ("0.0.0.0:1", "tcp4", "0.0.0.0:1", false),
            ("[::]:1", "tcp6", "[::]:1", true),
        ] {
            let expected = Binding { at: at.parse().unwrap(), v6_only };
            assert_eq!(binding(endpoint, transport), Some(expected), "{endpoint} {transport}");
        }
        assert_eq!(binding("edge:1", "tcp"), None);
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
}
