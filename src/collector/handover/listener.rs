//! What clients reach a collector at.

use std::fmt;
use std::net::SocketAddr;

/// Something that clients reach the collector at. Two collectors with an equal one share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix,
}

impl Listener {
    pub fn port(&self) -> Option<u16> {
        match self {
            Listener::Tcp(address) | Listener::Udp(address) => Some(address.port()),
            Listener::Unix => None,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Tcp(address) => write!(f, "TCP {address}"),
            Listener::Udp(address) => write!(f, "UDP {address}"),
            Listener::Unix => f.write_str("a Unix socket"),
        }
    }
}
