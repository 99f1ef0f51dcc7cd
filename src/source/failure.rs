//! What a failed call of a source means: for operators, with the remedy, and as an exit status. Pure: the clock is
//! passed in.
//!
//! A text must not change while its reason stays the same, since the poller logs each reason once. So no counters,
//! ports or times of day in it, and a date only where it is the point.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::CertificateError::*;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, Error as TlsError, InvalidMessage, PeerIncompatible};
use ureq::http::HeaderMap;
use ureq::http::header::{DATE, RETRY_AFTER};

use crate::error::{Error, Exit};
use crate::log::utc::{Utc, from_http_date};

/// 2026-01-01 in Unix time, about when this was written: a clock that is earlier is wrong.
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);

/// Why a source gave no answer, or none that can be used.
#[derive(Debug)]
pub struct Failure {
    /// What was asked, and why that failed.
    pub error: Error,
    /// What the server said to it, in part: on one line, without secrets. It may differ each time.
    pub answer: Option<String>,
    /// How long the server asks to be left alone, an hour at most; `None` when it does not say.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// Why it failed, and what the server said, for whom it is clear what was asked.
    pub fn reason(&self) -> String {
        match &self.answer {
            Some(answer) => format!("{}; the server says: {answer}", self.error.cause()),
            None => self.error.cause(),
        }
    }

    /// With what the server said.
    pub fn into_error(self) -> Error {
        Error::because(self.error.exit(), self.error.what(), self.reason())
    }
}

/// The exit status for an HTTP status that is not 200. What a later try may cure is `TryAgain`; a refused key is
/// `Denied`; anything else (a redirect, 404, 204) means that this is not the API we know, and is `BadAnswer`.
pub fn exit_for(status: u16) -> Exit {
    match status {
        401 | 403 => Exit::Denied,
        408 | 425 | 429 | 500..=599 => Exit::TryAgain,
        _ => Exit::BadAnswer,
    }
}

/// What an operator can do about an HTTP status, to be appended to it; empty when nothing but to wait.
pub fn remedy_for(status: u16, has_key: bool) -> &'static str {
    match status {
        401 | 403 if !has_key => "; set api-key",
        401 | 403 => "; check api-key",
        404 | 405 => "; check update-endpoint",
        _ => "",
    }
}

/// What an operator can do about a connection that was not made, to be appended to its cause; empty when the cause says
/// it all, or nothing but to wait.
pub fn remedy_for_connection(error: &ureq::Error, through_proxy: bool) -> &'static str {
    use std::io::ErrorKind::*;
    match error {
        ureq::Error::Io(error) => match error.kind() {
            ConnectionRefused if through_proxy => "; check the proxy, and the proxy variables",
            ConnectionRefused => "; check update-endpoint, and that the server runs",
            NetworkUnreachable | HostUnreachable | NetworkDown => "; check this host's network",
            _ => "",
        },
        ureq::Error::HostNotFound => "; check update-endpoint, and this host's DNS",
        _ => "",
    }
}

/// How long the server wants to be left alone: seconds or a date (RFC 9110, section 10.2.3), an hour at most. A date is
/// measured by the server's own `Date` where it sends one, as our clock may be wrong. More than a day is taken for a
/// mistake and ignored.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(3600);
    const ABSURD: Duration = Duration::from_secs(86_400);
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let value = text(RETRY_AFTER)?;
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(value.parse().ok()?)
    } else {
        let now = text(DATE).and_then(from_http_date).unwrap_or(now);
        from_http_date(value)?.duration_since(now).ok()?
    };
    (!wait.is_zero() && wait <= ABSURD).then_some(wait.min(LONGEST))
}

/// The cause of a failure on the way: before, or in the middle of, an answer. `ca_file` is the setting.
pub fn cause_of(error: ureq::Error, timeout: Duration, ca_file: Option<&Path>, now: SystemTime) -> (Exit, String) {
    use std::io::ErrorKind::UnexpectedEof;
    use ureq::Error::*;
    let cause = match error {
        Timeout(_) => format!("no complete answer within {timeout:?}; if the API is only slow, raise poll-timeout"),
        Rustls(error) => tls_cause(&error, ca_file, now),
        Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(error) => tls_cause(error, ca_file, now),
            None if error.kind() == UnexpectedEof => {
                "the connection was closed before the answer was complete".to_owned()
            }
            None => error.to_string(),
        },
        HostNotFound => "the host name has no address".to_owned(),
        ConnectProxyFailed(reason) => reason,
        // There is input, and more is needed to make anything of it, and no more comes or fits the buffer.
        BodyStalled => "the answer ended within a chunk size".to_owned(),
        Protocol(error) => return (Exit::BadAnswer, format!("the answer is not HTTP: {error}")),
        LargeResponseHeader(..) => return (Exit::BadAnswer, "the answer's header is too long".to_owned()),
        other => other.to_string(),
    };
    (Exit::TryAgain, cause)
}

fn tls_cause(error: &TlsError, ca_file: Option<&Path>, now: SystemTime) -> String {
    let date = |time: &UnixTime| Utc::from(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())).date();
    let clock = || {
        let remedy = if now < SystemTime::UNIX_EPOCH + WRITTEN { ", which is wrong: set it" } else { "" };
        format!("this host's clock says {}{remedy}", Utc::from(now).date())
    };
    match error {
        // The latter when an authority was made anew under its old name.
        TlsError::InvalidCertificate(UnknownIssuer | BadSignature) => match ca_file {
            Some(path) => format!(
                "no authority in ca-file {} has signed the server's certificate; add the one that has",
                path.display()
            ),
            None => "the server's certificate is not signed by any of Mozilla's authorities; if that is intended \
                     (a private authority, a TLS-inspecting proxy), set ca-file to its PEM bundle"
                .to_owned(),
        },
        TlsError::InvalidCertificate(ExpiredContext { not_after, .. }) => {
            format!("the server's certificate expired on {}; {}", date(not_after), clock())
        }
        TlsError::InvalidCertificate(NotValidYetContext { not_before, .. }) => {
            format!("the server's certificate is valid from {} only; {}", date(not_before), clock())
        }
        TlsError::InvalidCertificate(Expired | NotValidYet) => {
            format!("the server's certificate is not valid now; {}", clock())
        }
        TlsError::InvalidCertificate(NotValidForNameContext { expected, presented }) => {
            // Each is in Debug form, as in `DnsName("a.example")`.
            let bare = |name: &String| name.trim_end_matches([')', '"']).rsplit(['(', '"']).next().map(str::to_owned);
            let presented: Vec<_> = presented.iter().filter_map(bare).collect();
            let presented = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            format!("the server's certificate is for {presented}, not for {}", expected.to_str())
        }
        // What `openssl req -x509` makes is one by default.
        TlsError::InvalidCertificate(Other(other)) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the server's certificate is a CA certificate; have the CA issue one for the server".to_owned()
        }
        TlsError::InvalidCertificate(other) => format!("the server's certificate is refused: {other}"),
        // The former if it refuses ours, the latter if it offers its own.
        TlsError::AlertReceived(AlertDescription::ProtocolVersion)
        | TlsError::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            "the server supports neither TLS 1.2 nor TLS 1.3; enable one of them there".to_owned()
        }
        TlsError::AlertReceived(alert) => format!("the server aborted the TLS handshake: {alert:?}"),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS on this port; check scheme and port of update-endpoint".to_owned()
        }
        other => format!("TLS: {other}"),
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
