//! What a failed call of a source means: for operators, with the remedy, and as an exit status. Pure: the clock is
//! passed in.
//!
//! A text must not change while its reason stays the same, since the poller logs each reason once. So no counters,
//! ports or times of day in it, and a date only where it is the point.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::CertificateError::*;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, Error as TlsError, InvalidMessage, PeerIncompatible, PeerMisbehaved};
use ureq::http::HeaderMap;
use ureq::http::header::{DATE, RETRY_AFTER};

use crate::error::{Error, Exit};
use crate::log::Masked;
use crate::log::utc::{Utc, from_http_date};

/// 2026-01-01 in Unix time, about when this was written: a clock that is earlier is wrong.
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);

/// Why a source gave no answer, or none that can be used.
#[derive(Debug)]
pub struct Failure {
    /// What was asked, and why that failed.
    pub error: Error,
    /// What the server said to it, in part: on one line, without secrets. It may differ each time.
    pub answer: Option<Masked>,
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
/// `setting` is the one that the credential is from, or would be.
pub fn remedy_for(status: u16, setting: &str, has_credential: bool) -> String {
    match status {
        401 | 403 if !has_credential => format!("; set {setting}"),
        401 | 403 => format!("; check {setting}"),
        404 | 405 => "; check update-endpoint".to_owned(),
        407 => "; a proxy on the way requires a user name and password: set HTTPS_PROXY".to_owned(),
        _ => String::new(),
    }
}

/// What an operator can do about a connection that was not made, to be appended to its cause; empty when the cause says
/// it all, or nothing but to wait.
pub fn remedy_for_connection(error: &ureq::Error, proxy: Option<&ProxyUse>) -> String {
    use std::io::ErrorKind::*;
    let setting = proxy.map_or("update-endpoint", |proxy| proxy.variable);
    match error {
        ureq::Error::Io(error) => match error.kind() {
            ConnectionRefused => format!("; check {setting}, and that the server runs"),
            NetworkUnreachable | HostUnreachable | NetworkDown => "; check this host's network".to_string(),
            _ => String::new(),
        },
        ureq::Error::HostNotFound => format!("; check {setting}, and this host's DNS"),
        _ => String::new(),
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

/// What a call was made with, for the remedies.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    pub timeout: Duration,
    /// The setting.
    pub ca_file: Option<&'a Path>,
    pub proxy: Option<&'a ProxyUse>,
    pub now: SystemTime,
}

/// A proxy that calls go through.
#[derive(Debug)]
pub struct ProxyUse {
    /// That named it.
    pub variable: &'static str,
    pub has_user: bool,
    /// Its URL, without what is secret.
    pub shown: String,
}

/// The cause of a failure on the way: before, or in the middle of, an answer.
pub fn cause_of(error: ureq::Error, attempt: Attempt<'_>) -> (Exit, String) {
    use std::io::ErrorKind::UnexpectedEof;
    use ureq::Error::*;
    let cause = match error {
        Timeout(_) => {
            format!("no complete answer within {:?}; if the API is only slow, raise poll-timeout", attempt.timeout)
        }
        Rustls(error) => tls_cause(&error, attempt.ca_file, attempt.now),
        Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            Some(error) => tls_cause(error, attempt.ca_file, attempt.now),
            None if error.kind() == UnexpectedEof => {
                "the connection was closed before the answer was complete".to_owned()
            }
            None => error.to_string(),
        },
        HostNotFound => "the host name has no address".to_owned(),
        ConnectProxyFailed(reason) => proxy_cause(reason, attempt.proxy),
        // There is input, and more is needed to make anything of it, and no more comes or fits the buffer.
        BodyStalled => "the answer ended within a chunk size".to_owned(),
        Protocol(error) => return (Exit::BadAnswer, format!("the answer is not HTTP: {error}")),
        LargeResponseHeader(..) => return (Exit::BadAnswer, "the answer's header is too long".to_owned()),
        other => other.to_string(),
    };
    (Exit::TryAgain, cause)
}

/// For a proxy that makes no connection; `reason` is ureq's, `proxy server responded 407/407` or another text.
fn proxy_cause(reason: String, proxy: Option<&ProxyUse>) -> String {
    let status = reason.strip_prefix("proxy server responded ").and_then(|rest| rest.split('/').next());
    let Some(status) = status else { return reason };
    let (variable, has_user) = proxy.map_or(("HTTPS_PROXY", false), |proxy| (proxy.variable, proxy.has_user));
    match status {
        "407" if has_user => format!("the proxy refuses the user name or password in {variable} (HTTP status 407)"),
        "407" => format!(
            "the proxy requires a user name and password (HTTP status 407); write them, percent-encoded, into \
             {variable}, as in http://USER:PASSWORD@HOST:PORT"
        ),
        "403" => {
            "the proxy forbids the connection (HTTP status 403); allow it there, or name the API in NO_PROXY".to_owned()
        }
        _ => format!("the proxy makes no connection (HTTP status {status})"),
    }
}

/// What the TLS library has, as kmagent(8) says in full.
const SUPPORTED: &str = "TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20-Poly1305; curves X25519, P-256, P-384; \
                         RSA keys of 2048 bits or more, ECDSA keys on P-256 or P-384, Ed25519 keys";

fn tls_cause(error: &TlsError, ca_file: Option<&Path>, now: SystemTime) -> String {
    let date = |time: &UnixTime| Utc::from(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())).date();
    let clock = || {
        let remedy = if now < SystemTime::UNIX_EPOCH + WRITTEN { ", which is wrong: set it" } else { "" };
        format!("this host's clock says {}{remedy}", Utc::from(now).date())
    };
    match error {
        // When an authority was made anew under its old name, and for keys that are too short.
        TlsError::InvalidCertificate(BadSignature) => {
            let of = ca_file.map_or("Mozilla's list".to_owned(), |path| format!("ca-file {}", path.display()));
            format!(
                "a signature in the server's certificate or handshake does not hold: either no authority in {of} has \
                 signed the certificate, then add the one that has; or an RSA key has less than 2048 bits"
            )
        }
        TlsError::InvalidCertificate(UnknownIssuer) => match ca_file {
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
        TlsError::InvalidCertificate(Other(other)) if other.to_string().contains("UnsupportedCertVersion") => {
            "the server's certificate is X.509 version 1; have a version 3 one issued, with its host name as \
             subjectAltName"
                .to_owned()
        }
        TlsError::InvalidCertificate(
            UnsupportedSignatureAlgorithmContext { .. } | UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => "the server's certificate, or one of its authorities', is signed in a way that is not supported; sign it \
             with RSA or Ed25519, or with ECDSA on P-256 or P-384 and SHA-256 or SHA-384"
            .to_owned(),
        TlsError::InvalidCertificate(Other(other)) => format!("the server's certificate is refused: {other}"),
        TlsError::InvalidCertificate(other) => format!("the server's certificate is refused: {other}"),
        // The former if it refuses ours, the latter if it offers its own.
        TlsError::AlertReceived(AlertDescription::ProtocolVersion)
        | TlsError::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            "the server supports neither TLS 1.2 nor TLS 1.3; enable one of them there".to_owned()
        }
        // The alerts if it finds nothing among what we offer, the others if it takes something else.
        TlsError::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)
        | TlsError::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon,
        )
        | TlsError::PeerMisbehaved(
            PeerMisbehaved::SelectedUnofferedCipherSuite
            | PeerMisbehaved::SelectedUnofferedKxGroup
            | PeerMisbehaved::SelectedUnusableCipherSuiteForVersion
            | PeerMisbehaved::SignedKxWithWrongAlgorithm,
        ) => format!(
            "the server and the agent have no protocol, cipher, curve or signature in common, or it wants a client \
             certificate; enable there one of: {SUPPORTED}"
        ),
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a client certificate, which the agent does not have; turn that off there".to_owned()
        }
        TlsError::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not serve this host name; check update-endpoint".to_owned()
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
