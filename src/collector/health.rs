//! One health check: a GET on loopback that never blocks the supervisor.
//!
//! The connection goes into the supervisor's wait; how long to wait is the core's business. Connecting blocks at most
//! `CONNECT_TIMEOUT`, and on loopback it is answered by the kernel at once.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::inspect::HealthCheck;
use crate::os::stream::NonBlockingStream;
use crate::os::wait::Waitable;

/// Only a full backlog makes a connection to this host wait at all.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// A status line is shorter (`HTTP/1.1 200 OK`).
const STATUS_LINE_LIMIT: usize = 256;

#[derive(Debug)]
pub struct Probe {
    stream: NonBlockingStream,
    received: Vec<u8>,
    url: String,
}

impl Probe {
    /// `None` when the endpoint is a host name other than localhost: to resolve it could block, so it is not probed.
    pub fn begin(check: &HealthCheck) -> Option<Result<Probe, String>> {
        let url = format!("http://{}{}", check.address, check.path);
        let addresses = addresses(&check.address)?;
        let mut refusal = None;
        for address in addresses {
            match connect(address, check) {
                Ok(stream) => return Some(Ok(Probe { stream, received: Vec::new(), url })),
                Err(error) => refusal = Some(error),
            }
        }
        let cause = refusal.map(|error| format!(": {error}")).unwrap_or_default();
        Some(Err(format!("the health check {url} cannot be reached{cause}")))
    }

    /// Ready when there is something to `advance` with.
    pub fn waitable(&self) -> Waitable<'_> {
        self.stream.waitable()
    }

    /// `None` means not yet.
    pub fn advance(&mut self) -> Option<Result<(), String>> {
        let mut buffer = [0u8; STATUS_LINE_LIMIT];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Some(Err(format!("the health check {} closed the connection", self.url))),
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            Err(error) => return Some(Err(format!("the health check {} failed: {error}", self.url))),
        }
        let line_ends = self.received.contains(&b'\n') || self.received.len() >= STATUS_LINE_LIMIT;
        line_ends.then(|| match status_of(&self.received) {
            Some(200) => Ok(()),
            Some(status) => Err(format!("the health check {} answered {status}", self.url)),
            None => Err(format!("the health check {} answered something that is not HTTP", self.url)),
        })
    }
}

fn connect(address: SocketAddr, check: &HealthCheck) -> io::Result<NonBlockingStream> {
    let mut stream = NonBlockingStream::new(TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?)?;
    // Some hundred bytes into an empty socket buffer: they are taken whole.
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kmagent/{}\r\nConnection: close\r\n\r\n",
        check.path,
        check.address,
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// What `host:port` stands for; `None` for a name other than localhost, see `begin`.
pub fn addresses(address: &str) -> Option<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Some(vec![address]);
    }
    let port = address.strip_prefix("localhost:")?.parse().ok()?;
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    Some(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec())
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|&byte| byte == b'\n').next()?).ok()?;
    let mut words = line.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        for (line, status) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Some(200)),
            (b"HTTP/1.0 503 Service Unavailable\r\n", Some(503)),
            (b"HTTP/1.1 200\r\n", Some(200)),
            (b"SSH-2.0-OpenSSH\r\n", None),
            (b"\xff\n", None),
        ] {
            assert_eq!(status_of(line), status);
        }
    }

    #[test]
    fn only_this_host_is_probed() {
        assert_eq!(addresses("127.0.0.1:13133").unwrap().len(), 1);
        assert_eq!(addresses("[::1]:13133").unwrap().len(), 1);
        assert_eq!(addresses("localhost:13133").unwrap().len(), 2);
        assert!(addresses("health.example.com:80").is_none());
    }
}
