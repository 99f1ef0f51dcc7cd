//! Hosts and paths in a config's texts. `None` and an error stand for what cannot be judged: it is then refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::components::has;
use super::references::is_variable;

/// The host of `host`, `host:port`, `[v6]:port` or a URL; empty if it names none.
///
/// A gRPC name with a resolver of its own (`dns://server/host`) is not taken apart.
pub fn host(text: &str) -> Option<&str> {
    let authority = match text.split_once("://") {
        Some((scheme, rest)) => {
            has("http https tcp udp ws wss", scheme).then(|| rest.split(['/', '?', '#']).next().unwrap_or(rest))?
        }
        None => text,
    };
    if let Some((address, port)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let is_sound = address.parse::<Ipv6Addr>().is_ok() && is_port(port);
        return is_sound.then_some(address);
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        return Some(authority);
    }
    let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    (is_name && is_port(port)).then_some(host)
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The path of a Unix socket.
pub fn unix_socket(text: &str) -> Option<&str> {
    let text = text.strip_prefix("unix:").map_or(text, |rest| rest.strip_prefix("//").unwrap_or(rest));
    text.starts_with('/').then_some(text)
}

/// The path, relative ones included, of what may be a Unix socket.
pub fn any_unix_socket(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix("unix:") {
        return Some(rest.strip_prefix("//").unwrap_or(rest));
    }
    // With `transport: unix` there is no scheme. What has a port before its first slash is a URL without scheme.
    let is_path = text.starts_with('/')
        || !text.contains("://") && text.split_once('/').is_some_and(|(first, _)| !first.contains(':'));
    is_path.then_some(text)
}

/// Whether a listener there is reached from this host alone. A name below `localhost` is what the resolver says.
///
/// # Errors
/// Why it is not, or may not be.
pub fn listens_on_loopback(text: &str) -> Result<(), &'static str> {
    if is_variable(text) {
        return Err("where it listens cannot be judged, as it is a variable");
    }
    let is_loopback = |host: &str| {
        host == "localhost"
            || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
            || host.parse() == Ok(Ipv6Addr::LOCALHOST)
    };
    let is_local = unix_socket(text).is_some() || host(text).is_some_and(is_loopback);
    if is_local { Ok(()) } else { Err("it may listen beyond loopback") }
}

/// Whether a path, or a pattern of paths, is one of these folders or below one.
///
/// # Errors
/// Why it is not, or may not be.
pub fn is_below(path: &str, folders: &[String]) -> Result<(), &'static str> {
    if is_variable(path) {
        return Err("the path cannot be judged, as it is a variable");
    }
    // A backslash may hide dots.
    if !path.starts_with('/') || path.contains("..") || path.contains('\\') {
        return Err("the path is not absolute, or has .. or a backslash");
    }
    // Up to the last whole name before a wildcard.
    let literal = match path.bytes().position(|byte| b"*?[{".contains(&byte)) {
        Some(wildcard) => &path[..=path[..wildcard].rfind('/').unwrap_or(0)],
        None => path,
    };
    let is_inside = folders.iter().any(|folder| {
        let mut names = names(literal);
        self::names(folder).all(|name| names.next() == Some(name))
    });
    if is_inside { Ok(()) } else { Err("the path is outside of the folders") }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !matches!(*name, "" | "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address() {
        for (text, expected) in [
            ("otel.example.com", Some("otel.example.com")),
            ("otel.example.com:4317", Some("otel.example.com")),
            ("https://otel.example.com:4318/v1?x=@evil", Some("otel.example.com")),
            ("http://otel.example.com#x", Some("otel.example.com")),
            ("[::1]:4317", Some("::1")),
            ("http://[2001:db8::1]/", Some("2001:db8::1")),
            ("::1", Some("::1")),
            (":4317", Some("")),
            ("", Some("")),
            ("https://good.example@evil.example/", None),
            ("https://good.example\\@evil.example/", None),
            ("https://good.example%2eevil.example/", None),
            ("good.example/../evil.example", None),
            ("dns://evil.example/good.example:4317", None),
            ("dns:///good.example:4317", None),
            ("passthrough:good.example", None),
            ("xds:good.example", None),
            ("a:b", None),
            ("a:1:2", None),
            ("[::1]x", None),
            ("[a]:1", None),
            ("${env:HOST}:4317", None),
            ("a b", None),
            ("gööd.example", None),
        ] {
            assert_eq!(host(text), expected, "{text}");
        }
    }

    #[test]
    fn a_unix_socket_may_have_any_path() {
        for (text, expected) in [
            ("unix:///run/a.sock", Some("/run/a.sock")),
            ("unix:/run/a.sock", Some("/run/a.sock")),
            ("unix:run/a.sock", Some("run/a.sock")),
            ("unix://run/a.sock", Some("run/a.sock")),
            ("unix:a.sock", Some("a.sock")),
            ("/run/a.sock", Some("/run/a.sock")),
            ("run/a.sock", Some("run/a.sock")),
            ("../a.sock", Some("../a.sock")),
            ("localhost:80/status", None),
            ("http://localhost/status", None),
            ("localhost:4317", None),
            ("[::1]:80/status", None),
            ("db", None),
        ] {
            assert_eq!(any_unix_socket(text), expected, "{text}");
        }
    }

    #[test]
    fn loopback_is_what_only_this_host_reaches() {
        for text in
            ["localhost:1", "127.0.0.1:1", "127.9.9.9", "[::1]:1", "http://localhost:1/", "unix:///run/a.sock", "/a"]
        {
            assert_eq!(listens_on_loopback(text), Ok(()), "{text}");
        }
        for text in [
            "0.0.0.0:1",
            ":1",
            "",
            "[::]:1",
            "10.0.0.1:1",
            "a.localhost:1",
            "localhost.:1",
            "127.1:1",
            "127.0.0.1.evil:1",
            "[::ffff:127.0.0.1]:1",
            "${env:HOST}:1",
            "127.0.0.1:${env:PORT}",
            "`endpoint`:1",
            "@abstract",
        ] {
            assert!(listens_on_loopback(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_below_a_folder_or_refused() {
        let folders = ["/var/log/".to_string(), "/srv".to_string()];
        for path in [
            "/var/log",
            "/var/log/",
            "/var/log/a/b.log",
            "/var/log/*.log",
            "/srv/**/x",
            "//var/./log/x",
            "/var/log/a{b,c}",
        ] {
            assert_eq!(is_below(path, &folders), Ok(()), "{path}");
        }
        for path in [
            "/",
            "/var",
            "/var/log2",
            "/var/l*",
            "/var/log*",
            "/*/log/x",
            "/var/log/../lib",
            "/var/log/{a,../b}",
            "var/log",
            "./var/log",
            "",
            "/var/log/\\.\\./x",
            "/var/log/${env:X}",
            "/var/log/`x`",
            "~/x",
            "C:\\var\\log",
        ] {
            assert!(is_below(path, &folders).is_err(), "{path}");
        }
    }
}
