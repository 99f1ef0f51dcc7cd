//! The running agent's side of the control socket: accepts, reads requests, keeps who waits, answers. It never blocks.
//!
//! The supervisor waits for its sources and decides the answers. A client that is slow, silent or talkative loses its
//! connection and nothing else.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::{Reply, Request, socket_path};
use crate::error::{Error, Exit, Result};
use crate::os;
use crate::os::control::{Connection, Listener};
use crate::os::wait::Waitable;

/// More at once than any host has people and cron jobs. When there are as many, the one that has been silent for
/// longest has to go.
const CLIENT_LIMIT: usize = 32;
/// How many of them may wait for a check, which may take a minute: there is room for those who ask for something else.
pub const CHECK_LIMIT: usize = 24;
/// A request is one short line.
const REQUEST_LIMIT: usize = 1024;
/// A client has this long to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// After a failure to accept; `status` and the like wait for longer than this.
const REST_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Server {
    listener: Listener,
    clients: Vec<Client>,
    next_id: u64,
    /// No client is admitted until then: the system has no descriptor left, and one that waits would wake us without
    /// end.
    rest_until: Option<Duration>,
}

/// Tells clients apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(u64);

#[derive(Debug)]
struct Client {
    id: ClientId,
    stream: Connection,
    received: Vec<u8>,
    /// `None` when its request is read and the answer is the supervisor's to give.
    request_until: Option<Duration>,
    /// It has asked and writes no more, as `nc -N` does; its answer is due all the same.
    is_half_closed: bool,
}

impl Server {
    /// Takes the place of a socket that a killed agent left: the caller holds the lock, so nobody else listens. It
    /// appears under its name when it listens already, so that a client that sees it gets an answer.
    ///
    /// # Errors
    /// 73 when the socket cannot be made, 71 when the system has none left.
    pub fn bind(run_dir: &Path) -> Result<Server> {
        let path = socket_path(run_dir);
        let listener = Listener::bind(&path).map_err(|error| refused(&path, error))?;
        Ok(Server { listener, clients: Vec::new(), next_id: 0, rest_until: None })
    }

    /// Listens anew if its file has lost its name. True if it had.
    ///
    /// # Errors
    /// As for `bind`.
    pub fn restore(&mut self, run_dir: &Path) -> Result<bool> {
        let path = socket_path(run_dir);
        self.listener.restore(&path).map_err(|error| refused(&path, error))
    }

    /// All that is to be waited for: the listener unless too many clients wait for an answer, and each client.
    pub fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        let listener = (self.has_room() && self.rest_until.is_none()).then(|| self.listener.waitable());
        listener.into_iter().chain(self.clients.iter().map(Client::waitable))
    }

    /// When the next silent client is to be dropped, or the next one may be admitted.
    pub fn deadline(&self) -> Option<Duration> {
        self.clients.iter().filter_map(|client| client.request_until).chain(self.rest_until).min()
    }

    /// Accepts and reads whatever there is, and gives the requests that are complete.
    pub fn serve(&mut self, now: Duration) -> Vec<(ClientId, Request)> {
        let mut requests = Vec::new();
        self.rest_until.take_if(|until| now >= *until);
        loop {
            // First, so that nobody who has asked counts as silent.
            self.read(now, &mut requests);
            if !self.has_room() || self.rest_until.is_some() {
                return requests;
            }
            match self.listener.accept() {
                Ok(stream) => self.admit(stream, now),
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return requests,
                Err(error) => {
                    log::warn!(error:%; "cannot accept a control connection (raise the limit on open files)");
                    self.rest_until = Some(now + REST_TIME);
                    return requests;
                }
            }
        }
    }

    fn read(&mut self, now: Duration, requests: &mut Vec<(ClientId, Request)>) {
        self.clients.retain_mut(|client| match client.read(now) {
            Progress::Waiting => true,
            Progress::Asked(request) => {
                requests.push((client.id, request));
                true
            }
            Progress::Gone => false,
            Progress::Confused(problem) => {
                client.write(&Reply::Error(problem.into()));
                false
            }
        });
    }

    pub fn is_there(&self, id: ClientId) -> bool {
        self.clients.iter().any(|client| client.id == id)
    }

    fn has_room(&self) -> bool {
        self.clients.len() < CLIENT_LIMIT || self.silent().is_some()
    }

    /// The one that was admitted first of those that have not said what they want.
    fn silent(&self) -> Option<usize> {
        self.clients.iter().position(|client| client.request_until.is_some())
    }

    /// Answers a client and closes its connection; one that has left is no failure.
    pub fn reply(&mut self, id: ClientId, reply: &Reply) {
        if let Some(index) = self.clients.iter().position(|client| client.id == id) {
            self.clients.remove(index).write(reply);
        }
    }

    /// A word before the answer.
    pub fn tell(&mut self, id: ClientId, reply: &Reply) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
            client.write(reply);
        }
    }

    /// As `reply`, but the connection is left to the end of the process, which the client waits for.
    pub fn dismiss(&mut self, id: ClientId, reply: &Reply) {
        if let Some(index) = self.clients.iter().position(|client| client.id == id) {
            let mut client = self.clients.remove(index);
            client.write(reply);
            std::mem::forget(client);
        }
    }

    fn admit(&mut self, stream: Connection, now: Duration) {
        if self.clients.len() >= CLIENT_LIMIT
            && let Some(index) = self.silent()
        {
            self.clients.remove(index).write(&Reply::Busy);
        }
        let id = ClientId(self.next_id);
        self.next_id += 1;
        let request_until = Some(now + REQUEST_TIMEOUT);
        self.clients.push(Client { id, stream, received: Vec::new(), request_until, is_half_closed: false });
    }
}

fn refused(path: &Path, error: io::Error) -> Error {
    let (exit, remedy) = match error.kind() {
        _ if os::error::is_out_of_resources(&error) => (Exit::System, "raise the limit on open files"),
        // A name that is longer than unix(7) lets it be.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
            (Exit::CannotWrite, "choose a shorter `run-dir`")
        }
        _ => (Exit::CannotWrite, "remove what is there, or choose another `run-dir`"),
    };
    Error::because(exit, format!("cannot create the control socket {} ({remedy})", path.display()), error)
}

enum Progress {
    Waiting,
    Asked(Request),
    Gone,
    Confused(String),
}

impl Client {
    /// An end that has been read is there to be read again at once, without end.
    fn waitable(&self) -> Waitable<'_> {
        match self.is_half_closed {
            true => self.stream.hang_up(),
            false => self.stream.waitable(),
        }
    }

    fn read(&mut self, now: Duration) -> Progress {
        let mut buffer = [0u8; REQUEST_LIMIT];
        match self.stream.read(&mut buffer) {
            Ok(0) if self.request_until.is_none() && !self.stream.has_hung_up() => {
                self.is_half_closed = true;
                return Progress::Waiting;
            }
            Ok(0) => return Progress::Gone,
            // Whatever follows a request is of no interest.
            Ok(_) if self.request_until.is_none() => return Progress::Waiting,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return Progress::Gone,
        }
        let Some(until) = self.request_until else { return Progress::Waiting };
        match self.received.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                self.request_until = None;
                match serde_json::from_slice(&self.received[..end]) {
                    Ok(request) => Progress::Asked(request),
                    Err(error) => Progress::Confused(format!("not a request: {error}")),
                }
            }
            None if self.received.len() > REQUEST_LIMIT => Progress::Confused("the request is too long".into()),
            None if now >= until => Progress::Gone,
            None => Progress::Waiting,
        }
    }

    /// A reply fits a socket buffer; a client that has filled it by not reading loses the reply.
    fn write(&mut self, reply: &Reply) {
        let _ = self.stream.write_all(&reply.line());
    }
}
