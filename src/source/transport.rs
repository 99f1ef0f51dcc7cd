//! How a connection is made: ureq's own connectors, with name resolution on the calling thread and one deadline for all
//! of it.
//!
//! ureq's default resolver starts a thread for each look-up that has a deadline. This one asks on the calling thread,
//! so a look-up ends only when the system's resolver gives up (resolv.conf(5): `timeout`, `attempts`). `localhost` is
//! never looked up: what may get the key in cleartext must be this host, whatever a name server says. ureq also grants
//! a CONNECT proxy the whole timeout anew for each read, so that one which answers a byte at a time would never be
//! given up; the deadline here ends that.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ureq::config::{AutoHeaderValue, Config};
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, Error, Proxy};

use crate::settings::url::is_localhost;

/// For a report of at most 8 KiB and an answer of any length that is read piece by piece; ureq's default of 128 KiB
/// each would be most of the agent's memory (DESIGN.md, "Measurements").
const BUFFER: usize = 16 * 1024;

/// What makes calls. It keeps no connection between them, retries nothing, follows no redirect and starts no thread.
/// `timeout` is for the whole call but the look-up of the name.
pub fn agent(proxy: Option<Proxy>, roots: RootCerts, timeout: std::time::Duration) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_global(Some(timeout))
        .user_agent(concat!("kmagent/", env!("CARGO_PKG_VERSION")))
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        // One less: a header that fills the buffer looks like one that breaks off.
        .max_response_header_size(BUFFER - 1)
        .max_idle_connections(0)
        .build();
    Agent::with_parts(config, connector(), CallingThreadResolver::default())
}

/// Straight or through a CONNECT proxy, in TLS where the scheme says so.
fn connector() -> impl Connector {
    ().chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(DeadlineConnector)
        .chain(RustlsConnector::default())
}

#[derive(Debug, Default)]
pub struct CallingThreadResolver(DefaultResolver);

impl Resolver for CallingThreadResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        if uri.host().is_some_and(is_localhost) {
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
            let mut loopback = self.empty();
            loopback.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            loopback.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
            return Ok(loopback);
        }
        // Without a deadline the default resolver needs no thread.
        let timeout = NextTimeout { after: Duration::NotHappening, ..timeout };
        self.0.resolve(uri, config, timeout).map_err(|error| match error {
            Error::Io(error) => {
                let host = uri.host().unwrap_or_default();
                Error::Io(io::Error::new(
                    error.kind(),
                    format!("cannot resolve {host}: {error}; check the name, and this host's DNS"),
                ))
            }
            other => other,
        })
    }
}

#[derive(Debug)]
struct DeadlineConnector;

impl<In: Transport> Connector<In> for DeadlineConnector {
    type Out = Deadline<In>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Deadline<In>>, Error> {
        let until = match (details.now, details.timeout.after) {
            (Instant::Exact(now), Duration::Exact(after)) => now.checked_add(after),
            _ => None,
        };
        Ok(chained.map(|transport| Deadline { transport, until }))
    }
}

/// A transport whose reads and writes end at `until`, whatever timeout each of them asks for.
#[derive(Debug)]
struct Deadline<T> {
    transport: T,
    /// `None`: no deadline.
    until: Option<std::time::Instant>,
}

impl<T> Deadline<T> {
    fn cap(&self, timeout: NextTimeout) -> NextTimeout {
        let left = self.until.map(|until| until.saturating_duration_since(std::time::Instant::now()));
        match left {
            Some(left) if left < *timeout.after => NextTimeout { after: Duration::Exact(left), ..timeout },
            _ => timeout,
        }
    }
}

impl<T: Transport> Transport for Deadline<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.transport.transmit_output(amount, self.cap(timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.transport.await_input(self.cap(timeout))
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use ureq::Timeout;

    use super::*;

    /// No resolver knows a name below `localhost` unless it follows RFC 6761 itself, and musl's asks DNS.
    #[test]
    fn localhost_is_loopback_without_being_looked_up() {
        let timeout = NextTimeout { after: Duration::NotHappening, reason: Timeout::Global, ..Default::default() };
        for (url, port) in
            [("http://localhost/x", 80), ("https://LocalHost./x", 443), ("http://no-such-name.localhost:8080/x", 8080)]
        {
            let found = CallingThreadResolver::default().resolve(&url.parse().unwrap(), &Config::default(), timeout);
            let expected = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
            assert_eq!(found.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{url}");
        }
    }
}
