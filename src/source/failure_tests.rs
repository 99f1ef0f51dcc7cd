//! Tables: statuses and their exits, `Retry-After`, and what is said of each TLS failure.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, RootCertStore};

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn every_status_has_an_exit() {
    for (statuses, exit) in [
        (&[401, 403][..], Exit::Denied),
        (&[408, 425, 429, 500, 502, 503, 504, 599], Exit::TryAgain),
        (&[201, 204, 301, 302, 307, 308, 400, 404, 405, 410, 418, 422], Exit::BadAnswer),
    ] {
        for status in statuses {
            assert_eq!(exit_for(*status), exit, "{status}");
        }
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_sane() {
    // 1994-11-06 08:49:37, the date of the standard's examples.
    let now = at(784_111_777);
    for (value, date, expected) in [
        ("120", None, Some(120)),
        (" 5 ", None, Some(5)),
        ("0", None, None),
        ("7200", None, Some(3600)),
        ("86400", None, Some(3600)),
        ("86401", None, None),
        ("99999999999999999999", None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("Sun, 06 Nov 1994 08:50:37 GMT", None, Some(60)),
        ("Sun, 06 Nov 1994 08:49:00 GMT", None, None),
        ("Mon, 06 Nov 2034 08:49:37 GMT", None, None),
        ("Mon, 06 Nov 2034 08:50:07 GMT", Some("Mon, 06 Nov 2034 08:49:37 GMT"), Some(30)),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        date.map(|date| headers.insert(DATE, date.parse().unwrap()));
        assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value:?} {date:?}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn each_tls_failure_says_what_to_do() {
    let (good_clock, bad_clock) = (at(1_795_356_277), at(1000));
    let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let expired = |now| ExpiredContext { time: time(now), not_after: time(1_700_000_000) };
    let early = |now| NotValidYetContext { time: time(now), not_before: time(1_700_000_000) };
    let name = NotValidForNameContext {
        expected: ServerName::try_from("api.example.com").unwrap().to_owned(),
        presented: vec!["DnsName(\"a.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()],
    };
    let unsupported =
        UnsupportedSignatureAlgorithmContext { signature_algorithm_id: vec![6, 8], supported_algorithms: vec![] }
            .into();
    let ca_file = Some(Path::new("/etc/ca.pem"));
    for (error, ca_file, now, expected) in [
        (UnknownIssuer.into(), None, good_clock, "set ca-file to its PEM bundle"),
        (UnknownIssuer.into(), ca_file, good_clock, "no authority in ca-file /etc/ca.pem has signed"),
        (expired(1).into(), None, good_clock, "expired on 2023-11-14; this host's clock says 2026-11-22"),
        (
            early(1).into(),
            None,
            bad_clock,
            "from 2023-11-14 only; this host's clock says 1970-01-01, which is wrong: set it",
        ),
        (Expired.into(), None, good_clock, "is not valid now; this host's clock says 2026-11-22"),
        (name.into(), None, good_clock, "certificate is for a.example, 10.0.0.1, not for api.example.com"),
        (BadEncoding.into(), None, good_clock, "certificate is refused: "),
        (TlsError::AlertReceived(AlertDescription::HandshakeFailure), None, good_clock, SUPPORTED),
        (PeerMisbehaved::SelectedUnofferedCipherSuite.into(), None, good_clock, SUPPORTED),
        (PeerIncompatible::NoSignatureSchemesInCommon.into(), None, good_clock, SUPPORTED),
        (
            TlsError::AlertReceived(AlertDescription::CertificateRequired),
            None,
            good_clock,
            "wants a client certificate",
        ),
        (TlsError::AlertReceived(AlertDescription::UnrecognisedName), None, good_clock, "check update-endpoint"),
        (BadSignature.into(), ca_file, good_clock, "no authority in ca-file /etc/ca.pem has signed"),
        (BadSignature.into(), None, good_clock, "less than 2048 bits"),
        (unsupported, None, good_clock, "sign it with RSA or Ed25519, or with ECDSA on P-256 or P-384 and SHA-256"),
        (InvalidMessage::InvalidContentType.into(), None, good_clock, "does not speak TLS on this port"),
    ] {
        let text = tls_cause(&error, ca_file, now);
        assert!(text.contains(expected), "{text}");
        // As it comes from a connection.
        let wrapped = ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
        let attempt = Attempt { timeout: Duration::ZERO, ca_file, proxy: None, now };
        assert_eq!(cause_of(wrapped, attempt), (Exit::TryAgain, text));
    }
}

#[test]
fn a_text_stays_the_same_while_its_reason_does() {
    let text = |now| {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let error = ExpiredContext { time: time(now), not_after: time(1_700_000_000) }.into();
        tls_cause(&error, None, at(now))
    };
    assert_eq!(text(1_795_356_277), text(1_795_356_337));
}

/// By `openssl x509 -req` without an extension, which makes version 1, and with `-sha512`; the authority has a key on
/// P-256. Nobody has their keys any more.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBcDCCARegAwIBAgIUFQ1bzhh558MVYqiRy4CYSoIf7WIwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI5MjEzMDU3WhgPMjEyNjExMDUyMTMwNTda
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQLZwiq4P
XDJ8oxm1WzmOrqZCp1W8NBQXVgidiAlSCsp8/NUSMA8oYktFNWBWvwyUKxifU7CW
zVtqBae31N10aKNTMFEwHQYDVR0OBBYEFL3F7E5YvH/Qc06GPxLym9nmETvjMB8G
A1UdIwQYMBaAFL3F7E5YvH/Qc06GPxLym9nmETvjMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDRwAwRAIgP41PHwhWX9dk3xfwrFWWnvVp9+bTKrnIJpWP/m9o
troCIHXrb49+V6FgzOizukmLwyL4gyznw/IitoStGguCBNCJ
-----END CERTIFICATE-----
";
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBGjCBwQIUZnFhx91KABRzqHllRCyjnCMD1aUwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCY2EwIBcNMjYxMTI5MjEzMDU3WhgPMjEyNjExMDUyMTMwNTdaMBExDzAN
BgNVBAMMBnNlcnZlcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEnycrI6sdKA
zYJZesmCgDvPIAPvkvSVQOMPNiAXnDhYgi3s+xDdEAhkjQ3IQ8SEDgkKQlDQbAFA
tkU45R/DHwUwCgYIKoZIzj0EAwIDSAAwRQIgIwHwiCcKbXe6nE86UKNBURNgOhC2
uMlUyZQCC++vaR8CIQC33eCjIamJOJcOtHu6x8WA1EE625AUppl0iv/juWOs9Q==
-----END CERTIFICATE-----
";
const SHA_512_ON_P_256: &str = "-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUZnFhx91KABRzqHllRCyjnCMD1aYwCgYIKoZIzj0EAwQw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI5MjEzMDU3WhgPMjEyNjExMDUyMTMwNTda
MBExDzANBgNVBAMMBnNlcnZlcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABGFB
7abN1pqBNqzzPFgOSnzR3waD9GzX4FY/MpDLSi3Pxd/66tmR9LDSrPXFSBLm86b/
jdJYCSCJmGsQflzPg5ijVTBTMBEGA1UdEQQKMAiCBnNlcnZlcjAdBgNVHQ4EFgQU
RNE9BO+AjCOOWC5KfJBCDAcFDicwHwYDVR0jBBgwFoAUvcXsTli8f9BzToY/EvKb
2eYRO+MwCgYIKoZIzj0EAwQDSAAwRQIhAKbjVJcIRPNkTkxcIsqaBkCtPSZwiZ3A
vqsZ7XbiT4rbAiBgjrfOkV0NVfqYr+RroyzhVUvwuOMoOBZrUYA6LMNj5Q==
-----END CERTIFICATE-----
";

/// As the library reports them, whose words are its own.
#[test]
fn real_certificates_that_are_not_supported_say_what_to_do() {
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(der(AUTHORITY)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from("server").unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000));
    for (pem, expected) in
        [(VERSION_1, "is X.509 version 1; have a"), (SHA_512_ON_P_256, "P-384 and SHA-256 or SHA-384")]
    {
        let error = verifier.verify_server_cert(&der(pem), &[], &name, &[], now).unwrap_err();
        let text = tls_cause(&error, None, at(2_000_000_000));
        assert!(text.contains(expected) && !text.contains("Context"), "{text}");
    }
}

#[test]
fn a_proxy_that_makes_no_connection_says_what_to_do() {
    fn attempt(proxy: Option<&ProxyUse>) -> Attempt<'_> {
        Attempt { timeout: Duration::ZERO, ca_file: None, proxy, now: at(0) }
    }
    let used = |has_user| ProxyUse { variable: "all_proxy", has_user, shown: String::new() };
    for (status, has_user, expected) in [
        (
            407,
            false,
            "requires a user name and password (HTTP status 407); write them, percent-encoded, into all_proxy",
        ),
        (407, true, "refuses the user name or password in all_proxy (HTTP status 407)"),
        (403, true, "forbids the connection (HTTP status 403); allow it there"),
        (502, false, "makes no connection (HTTP status 502)"),
    ] {
        let error = ureq::Error::ConnectProxyFailed(format!("proxy server responded {status}/{status}"));
        let (exit, text) = cause_of(error, attempt(Some(&used(has_user))));
        assert!(text.starts_with("the proxy ") && text.contains(expected) && exit == Exit::TryAgain, "{text}");
    }
    let other = ureq::Error::ConnectProxyFailed("proxy server did not respond".to_owned());
    assert_eq!(cause_of(other, attempt(None)).1, "proxy server did not respond");
    assert!(remedy_for(407, "api-key", true).contains("set HTTPS_PROXY"));
}
