//! `Api`: a scripted config-check server that records what it is asked.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use super::http::Server;
pub use super::http::{Reply, Request};
use super::temp_dir::TempDir;
use super::wait::{DEADLINE, poll_for};

/// The path that the public API serves.
pub const PATH: &str = "/agents/config-check";

/// A scripted API on a port of its own. By default it answers "no change".
pub struct Api {
    port: u16,
    script: Arc<Mutex<Script>>,
    tls: Option<Tls>,
    server: Mutex<Option<Server>>,
}

struct Script {
    /// Answers for one request each, first in, first out.
    once: VecDeque<Reply>,
    /// The answer to everything else.
    always: Reply,
    /// What happens before the next answer.
    before: Option<Box<dyn FnOnce() + Send>>,
    requests: Vec<Request>,
}

struct Tls {
    config: Arc<ServerConfig>,
    ca_file: PathBuf,
    _dir: TempDir,
}

impl Api {
    pub fn plain() -> Api {
        Api::start(None)
    }

    /// Over TLS, with a certificate for 127.0.0.1 and localhost from a test authority of its own.
    pub fn tls() -> Api {
        Api::tls_for(&["127.0.0.1", "localhost"])
    }

    /// Over TLS, with a certificate for these names only.
    pub fn tls_for(names: &[&str]) -> Api {
        Api::start(Some(Tls::new(names, |_| {})))
    }

    /// Over TLS, with a certificate for 127.0.0.1 that was valid in January 2020.
    pub fn tls_expired() -> Api {
        let in_january = |certificate: &mut CertificateParams| {
            certificate.not_before = date_time_ymd(2020, 1, 1);
            certificate.not_after = date_time_ymd(2020, 2, 1);
        };
        Api::start(Some(Tls::new(&["127.0.0.1"], in_january)))
    }

    fn start(tls: Option<Tls>) -> Api {
        let always = Reply::json(&json!({"restart_required": false, "config": null}));
        let script = Script { once: VecDeque::new(), always, before: None, requests: Vec::new() };
        let mut api = Api { port: 0, script: Arc::new(Mutex::new(script)), tls, server: Mutex::new(None) };
        api.port = api.listen(0);
        api
    }

    /// For `update-endpoint`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{PATH}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority behind a TLS server, as PEM, for `ca-file`.
    pub fn ca_file(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca_file.as_path())
    }

    /// What every further poll gets, status 200.
    pub fn answer(&self, answer: Value) {
        self.reply(Reply::json(&answer));
    }

    /// Every further poll gets this config, with `restart_required`.
    pub fn answer_config(&self, config: Value) {
        self.answer(json!({"restart_required": true, "config": config}));
    }

    /// What one poll gets, before the standing answer holds again. Several are given in turn.
    pub fn answer_once(&self, answer: Value) {
        self.reply_once(Reply::json(&answer));
    }

    /// `answer` for anything that is not a plain 200.
    pub fn reply(&self, reply: Reply) {
        self.script.lock().unwrap().always = reply;
    }

    /// `answer_once` for anything that is not a plain 200.
    pub fn reply_once(&self, reply: Reply) {
        self.script.lock().unwrap().once.push_back(reply);
    }

    /// This happens after the next request has arrived and before it is answered.
    pub fn before_answer(&self, happens: impl FnOnce() + Send + 'static) {
        self.script.lock().unwrap().before = Some(Box::new(happens));
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.script.lock().unwrap().requests.clone()
    }

    /// The first request, past or future, for which `condition` holds.
    #[track_caller]
    pub fn wait_for_request(&self, what: &str, condition: impl Fn(&Request) -> bool) -> Request {
        self.wait_for_request_after(0, what, condition)
    }

    /// `wait_for_request` among the requests from number `seen` on; `requests().len()` is the number of the next one.
    #[track_caller]
    pub fn wait_for_request_after(&self, seen: usize, what: &str, condition: impl Fn(&Request) -> bool) -> Request {
        self.wait_within(DEADLINE, seen, what, condition)
    }

    #[track_caller]
    pub fn wait_within(
        &self,
        timeout: Duration,
        seen: usize,
        what: &str,
        condition: impl Fn(&Request) -> bool,
    ) -> Request {
        let found = poll_for(timeout, || {
            self.script.lock().unwrap().requests.iter().skip(seen).find(|request| condition(request)).cloned()
        });
        found.unwrap_or_else(|| panic!("waited {timeout:?} in vain for a request: {what}"))
    }

    /// Waits for the next request, whatever it says.
    #[track_caller]
    pub fn wait_for_next(&self) -> Request {
        let seen = self.requests().len();
        self.wait_for_request_after(seen, "the next one", |_| true)
    }

    /// Closes the port (connections are refused) and every open connection. The record stays.
    pub fn stop(&self) {
        *self.server.lock().unwrap() = None;
    }

    /// Listens again, on the same port.
    pub fn restart(&self) {
        self.stop();
        self.listen(self.port);
    }

    fn listen(&self, port: u16) -> u16 {
        let script = Arc::clone(&self.script);
        let tls = self.tls.as_ref().map(|tls| Arc::clone(&tls.config));
        let server = Server::start(port, tls, move |request| {
            let mut script = script.lock().unwrap();
            script.requests.push(request);
            if let Some(happens) = script.before.take() {
                happens();
            }
            script.once.pop_front().unwrap_or_else(|| script.always.clone())
        });
        let server = server.unwrap_or_else(|error| panic!("cannot listen on 127.0.0.1:{port}: {error}"));
        let port = server.addr.port();
        *self.server.lock().unwrap() = Some(server);
        port
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let requests = self.requests();
            eprintln!("--- {} received {} requests, the last ones:", self.url(), requests.len());
            for request in requests.iter().skip(requests.len().saturating_sub(10)) {
                let body = String::from_utf8_lossy(&request.body);
                eprintln!("{:?} {} {} {body}", request.at, request.method, request.path);
            }
        }
    }
}

impl Tls {
    /// `adapt` may change the server's certificate before it is signed.
    fn new(names: &[&str], adapt: impl FnOnce(&mut CertificateParams)) -> Tls {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "kmagent test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();

        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let key = KeyPair::generate().unwrap();
        let mut certificate = CertificateParams::new(names).unwrap();
        adapt(&mut certificate);
        let certificate = certificate.signed_by(&key, &authority).unwrap();

        let dir = TempDir::new();
        let ca_file = dir.join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        Tls { config: Arc::new(config), ca_file, _dir: dir }
    }
}
