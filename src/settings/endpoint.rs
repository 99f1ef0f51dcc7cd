//! Where config checks go: the check of an `update-endpoint` that the user gave, and the derivation of one from
//! `collector-endpoint`.
//!
//! Pure. It decides for the API key's safety: nothing is derived that could send the key to a stranger or in the clear.

use super::url::{HttpUrl, is_loopback};

/// What 1.x appends to the API's host (DESIGN.md, "The API").
const CHECK_PATH: &str = "/agents/config-check";

/// Second-level labels under which registries sell names (`co.uk`, `com.au`): the last two labels of such a host belong
/// to everybody. A short list instead of the public suffix list, which is 300 KB; it errs towards deriving nothing.
const SHARED_LABELS: &[&str] = &[
    "ac", "co", "com", "edu", "gen", "go", "gob", "gov", "gv", "id", "ltd", "me", "mil", "ne", "net", "nom", "or",
    "org", "plc", "sch",
];

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

/// `<scheme>://api.<last two labels>/agents/config-check`. Fails with the reason for local mode.
pub fn derive(collector_endpoint: &str, allow_http: bool) -> Result<String, String> {
    derive_from(collector_endpoint, allow_http).map_err(|cause| {
        format!("no update-endpoint can be derived from collector-endpoint, which {cause}: set update-endpoint")
    })
}

fn derive_from(collector_endpoint: &str, allow_http: bool) -> Result<String, String> {
    let url = HttpUrl::parse(collector_endpoint)?;
    if url.is_address {
        return Err("names an IP address".to_string());
    }
    let labels: Vec<&str> = url.host.split('.').collect();
    let [.., second, top] = labels[..] else {
        return Err(format!("names a host without a domain, {:?}", url.host));
    };
    if top.len() == 2 && SHARED_LABELS.contains(&second) {
        return Err(format!("is in the shared domain {second}.{top}"));
    }
    if !url.is_https && !allow_http {
        return Err("is plain http, and allow-http is not set".to_string());
    }
    let scheme = if url.is_https { "https" } else { "http" };
    Ok(format!("{scheme}://api.{second}.{top}{CHECK_PATH}"))
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
            ("https://otel.example.co.uk:4318", Err("co.uk")),
            ("https://otel.company.internal:4318", Ok("https://api.company.internal/agents/config-check")),
            ("http://10.0.0.5:4318", Err("IP address")),
            ("http://localhost:4318", Err("without a domain")),
            ("http://[::1]:4318", Err("IP address")),
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
        assert_eq!(derive("http://otel.x.internal", true).unwrap(), "http://api.x.internal/agents/config-check");
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
