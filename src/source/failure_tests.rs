//! Tables: statuses and their exits, `Retry-After`, and what is said of each TLS failure.

use rustls::AlertDescription;
use rustls::pki_types::ServerName;

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
        (TlsError::AlertReceived(AlertDescription::HandshakeFailure), None, good_clock, "aborted the TLS handshake"),
        (InvalidMessage::InvalidContentType.into(), None, good_clock, "does not speak TLS on this port"),
    ] {
        let text = tls_cause(&error, ca_file, now);
        assert!(text.contains(expected), "{text}");
        // As it comes from a connection.
        let wrapped = ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
        assert_eq!(cause_of(wrapped, Duration::ZERO, ca_file, now), (Exit::TryAgain, text));
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
