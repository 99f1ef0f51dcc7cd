//! What a client is made of: the texts of settings and environment, turned into the types of the HTTP client.
//!
//! All of it happens once, at start, so that every error here is one of the settings. No error shows a key, a password
//! or a query.

use std::path::Path;

use ureq::Proxy;
use ureq::http::{HeaderValue, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts};

use super::failure::ProxyUse;
use super::proxy;
use crate::config::credentials::{PERCENT_ENCODE, has_cut_user};
use crate::error::{Error, Exit, Result};
use crate::os::files::safe_open;
use crate::settings::Secret;
use crate::settings::url::{HttpUrl, shown};

/// Bytes of a PEM bundle: the authorities of a system, which are the largest there is, have a quarter of a MiB, or half
/// of one with a text for each.
const MAX_AUTHORITIES: u64 = 4 * 1024 * 1024;

/// The URL to post to, without user and password: the API knows us by the key alone.
pub fn endpoint(text: &str) -> Result<Uri> {
    let invalid =
        |cause: String| Error::because(Exit::Settings, "update-endpoint is not a URL that can be polled", cause);
    HttpUrl::parse(text).map(|url| url.uri).map_err(|cause| invalid(format!("it {cause}")))
}

/// The key verbatim, without a scheme; marked so that nobody downstream shows it.
pub fn authorization(key: &Secret) -> Result<HeaderValue> {
    // The error would not show the key, and it must not: what is wrong with it is said here.
    let mut value = HeaderValue::from_bytes(key.expose().as_bytes()).map_err(|_| {
        Error::new(Exit::Settings, "api-key has a line break or another control character in it; remove it")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// No message shows anything of the URL: what is wrong with it may be where its password ends.
pub fn connect_proxy(choice: proxy::Choice) -> Result<(Proxy, ProxyUse)> {
    let unusable = |cause: String| {
        Error::because(Exit::Settings, format!("the proxy in {} cannot be used", choice.variable), cause)
    };
    if has_cut_user(&choice.url) {
        return Err(unusable(format!("its user name or password is not percent-encoded: {PERCENT_ENCODE}")));
    }
    let no_url = || unusable("it is not a URL such as http://host:port".to_owned());
    let proxy = Proxy::new(&choice.url).map_err(|_| no_url())?;
    match proxy.protocol() {
        ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https => {}
        _ => return Err(unusable("only http and https proxies are supported".to_owned())),
    }
    // ureq takes nonsense for a port, and then shows it.
    HttpUrl::parse(&proxy.uri().to_string()).map_err(|_| no_url())?;
    let has_user = proxy.username().is_some() || proxy.password().is_some();
    let proxy_use = ProxyUse { variable: choice.variable, has_user, shown: shown(proxy.uri()) };
    Ok((proxy, proxy_use))
}

/// The certificates of a PEM bundle. Those that cannot be parsed are left out with a warning, as bundles of systems do
/// hold a few; other sections, such as keys, are ignored. So is the byte order mark that editors on Windows write.
pub fn authorities(path: &Path) -> Result<RootCerts> {
    let what = || format!("ca-file cannot be used: {}", path.display());
    let pem = safe_open::read(path, MAX_AUTHORITIES)
        .map_err(|error| Error::because(Exit::Settings, "ca-file cannot be read", error))?;
    let pem = without_marks(&pem);
    let remedy = remedy_for_authorities(&pem);
    let mut certificates: Vec<Certificate> = Vec::new();
    let mut unusable = count(&pem, OPENSSL_FORM);
    for item in ureq::tls::parse_pem(&pem) {
        let item = item.map_err(|error| Error::because(Exit::Settings, what(), format!("{error}; {remedy}")))?;
        let PemItem::Certificate(certificate) = item else { continue };
        // What rustls does not take is ignored by ureq without a word.
        match rustls::RootCertStore::empty().add(certificate.der().into()) {
            Ok(()) => certificates.push(certificate),
            Err(_) => unusable += 1,
        }
    }
    if certificates.is_empty() {
        return Err(Error::because(Exit::Settings, what(), format!("there is no usable certificate in it; {remedy}")));
    }
    if unusable > 0 {
        log::warn!(path:% = path.display(), unusable; "some certificates in ca-file cannot be parsed; ignoring them");
    }
    Ok(RootCerts::from(certificates))
}

/// With trust settings of OpenSSL's own behind the certificate (`openssl x509 -trustout`), so no certificate to others.
const OPENSSL_FORM: &[u8] = b"-----BEGIN TRUSTED CERTIFICATE-----";
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Each file of a concatenated bundle may have one in front.
fn without_marks(pem: &[u8]) -> Vec<u8> {
    let (mut clean, mut rest) = (Vec::with_capacity(pem.len()), pem);
    while let Some(at) = rest.windows(BYTE_ORDER_MARK.len()).position(|window| window == BYTE_ORDER_MARK) {
        clean.extend_from_slice(&rest[..at]);
        rest = &rest[at + BYTE_ORDER_MARK.len()..];
    }
    clean.extend_from_slice(rest);
    clean
}

/// What to do about a file without a usable certificate.
fn remedy_for_authorities(pem: &[u8]) -> &'static str {
    const DER_SEQUENCE: u8 = 0x30;
    if pem.starts_with(&[0xff, 0xfe]) || pem.starts_with(&[0xfe, 0xff]) {
        "it is in UTF-16: save it in UTF-8"
    } else if count(pem, OPENSSL_FORM) > 0 {
        "it has TRUSTED CERTIFICATEs, a form of OpenSSL's own: convert each with openssl x509 -in FILE -out FILE.pem"
    } else if pem.first() == Some(&DER_SEQUENCE) {
        "it is in DER: convert it with openssl x509 -inform DER -in FILE -out FILE.pem"
    } else {
        "name a PEM bundle of certificates"
    }
}

fn count(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len()).filter(|window| *window == part).count()
}
