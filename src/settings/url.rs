//! An http or https URL, taken apart strictly, and shown without what may be secret in it.
//!
//! Pure. Settings are checked with it, and `source` makes its requests from it, so that both mean the same by a URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

use crate::config::credentials::{PERCENT_ENCODE, has_cut_user, without_user};

/// An absolute http or https URL.
#[derive(Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Without the user part.
    pub uri: Uri,
    pub is_https: bool,
    /// Lower case, without brackets and without a trailing dot.
    pub host: String,
    /// Whether `host` is an IP address.
    pub is_address: bool,
    /// Whether there was a user name, and perhaps a password.
    pub has_user: bool,
}

impl HttpUrl {
    /// Stricter than `Uri`, which takes odd ports and brackets, and drops a fragment. Fails with the predicate of a
    /// sentence about the text.
    pub fn parse(text: &str) -> Result<HttpUrl, String> {
        if has_cut_user(text) {
            return Err(format!("has an @ after its host: {PERCENT_ENCODE}"));
        }
        let not_a_url = |error: &dyn std::fmt::Display| format!("is not a URL: {error}");
        let mut parts = text.parse::<Uri>().map_err(|error| not_a_url(&error))?.into_parts();
        let is_https = match parts.scheme.as_ref().map(|scheme| scheme.as_str().to_ascii_lowercase()).as_deref() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("is not an http or https URL".to_string()),
        };
        let authority = parts.authority.take().ok_or("has no host")?;
        let place = without_user(authority.as_str());
        let has_user = place.len() < authority.as_str().len();
        let (host, port) = match place.find(']') {
            Some(end) => place.split_at(end + 1),
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        if !port.is_empty() && !port[1..].parse::<u16>().is_ok_and(|port| port > 0) {
            return Err("has a port that is not a number from 1 to 65535".to_string());
        }
        let (host, is_address) = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => {
                let address: Ipv6Addr = inner.parse().map_err(|_| "has brackets but no IPv6 address")?;
                (address.to_string(), true)
            }
            None => named_host(host)?,
        };
        parts.authority = Some(place.parse().map_err(|error| not_a_url(&error))?);
        let uri = Uri::from_parts(parts).map_err(|error| not_a_url(&error))?;
        Ok(HttpUrl { uri, is_https, host, is_address, has_user })
    }
}

/// A host without brackets, and whether it is an IPv4 address.
fn named_host(host: &str) -> Result<(String, bool), String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !host.split('.').all(is_label) {
        return Err("has no valid host name".to_string());
    }
    let is_address = host.rsplit('.').next().is_some_and(is_number);
    if is_address && host.parse::<Ipv4Addr>().is_err() {
        return Err("has no valid host name or address".to_string());
    }
    Ok((host, is_address))
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// No top-level domain is a number, so a host whose last label is one means an IPv4 address (WHATWG URL, 3.5).
fn is_number(label: &str) -> bool {
    label.bytes().all(|b| b.is_ascii_digit())
        || label.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether `host`, given without brackets, is this machine.
pub fn is_loopback(host: &str) -> bool {
    is_localhost(host) || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the name is `localhost` or below it, which is loopback by definition, whatever DNS says (RFC 6761, section
/// 6.3).
pub fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

/// A URL without user, password and query, any of which may hold a secret.
pub fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().map_or(String::new(), |scheme| format!("{scheme}://"));
    let place = uri.authority().map_or("", |authority| without_user(authority.as_str()));
    format!("{scheme}{place}{}", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = HttpUrl::parse("HTTPS://user:p%40w@API.Example.COM.:8443/a?b=c").unwrap();
        assert_eq!(url.uri.to_string(), "https://API.Example.COM.:8443/a?b=c");
        assert_eq!(
            (url.is_https, url.host.as_str(), url.is_address, url.has_user),
            (true, "api.example.com", false, true)
        );
        for (text, host, is_address) in [
            ("http://127.0.0.1", "127.0.0.1", true),
            ("http://[0:0::1]:80/", "::1", true),
            ("http://a_b-c", "a_b-c", false),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!(
                (url.is_https, url.host.as_str(), url.is_address, url.has_user),
                (false, host, is_address, false)
            );
        }
        // What is refused, and why: `endpoint` has the table.
        assert!(HttpUrl::parse("http://user@").is_err());
    }

    /// Each would be taken for a URL of the host `user`.
    #[test]
    fn a_password_that_is_not_encoded_is_refused() {
        for text in [
            "https://user:pa/ss@host:3128",
            "https://user:80/pa@host",
            "https://user:pa?ss@host",
            "https://user:pa#ss@host",
            "https://user:pa\\ss@host",
            "https://user/pa@host",
            "https://us@er:pa@host",
        ] {
            let cause = HttpUrl::parse(text).unwrap_err();
            assert!(cause.contains("%2F") && !cause.contains("pa/ss") && !cause.contains("user:"), "{text}: {cause}");
        }
        for text in ["https://user:pa%2Fss@host:3128/", "https://host/a?b#c", "https://host/%40"] {
            assert!(HttpUrl::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        for (text, expected) in [
            ("https://user:pw@host:1/path?key=secret", "https://host:1/path"),
            ("http://host", "http://host/"),
            ("/path?key=secret", "/path"),
        ] {
            assert_eq!(shown(&text.parse().unwrap()), expected);
        }
    }

    #[test]
    fn loopback_hosts() {
        for host in ["localhost", "LocalHost", "localhost.", "api.localhost", "127.0.0.1", "127.8.9.10", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "localhost.example", "notlocalhost", "localhost..", "127.0.0.1.evil.com", "128.0.0.1", "::2", "[::1]"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
