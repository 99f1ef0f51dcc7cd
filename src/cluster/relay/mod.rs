//! The pods' questions, over HTTP: `POST /daemonset` or `/deployment` with a report, answered with the config that the
//! fleet means for that pod. `GET /healthz` is anybody's.
//!
//! ```text
//!   server         connections: accepted, served, dropped, never waited for
//!   connection     one client: handshake, head, body, answer, and the end
//!   client_stream  its bytes, with or without TLS
//!   http           heads read, responses written
//!   certificate    the server's side of TLS
//!   token          what a pod has to know
//!   host_contract  what pods say, and are told
//! ```
//! Certificate and token are files of Secrets, which a kubelet replaces while this runs: both are read anew when they
//! have changed.

mod certificate;
mod client_stream;
mod connection;
mod host_contract;
mod http;
mod server;
mod token;

use std::time::Duration;

use super::fleet::Fleet;
use super::mailbox::UpdaterCommand;
use crate::core::Uptime;
use crate::error::{Error, Exit, Result};
use crate::os::wait::Waitable;
use crate::settings::cluster::{RelaySettings, Workload};
use certificate::Certificate;
use http::{Request, Response};
use server::{Respond, Server};
use token::Token;

/// A kubelet takes a minute or two to bring a change.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Between two lines about clients without the token.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct Relay {
    server: Server,
    /// `None`: plain HTTP, which the settings allow on loopback alone.
    certificate: Option<Certificate>,
    token: Token,
    /// Of a client without the token.
    complained_at: Option<Uptime>,
}

impl Relay {
    /// # Errors
    /// The address cannot be bound; certificate or token cannot be used.
    pub fn bind(settings: &RelaySettings) -> Result<Relay> {
        let missing = || Error::new(Exit::Settings, "relay-token-file is not set");
        let token = Token::read(settings.token_file.as_deref().ok_or_else(missing)?, Uptime::ZERO)?;
        let certificate = settings.certificate.as_deref().map(|path| Certificate::read(path, Uptime::ZERO));
        let (certificate, tls) = certificate.transpose()?.unzip();
        let server = Server::bind(settings.listen, tls).map_err(|error| {
            let what = format!("cannot listen on relay-listen {}", settings.listen);
            Error::because(Exit::System, what, error)
        })?;
        let listen = server.address().unwrap_or(settings.listen);
        log::info!(listen:%, tls = certificate.is_some(); "relay listening");
        Ok(Relay { server, certificate, token, complained_at: None })
    }

    pub fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        self.server.sources()
    }

    pub fn deadline(&self) -> Option<Uptime> {
        self.server.deadline()
    }

    /// Answers whoever has asked, with what the fleet says, and gives what that orders.
    pub fn turn(&mut self, now: Uptime, fleet: &mut Fleet) -> Vec<UpdaterCommand> {
        self.token.renew(now);
        if let Some(tls) = self.certificate.as_mut().and_then(|certificate| certificate.renewed(now)) {
            self.server.set_tls(tls);
        }
        let mut pods = Pods { token: &self.token, fleet, orders: Vec::new(), has_refused: false };
        self.server.turn(now, &mut pods);
        let (orders, has_refused) = (pods.orders, pods.has_refused);
        if has_refused && self.complained_at.is_none_or(|at| now >= at + COMPLAINT_INTERVAL) {
            self.complained_at = Some(now);
            log::warn!(
                "a request without the right token is refused: compare relay-token-file with the pods' update-token-file"
            );
        }
        orders
    }
}

/// Those who may ask, and what they are answered.
struct Pods<'a> {
    token: &'a Token,
    fleet: &'a mut Fleet,
    orders: Vec<UpdaterCommand>,
    /// Somebody did not have the token.
    has_refused: bool,
}

/// The group that a path is of, without regard to a query.
fn workload(path: &str) -> Option<Workload> {
    let path = path.split('?').next()?.strip_prefix('/')?;
    Workload::ALL.into_iter().find(|workload| workload.word() == path)
}

impl Respond for Pods<'_> {
    fn respond_to_head(&mut self, request: &Request) -> Option<Response> {
        let only = |methods| Some(Response { header: Some(methods), ..Response::status(405) });
        match (request.method, request.path) {
            ("GET" | "HEAD", "/healthz") => return Some(Response::ok("{}".to_string())),
            (_, "/healthz") => return only("allow: GET, HEAD"),
            _ => {}
        }
        if !self.token.matches(request.authorization) {
            self.has_refused = true;
            let refusal = Response::refusal(401, "the token is not the relay's: compare it with relay-token-file");
            return Some(Response { header: Some("www-authenticate: token"), ..refusal });
        }
        let Some(workload) = workload(request.path) else { return Some(Response::status(404)) };
        if request.method != "POST" {
            return only("allow: POST");
        }
        if !self.fleet.members().iter().any(|member| member.workload == workload) {
            let advice = format!("the updater has no {0}: set its configmap-{0}-name", workload.word());
            return Some(Response::refusal(404, &advice));
        }
        None
    }

    fn respond(&mut self, now: Uptime, request: &Request) -> Response {
        let Some(workload) = workload(request.path) else { return Response::status(404) };
        let question = match host_contract::decode(request.body) {
            Ok(question) => question,
            Err(problem) => return Response::refusal(400, &format!("the report cannot be read: {problem}")),
        };
        let version = &question.collector_version;
        let (answer, orders) = self.fleet.asked(now, workload, &question.pod, &question.report, version);
        self.orders.extend(orders);
        // Without an answer the pod keeps what it has.
        let (revision, restart) = answer.map_or((None, false), |answer| (answer.config, answer.restart));
        let config = revision.as_ref().and_then(|revision| self.fleet.config(workload, revision));
        // A restart for a config that is not here would be one for nothing.
        let is_missing = revision.is_some() && config.is_none();
        Response::ok(host_contract::encode(config.map(|config| &**config), restart && !is_missing))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
