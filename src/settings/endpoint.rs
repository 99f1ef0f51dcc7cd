//! Where config checks go: the check of an `update-endpoint` that the user gave, and the derivation of one from
//! `collector-endpoint`.
//!
//! Pure. It decides for the API key's safety: nothing is derived that could send the key to a stranger or in the clear.

use super::url::{HttpUrl, is_loopback};

/// What 1.x appends to the API's host (DESIGN.md, "The API").
const CHECK_PATH: &str = "/agents/config-check";

/// The vendor's own domains, the production one and that of its tests. The API key is the vendor's: the owner of any
/// other domain (`duckdns.org`, which sells names below it) would get it as a stranger.
const VENDOR_DOMAINS: [&str; 2] = ["kloudmate.com", "kloudmate.dev"];

/// Accepts an `update-endpoint` that the user gave. Fails with the predicate of a sentence about it.
pub fn check(text: &str, allow_http: bool) -> Result<String, String> {
    if text.contains('#') {
        return Err("has a fragment: remove the # and what follows it".to_string());
    }
    let url = HttpUrl::parse(text)?;
    if url.has_user {
        return Err("contains a user name: remove it, the API key is the only credential".to_string());
    }
    if !url.is_https && !allow_http && !is_loopback(&url.host) {
        return Err("would send the API key in cleartext: use https, or set allow-http".to_string());
    }
    Ok(text.to_string())
}

/// `<scheme>://api.<domain>/agents/config-check`, for a host in one of the vendor's domains. Fails with the reason for
/// local mode.
pub fn derive(collector_endpoint: &str, allow_http: bool) -> Result<String, String> {
    derive_from(collector_endpoint, allow_http).map_err(|cause| {
        format!("no update-endpoint can be derived from collector-endpoint, which {cause}: set update-endpoint")
    })
}

fn derive_from(collector_endpoint: &str, allow_http: bool) -> Result<String, String> {
    let url = HttpUrl::parse(collector_endpoint)?;
    let is_in =
        |domain: &&str| url.host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let Some(domain) = VENDOR_DOMAINS.into_iter().find(is_in) else {
        return Err(format!("is at {}, not in the domain {}", url.host, VENDOR_DOMAINS[0]));
    };
    if !url.is_https && !allow_http {
        return Err("is plain http, and allow-http is not set".to_string());
    }
    let scheme = if url.is_https { "https" } else { "http" };
    Ok(format!("{scheme}://api.{domain}{CHECK_PATH}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What 1.x was tried with (DESIGN.md, "The API"); what it turned into nonsense or a crash means local mode.
    #[test]
    fn derivation() {
        const KLOUDMATE: Result<&str, &str> = Ok("https://api.kloudmate.com/agents/config-check");
        for (endpoint, expected) in [
            ("https://otel.kloudmate.com:4318", KLOUDMATE),
            ("https://otel.kloudmate.dev:4318", Ok("https://api.kloudmate.dev/agents/config-check")),
            ("https://otel.eu.kloudmate.com:4318", KLOUDMATE),
            ("https://kloudmate.com", KLOUDMATE),
            ("https://user:pw@otel.kloudmate.com:4318/path?q=1#f", KLOUDMATE),
            ("HTTPS://OTEL.KloudMate.COM:4318", KLOUDMATE),
            ("grpc://otel.kloudmate.com:4317", Err("not an http or https URL")),
            ("https://otel.example.co.uk:4318", Err("is at otel.example.co.uk, not in the domain kloudmate.com")),
            ("https://otel.company.internal:4318", Err("is at otel.company.internal, not in")),
            ("http://10.0.0.5:4318", Err("is at 10.0.0.5, not in")),
            ("http://localhost:4318", Err("is at localhost, not in")),
            ("http://[::1]:4318", Err("is at ::1, not in")),
            ("otel.kloudmate.com", Err("not an http or https URL")),
            ("otel.kloudmate.com:4318", Err("not an http or https URL")),
            ("localhost:4318", Err("not an http or https URL")),
            ("", Err("not a URL")),
            (" ", Err("not a URL")),
            ("//otel.kloudmate.com:4318", Err("not an http or https URL")),
            ("https://otel.kloudmate.com.:4318", KLOUDMATE),
            ("10.0.0.5:4318", Err("not an http or https URL")),
            ("https://host:port", Err("port")),
            ("://bad", Err("not an http or https URL")),
            ("http://%zz", Err("not a URL")),
            (" https://otel.kloudmate.com:4318", Err("not a URL")),
            ("https://otel.kloud mate.com:4318", Err("not a URL")),
            // Ours: the rest of what could go wrong.
            ("https://otel.kloudmate.com:99999", Err("port")),
            ("https://otel.kloudmate.com:", Err("port")),
            ("https://10.0.5", Err("address")),
            ("https://otel.0x7f", Err("address")),
            ("https://[::1", Err("not a URL")),
            ("https://[nonsense]", Err("")),
            ("https://otel..com", Err("host name")),
            ("https://", Err("not a URL")),
            ("https:///path", Err("not a URL")),
            ("http://otel.kloudmate.com", Err("allow-http")),
            // The key would go to a stranger.
            ("https://gw.x.duckdns.org:4318", Err("is at gw.x.duckdns.org, not in the domain kloudmate.com")),
            ("https://notkloudmate.com", Err("is at notkloudmate.com, not in")),
            ("https://otel.kloudmate.com.example.org", Err("is at otel.kloudmate.com.example.org, not in")),
            ("https://kloudmate.com@example.org", Err("is at example.org, not in")),
            ("https://com", Err("is at com, not in")),
        ] {
            match (derive(endpoint, false), expected) {
                (Ok(derived), Ok(expected)) => assert_eq!(derived, expected, "{endpoint}"),
                (Err(reason), Err(part)) => {
                    assert!(reason.contains(part) && reason.ends_with("set update-endpoint"), "{endpoint}: {reason}");
                    assert!(!reason.contains("pw"), "{reason}");
                }
                (got, _) => panic!("{endpoint}: {got:?}"),
            }
        }
        assert_eq!(derive("http://otel.kloudmate.com", true).unwrap(), "http://api.kloudmate.com/agents/config-check");
    }

    #[test]
    fn explicit_endpoints() {
        for (endpoint, expected) in [
            ("https://api.kloudmate.com/agents/config-check", None),
            ("HTTPS://API.kloudmate.com./x?y=z", None),
            ("https://10.0.0.5:8443/x", None),
            ("https://single", None),
            ("http://localhost:8080/x", None),
            ("http://LOCALHOST:8080/x", None),
            ("http://LOCALHOST.:8080/x", None),
            ("http://api.localhost:8080/x", None),
            ("http://notlocalhost/x", Some("allow-http")),
            ("http://127.8.9.10/x", None),
            ("http://[::1]:8080/x", None),
            ("http://api.company.internal/x", Some("allow-http")),
            ("http://128.0.0.1/x", Some("allow-http")),
            ("http://127.0.0.1.evil.com/x", Some("allow-http")),
            ("http://localhost@evil.com/x", Some("user name")),
            ("http://[::2]/x", Some("allow-http")),
            ("http://[::1]extra/x", Some("")),
            ("https://user:pw@api.kloudmate.com/x", Some("user name")),
            ("https://api.kloudmate.com/x#y", Some("fragment")),
            ("ftp://api.kloudmate.com/x", Some("http or https")),
            ("api.kloudmate.com/x", Some("")),
            ("/agents/config-check", Some("http or https")),
            ("https://api.kloudmate.com:0/x", Some("port")),
            ("https://bücher.example/x", Some("not a URL")),
            ("https://a%41.example/x", Some("")),
        ] {
            match (check(endpoint, false), expected) {
                (Ok(kept), None) => assert_eq!(kept, endpoint),
                (Err(cause), Some(part)) => {
                    assert!(cause.contains(part) && !cause.contains("pw"), "{endpoint}: {cause}")
                }
                (got, _) => panic!("{endpoint}: {got:?}"),
            }
        }
        assert!(check("http://api.company.internal/x", true).is_ok());
    }
}
