//! Certificates that must not be trusted, old and broken versions of TLS, and sessions that end as they should not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::hostile::{Hostile, Script, Step, answer, ok, response};
use super::{Case, Trial, case};
use crate::support::agent::Builder;
use crate::support::temp_dir::TempDir;

const CUT_OFF: &str = "the connection was closed before the answer was complete";
const TOO_SLOW: &str = "no complete answer within 1s";
const OLD: &str = "the server supports neither TLS 1.2 nor TLS 1.3; enable one of them there";
const NOT_TLS: &str = "the server does not speak TLS on this port; check scheme and port of update-endpoint";

/// Signs certificates, and is what `ca-file` names.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kmagent test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = TempDir::new();
        std::fs::write(dir.join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, dir }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A server with a certificate for 127.0.0.1, but for what `adapt` changes in it.
    pub fn server(&self, adapt: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let (key, params) = leaf(adapt);
        config(params.signed_by(&key, &self.issuer).unwrap().der().clone(), &key)
    }
}

fn leaf(adapt: impl FnOnce(&mut CertificateParams)) -> (KeyPair, CertificateParams) {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_string()]).unwrap();
    adapt(&mut params);
    (KeyPair::generate().unwrap(), params)
}

fn config(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(config.with_single_cert(vec![certificate], key).unwrap())
}

/// Trusts the authority.
pub fn trusting(authority: &Authority) -> impl Fn(Builder) -> Builder {
    let file = authority.file().display().to_string();
    move |builder| builder.setting("ca-file", file.as_str())
}

#[test]
fn certificates() {
    let (good, other) = (Authority::new(), Authority::new());
    let self_signed = || {
        let (key, params) = leaf(|_| {});
        config(params.self_signed(&key).unwrap().der().clone(), &key)
    };
    let named = |name: &'static str| {
        move |params: &mut CertificateParams| {
            params.subject_alt_names = vec![SanType::DnsName(Ia5String::try_from(name).unwrap())];
        }
    };
    let unsigned = "no authority in ca-file ";
    let mut cases: Vec<Case> = Vec::new();
    for (name, tls, says) in [
        (
            "expired",
            good.server(|params| params.not_after = date_time_ymd(2020, 2, 1)),
            "certificate expired on 2020-02-01",
        ),
        (
            "not yet valid",
            good.server(|params| params.not_before = date_time_ymd(2999, 1, 1)),
            "certificate is valid from 2999-01-01 only; this host's clock says 20",
        ),
        (
            "never valid",
            good.server(|params| params.not_after = date_time_ymd(1974, 1, 1)),
            "certificate is not valid now; this host's clock says 20",
        ),
        ("of an unknown authority", other.server(|_| {}), unsigned),
        ("self-signed", self_signed(), "no authority in ca-file "),
        (
            "for another name",
            good.server(named("elsewhere.example")),
            "the server's certificate is for elsewhere.example, not for 127.0.0.1",
        ),
        ("for a wildcard", good.server(named("*.0.0.1")), "not for 127.0.0.1"),
        ("for the address as a name", good.server(named("127.0.0.1")), "not for 127.0.0.1"),
        ("for a nasty name", good.server(named("\u{1b}[31m\r\nkmagent: all is well")), "the server's certificate is"),
        ("for no name", good.server(|params| params.subject_alt_names.clear()), "certificate is for no name at all"),
        (
            "for the common name only",
            good.server(|params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
            }),
            "certificate is for no name at all",
        ),
        (
            "for clients",
            good.server(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "the server's certificate is refused: certificate does not allow extended key usage for server authentication",
        ),
        (
            "an authority's",
            good.server(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "the server's certificate is a CA certificate; have the CA issue one for the server",
        ),
    ] {
        cases.push(Case { tls: Some(tls), ..case(name, answer(ok("{}")), 75, says) });
    }
    let server = Hostile::start(Some(good.server(|_| {})));
    Trial::with("certificates", server, trusting(&good)).run(cases);
}

/// A handshake message in a record (RFC 5246, section 6.2.1 and 7.4).
fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind][..], &(body.len() as u32).to_be_bytes()[1..], body].concat();
    [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

/// The answer of a server that speaks this version, with a cipher of its time.
fn server_hello(version: [u8; 2]) -> Vec<u8> {
    handshake(2, &[&version[..], &[7; 32], &[0, 0, 0x2f, 0]].concat())
}

#[test]
fn handshakes() {
    let alert = |code: u8| vec![21, 3, 1, 0, 2, 2, code];
    // Once the client's greeting has begun to come.
    let greeted = |step: Step| -> Script { vec![Step::Raw, Step::TakeSome(64), step] };
    let sent = |bytes: Vec<u8>| greeted(Step::Send(bytes));
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let cases = [
        ("TLS 1.1", sent(server_hello([3, 2])), OLD),
        ("TLS 1.0", sent(server_hello([3, 1])), OLD),
        ("SSL 3.0", sent(server_hello([3, 0])), OLD),
        ("SSL 2.0", sent(b"\x80\x2e\x04\0\x01\0\x02\0\x15\0\x10\0\x10".to_vec()), NOT_TLS),
        ("a version from the future", sent(server_hello([9, 9])), OLD),
        ("a refusal of our version", sent(alert(70)), OLD),
        ("a refusal of our ciphers", sent(alert(40)), "enable there one of: TLS 1.3, or TLS 1.2 with ECDHE"),
        ("a refusal of the name", sent(alert(112)), "the server does not serve this host name; check update-endpoint"),
        ("an unknown alert", sent(alert(255)), "the server aborted the TLS handshake"),
        ("a goodbye", sent(alert(0)), "config check: https://127.0.0.1"),
        ("HTTP", sent(response(400, &[], "this port speaks HTTP")), NOT_TLS),
        ("SSH", sent(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), NOT_TLS),
        ("zeroes without end", greeted(Step::Repeat(vec![0])), NOT_TLS),
        ("random bytes", sent((0..9000u32).map(|n| (n * n * 7 + 13) as u8).collect()), NOT_TLS),
        ("half a greeting", sent(half(&server_hello([3, 3]))), CUT_OFF),
        (
            "half a greeting, and silence",
            {
                let mut script = sent(half(&server_hello([3, 3])));
                script.push(Step::Silence);
                script
            },
            TOO_SLOW,
        ),
        ("silence", greeted(Step::Silence), TOO_SLOW),
        ("a close", vec![Step::Raw, Step::TakeSome(64)], CUT_OFF),
        ("a close at once", vec![Step::Raw], CUT_OFF),
        ("a reset", greeted(Step::Reset), "config check: https://127.0.0.1:"),
        ("a greeting, byte by byte", greeted(Step::Drip(server_hello([3, 3]), Duration::from_millis(100))), TOO_SLOW),
        (
            "a message of 16 MB",
            greeted(Step::Repeat({
                // Its first record says how long it is; the others look the same.
                let mut record = vec![22, 3, 3, 0x40, 0];
                record.resize(5 + 0x4000, 2);
                record[6..9].copy_from_slice(&[0xff, 0xff, 0xff]);
                record
            })),
            "TLS: ",
        ),
        ("empty records without end", greeted(Step::Repeat(vec![22, 3, 3, 0, 0])), "TLS: "),
        ("a record that is too long", sent([&[22, 3, 3, 0xff, 0xff][..], &[0; 100]].concat()), "TLS: "),
        ("warnings without end", greeted(Step::Repeat(vec![21, 3, 3, 0, 2, 1, 100])), "TLS: "),
        ("changes of cipher without end", greeted(Step::Repeat(vec![20, 3, 3, 0, 1, 1])), "TLS: "),
        ("the client's own greeting", sent(handshake(1, &[0; 40])), "TLS: "),
        ("data before anything", sent(vec![23, 3, 3, 0, 3, 1, 2, 3]), "TLS: "),
    ];
    let good = Authority::new();
    let cases = cases.into_iter().map(|(name, script, says)| case(name, script, 75, says)).collect();
    let server = Hostile::start(Some(good.server(|_| {})));
    Trial::with("TLS handshakes", server, trusting(&good)).run(cases);
}

#[test]
fn sessions() {
    let unlengthened = |body: &str| vec![Step::Take, Step::Send(format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes())];
    let then = |mut script: Script, step: Step| {
        script.push(step);
        script
    };
    let cut = r#"{"restart_required":true,"config":{"a":1"#;
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"config\":";
    let cases = vec![
        case("a whole answer, then a close without notice", answer(ok("{}")), 0, ""),
        case("the same with notice", then(answer(ok("{}")), Step::Notify), 0, ""),
        case("a whole answer without a length, without notice", unlengthened("{}"), 0, ""),
        // What an attacker can do who cuts the connection: the object is not whole, and says so itself.
        case("cut off, without a length, without notice", unlengthened(cut), 76, "EOF while parsing"),
        case("cut off, without a length, with notice", then(unlengthened(cut), Step::Notify), 76, "EOF while parsing"),
        case("cut off, with a length, without notice", answer(short), 75, CUT_OFF),
        case("cut off, with a length, with notice", then(answer(short), Step::Notify), 75, CUT_OFF),
        case("a close at once", vec![], 75, CUT_OFF),
        case("a close with notice at once", vec![Step::Notify], 75, CUT_OFF),
        case("a reset after the request", vec![Step::Take, Step::Reset], 75, "config check: https://127.0.0.1:"),
        case("silence after the request", vec![Step::Take, Step::Silence], 75, TOO_SLOW),
        case("silence within the body", then(answer(short), Step::Silence), 75, TOO_SLOW),
        case(
            "byte by byte",
            vec![Step::Take, Step::Drip(ok("{} ".repeat(20)), Duration::from_millis(50))],
            75,
            TOO_SLOW,
        ),
        case(
            "1 GB",
            vec![Step::Take, Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Step::Repeat(vec![b' '; 16 * 1024])],
            76,
            "longer than 4194304 bytes",
        ),
        case("wrong types", answer(ok("[]")), 76, "expected a JSON object"),
    ];
    let good = Authority::new();
    let server = Hostile::start(Some(good.server(|_| {})));
    Trial::with("TLS sessions", server, trusting(&good)).run(cases);
}

/// Nobody has named an authority: Mozilla's do not know ours, and the message says what that may be.
#[test]
fn with_the_built_in_authorities() {
    let good = Authority::new();
    let server = Hostile::start(Some(good.server(|_| {})));
    let agent = crate::support::agent::Agent::builder().setting("update-endpoint", server.url());
    let agent = agent.setting("api-key", super::KEY).config("fake: {}").build();
    agent.run(["--check"]).fails(75, "the server's certificate is not signed by any of Mozilla's authorities");
}
