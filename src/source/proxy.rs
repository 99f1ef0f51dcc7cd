//! Which proxy a request goes through, from the usual environment variables, as curl decides it. Pure: the environment
//! is passed in.
//!
//! ureq's own reading of these variables is not used: it sends an https request through `HTTP_PROXY`, prefers
//! `ALL_PROXY` to both, and knows neither address ranges nor ports nor white space in `NO_PROXY`. Two things differ
//! from curl, after the agent's predecessor (Go): loopback hosts never use a proxy, which could not reach them, and
//! `HTTP_PROXY` counts in capitals too, as no CGI runs us.

use std::net::IpAddr;

use ureq::http::Uri;

use crate::settings::url::is_loopback;

/// A proxy that a request is to use: its URL, and the variable that named it.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    pub url: String,
    pub variable: &'static str,
}

/// `None` means: connect directly. An empty variable counts as unset.
pub fn choose(endpoint: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<Choice> {
    let host = endpoint.host()?.trim_start_matches('[').trim_end_matches([']', '.']);
    let is_https = endpoint.scheme_str() == Some("https");
    let set = |name| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let names = match is_https {
        true => ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        false => ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let choice = names.into_iter().find_map(|variable| Some(Choice { url: set(variable)?, variable }))?;
    let exceptions = ["no_proxy", "NO_PROXY"].into_iter().find_map(set).unwrap_or_default();
    let port = endpoint.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    (!is_loopback(host) && !is_excepted(host, port, &exceptions)).then_some(choice)
}

/// Whether an entry of the list, separated by commas or white space, covers the host: `*`, a domain with everything
/// below it (a leading dot or `*.` makes no difference), an address, or a range of addresses such as `10.0.0.0/8`; each
/// but `*` perhaps with a `:port`.
fn is_excepted(host: &str, port: u16, exceptions: &str) -> bool {
    exceptions.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()).any(|entry| {
        let (pattern, only_port) = split_port(entry);
        if entry == "*" || only_port.is_some_and(|only| only != port) {
            return entry == "*";
        }
        match host.parse::<IpAddr>() {
            Ok(address) => is_within(address, pattern),
            Err(_) => is_below(host, pattern),
        }
    })
}

/// `host:port`, `[v6]:port`, `[v6]` or a bare host; more than one colon without brackets is a bare IPv6 address.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((host, port)) = entry.strip_prefix('[').and_then(|entry| entry.split_once(']')) {
        // `[fd00::]/8` is a range.
        return if port.starts_with('/') { (entry, None) } else { (host, port.trim_start_matches(':').parse().ok()) };
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (entry, None),
    }
}

fn is_below(host: &str, pattern: &str) -> bool {
    let pattern = pattern.trim_start_matches('*').trim_matches('.');
    let Some(start) = host.len().checked_sub(pattern.len()) else { return false };
    !pattern.is_empty()
        && host.is_char_boundary(start)
        && host[start..].eq_ignore_ascii_case(pattern)
        && (start == 0 || host[..start].ends_with('.'))
}

fn is_within(address: IpAddr, pattern: &str) -> bool {
    let (network, prefix) = pattern.split_once('/').unwrap_or((pattern, ""));
    let Ok(network) = network.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() else { return false };
    let ((address, width), (network, network_width)) = (bits(address), bits(network));
    let prefix = if prefix.is_empty() { Ok(width) } else { prefix.parse() };
    match prefix {
        Ok(prefix) if width == network_width && prefix <= width => {
            (address ^ network).checked_shr(width - prefix).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(endpoint: &str, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| variables.iter().find(|set| set.0 == name).map(|set| set.1.to_owned());
        choose(&endpoint.parse().unwrap(), variable).map(|choice| format!("{}={}", choice.variable, choice.url))
    }

    #[test]
    fn the_scheme_decides_which_variable_counts() {
        let all: &[_] = &[("http_proxy", "h"), ("HTTPS_PROXY", "S"), ("ALL_PROXY", "A")];
        for (endpoint, variables, expected) in [
            ("https://api.example.com/x", all, Some("HTTPS_PROXY=S")),
            ("http://api.example.com/x", all, Some("http_proxy=h")),
            ("https://api.example.com/x", &[("HTTP_PROXY", "H")], None),
            ("http://api.example.com/x", &[("HTTP_PROXY", "H")], Some("HTTP_PROXY=H")),
            ("http://api.example.com/x", &[("https_proxy", "s")], None),
            ("https://api.example.com/x", &[("HTTPS_PROXY", "S"), ("https_proxy", "s")], Some("https_proxy=s")),
            ("https://api.example.com/x", &[("https_proxy", " "), ("all_proxy", " a ")], Some("all_proxy=a")),
            ("https://api.example.com/x", &[], None),
            ("https://localhost:8443/x", all, None),
            ("https://127.0.0.2/x", all, None),
            ("https://[::1]:8443/x", all, None),
        ] {
            assert_eq!(chosen(endpoint, variables).as_deref(), expected, "{endpoint} {variables:?}");
        }
    }

    #[test]
    fn exceptions_are_curls() {
        for (host, exceptions, is_direct) in [
            ("api.example.com", "*", true),
            ("api.example.com", "example.com", true),
            ("api.example.com", ".example.com", true),
            ("api.example.com", "*.example.com", true),
            ("API.Example.com.", "EXAMPLE.com.", true),
            ("api.example.com", "api.example.com", true),
            ("example.com", ".example.com", true),
            ("badexample.com", "example.com", false),
            ("api.example.com", "ple.com", false),
            ("api.example.com", "localhost, 127.0.0.1 , example.com", true),
            ("api.example.com", "localhost example.com", true),
            ("api.example.com", "", false),
            ("api.example.com", ",., ,*.", false),
            ("api.example.com:8443", "example.com:8443", true),
            ("api.example.com:8443", "example.com:443", false),
            ("api.example.com", "example.com:443", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.1.2.0/31", false),
            ("10.1.2.3", "10.1.2.2/31", true),
            ("10.1.2.3", "10.0.0.0/33", false),
            ("10.1.2.3", "10.0.0.0/x", false),
            ("10.1.2.3", "2.3", false),
            ("10.1.2.3:81", "10.1.2.3:81", true),
            ("[fd00::1]", "fd00::1", true),
            ("[fd00::1]", "[fd00::1]", true),
            ("[fd00::1]", "[fd00::1]:443", true),
            ("[fd00::1]", "[fd00::1]:444", false),
            ("[fd00::1]", "fd00::/8", true),
            ("[fd00::1]", "[fd00::]/8", true),
            ("[fd00::1]", "::/0", true),
            ("[fd00::1]", "0.0.0.0/0", false),
            ("[fe00::1]", "fd00::/8", false),
            ("xn--e1afmkfd.example", "пример.example", false),
        ] {
            let variables = [("https_proxy", "p"), ("NO_PROXY", exceptions)];
            let is_chosen = chosen(&format!("https://{host}/x"), &variables).is_some();
            assert_eq!(!is_chosen, is_direct, "{host} {exceptions}");
        }
    }
}
