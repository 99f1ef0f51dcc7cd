//! Where config checks go, when it is derived and when it is named. The unit tests have every vector.

use super::Case;

const KEY: [(&str, &str); 1] = [("KM_API_KEY", "k")];

#[test]
fn derived_from_the_collector_endpoint() {
    let case = Case::new("");
    for (endpoint, expected) in [
        ("https://otel.kloudmate.com:4318", "https://api.kloudmate.com/agents/config-check"),
        ("https://otel.eu.kloudmate.dev", "https://api.kloudmate.dev/agents/config-check"),
        ("HTTPS://OTEL.KloudMate.COM./v1/traces", "https://api.kloudmate.com/agents/config-check"),
        ("https://kloudmate.com", "https://api.kloudmate.com/agents/config-check"),
        ("https://user:SECRET@otel.kloudmate.com", "https://api.kloudmate.com/agents/config-check"),
    ] {
        let rows = case.rows(&KEY, &["--collector-endpoint", endpoint]);
        let expected = (expected.to_string(), "derived from collector-endpoint".to_string());
        assert_eq!(rows["update-endpoint"], expected, "{endpoint}");
    }
    let rows = case.rows(&KEY, &["--collector-endpoint=http://otel.kloudmate.com", "--allow-http"]);
    assert_eq!(rows["update-endpoint"].0, "http://api.kloudmate.com/agents/config-check");
}

#[test]
fn what_cannot_be_derived_is_local_mode_with_its_reason() {
    let case = Case::new("");
    for endpoint in [
        "https://gw.x.duckdns.org",
        "https://otel.example.com",
        "https://10.0.0.5:4318",
        "https://[::1]:4318",
        "https://localhost:4318",
        "grpc://otel.kloudmate.com",
        "otel.kloudmate.com:4317",
        "http://otel.kloudmate.com",
        "nonsense",
    ] {
        let (value, source) = case.rows(&KEY, &["--collector-endpoint", endpoint])["update-endpoint"].clone();
        assert_eq!(value, "(none)", "{endpoint}");
        assert!(source.starts_with("local mode: ") && source.ends_with("set update-endpoint"), "{endpoint}: {source}");
    }
    let (value, source) = case.rows(&[], &[])["update-endpoint"].clone();
    assert_eq!(value, "(none)");
    assert!(source.contains("there is no API key: set api-key-file"), "{source}");
}

#[test]
fn a_named_one_is_used_as_it_stands_or_refused() {
    let case = Case::new("");
    for url in ["https://10.0.0.5:8443/x?y=z", "http://127.0.0.1:8080/x", "http://localhost/x", "https://single"] {
        let rows = case.rows(&[], &["--update-endpoint", url]);
        assert_eq!(rows["update-endpoint"], (url.to_string(), "flag --update-endpoint".to_string()));
    }
    for (url, expected) in [
        ("http://api.example.com/x", "allow-http"),
        ("ftp://api.example.com/x", "http or https"),
        ("https://u:SECRET@api.example.com/x", "user name"),
        ("https://u:SECRET/x@api.example.com/x", "%2F"),
        ("https://u:80/SECRET@api.example.com/x", "%2F"),
        ("https://u:SECRET \"x@api.example.com/x", ""),
        ("api.example.com", ""),
        ("https://api.example.com:0/x", "port"),
    ] {
        let output = case.print(&KEY, &["--update-endpoint", url]);
        output.fails(78, expected);
        assert!(
            output.stderr.starts_with("kmagent: --update-endpoint: ") && !output.stderr.contains("SECRET"),
            "{output:?}"
        );
    }
}
