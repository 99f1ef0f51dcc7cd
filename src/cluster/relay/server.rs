//! A small HTTP/1.1 server with TLS for one thread that also does other things: it never blocks, is waited for together
//! with whatever else its owner waits for, and takes a bounded amount of memory, whatever its clients do.
//!
//! It knows requests and responses, not what they are about; `Respond` is asked for that. In scope: TLS, heads, bodies
//! with a `Content-Length`, kept connections, one request after another. Out of scope: chunked bodies (411), upgrades,
//! virtual hosts, compression, ranges.
//!
//! The bound: `CONNECTION_LIMIT` connections of at most `HEAD_LIMIT` + `BODY_LIMIT` of a request, 16 KiB of it that TLS
//! has opened, 18 KiB that it has not (64 KiB during a handshake), and 32 KiB on the way out: 170 KiB each, 43 MiB for
//! all. Bodies of answers are shared. A body is read only of who is admitted, so strangers hold 106 KiB each at most,
//! 27 MiB together; an honest client takes some 20 KiB for as long as it is there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::connection::Connection;
use super::http::{Request, Response};
use crate::core::Uptime;
use crate::os::stream::NonBlockingListener;
use crate::os::wait::Waitable;

/// More at once than pods ask at once: of 5,000 that ask every minute, each for 100 ms, there are 8. When there are as
/// many, the oldest that has not been admitted has to go.
pub const CONNECTION_LIMIT: usize = 256;
/// Of a request: a few hundred bytes, and a token.
pub const HEAD_LIMIT: usize = 16 * 1024;
/// A report has 24 KiB at most: 4 KiB of a message, each byte of which may be written as six.
pub const BODY_LIMIT: usize = 64 * 1024;
/// Handshakes are what costs most: so many in one turn, 0.5 ms each, before those who are here already go on.
const ADMISSIONS_PER_TURN: usize = 16;
/// After a failure to accept.
const REST_TIME: Duration = Duration::from_secs(1);

/// What the requests are about.
pub trait Respond {
    /// By the head alone, or `None` if the body is needed, which is then read. Whoever is not known gets their answer
    /// here: until then a client may be dropped for another.
    fn respond_to_head(&mut self, request: &Request) -> Option<Response>;

    fn respond(&mut self, now: Uptime, request: &Request) -> Response;
}

#[derive(Debug)]
pub struct Server {
    listener: NonBlockingListener,
    /// `None`: without TLS.
    tls: Option<Arc<ServerConfig>>,
    /// In the order of their arrival.
    connections: Vec<Connection>,
    /// Nobody is accepted until then: the system has no descriptor left, and one that waits would wake us without end.
    rest_until: Option<Uptime>,
}

impl Server {
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(listen: SocketAddr, tls: Option<Arc<ServerConfig>>) -> io::Result<Server> {
        let listener = NonBlockingListener::bind(listen)?;
        Ok(Server { listener, tls, connections: Vec::new(), rest_until: None })
    }

    /// # Errors
    /// As of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }

    /// For the connections that come.
    pub fn set_tls(&mut self, tls: Arc<ServerConfig>) {
        self.tls = Some(tls);
    }

    /// All that is to be waited for: the listener unless all clients there may be are served, and each client.
    pub fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        let listener = (self.has_room() && self.rest_until.is_none()).then(|| self.listener.waitable());
        listener.into_iter().chain(self.connections.iter().map(Connection::waitable))
    }

    /// When the next slow client is to be dropped, or the next one may be accepted.
    pub fn deadline(&self) -> Option<Uptime> {
        self.connections.iter().map(Connection::deadline).chain(self.rest_until).min()
    }

    /// Accepts, reads and writes whatever there is without waiting.
    pub fn turn(&mut self, now: Uptime, respond: &mut impl Respond) {
        self.rest_until.take_if(|until| now >= *until);
        self.connections.retain_mut(|connection| connection.turn(now, respond));
        for _ in 0..ADMISSIONS_PER_TURN {
            if !self.has_room() || self.rest_until.is_some() {
                return;
            }
            match self.listener.accept() {
                Ok(stream) => {
                    if self.connections.len() >= CONNECTION_LIMIT
                        && let Some(index) = self.dispensable()
                    {
                        self.connections.remove(index);
                    }
                    // TLS that cannot be begun is no client's fault, and there is nobody to tell.
                    let mut connection = match Connection::new(stream, self.tls.clone(), now) {
                        Ok(connection) => connection,
                        Err(error) => {
                            log::error!(error:%; "cannot begin TLS with a pod");
                            continue;
                        }
                    };
                    // What it wants has often come with it.
                    if connection.turn(now, respond) {
                        self.connections.push(connection);
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    log::warn!(error:%; "cannot accept a pod's connection (raise the limit on open files)");
                    self.rest_until = Some(now + REST_TIME);
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.connections.len() < CONNECTION_LIMIT || self.dispensable().is_some()
    }

    /// The oldest of those that have not been admitted, or have had their answer.
    fn dispensable(&self) -> Option<usize> {
        self.connections.iter().position(Connection::is_dispensable)
    }

    /// Bytes of requests.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.connections.iter().map(Connection::held).sum()
    }
}

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile;
#[cfg(test)]
#[cfg(unix)]
#[path = "server_tests.rs"]
mod tests;
