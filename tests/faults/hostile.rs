//! `Hostile`: a server that does what its script says with each connection, byte by byte, in the clear or in TLS.
//!
//! `support::api` answers well-formed requests; this one need not answer at all. It counts what it could send, so that
//! a test can see where the client stopped reading.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One thing that the server does with a connection. After the last one it closes, but only once the client has read
/// everything or has closed itself.
#[derive(Clone)]
pub enum Step {
    /// Reads one request, head and body.
    Take,
    /// Reads this many bytes, in the end of a request's head if that is less.
    TakeSome(usize),
    Send(Vec<u8>),
    /// The same again and again, until the client has had enough.
    Repeat(Vec<u8>),
    /// Byte by byte, with this pause before each.
    Drip(Vec<u8>, Duration),
    /// Nothing more until the client has had enough.
    Silence,
    /// An end that the client's kernel hears of as a reset.
    Reset,
    /// The end of a TLS session, as it should be announced.
    Notify,
    /// As the first step: no handshake before the others, though the server is one for TLS.
    Raw,
}

pub type Script = Vec<Step>;

/// The usual beginning: the request is read, then this is sent.
pub fn answer(bytes: impl Into<Vec<u8>>) -> Script {
    vec![Step::Take, Step::Send(bytes.into())]
}

/// A whole answer with status 200.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    response(200, &[], body)
}

pub fn response(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut head = format!("HTTP/1.1 {status} Hostile\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

pub struct Hostile {
    port: u16,
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    /// As it was started.
    tls: Option<Arc<ServerConfig>>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    /// With what the handshake before it is made with, if there is one.
    script: Mutex<(Script, Option<Arc<ServerConfig>>)>,
    sent: AtomicU64,
    connections: AtomicU64,
}

impl Hostile {
    /// On a free port of 127.0.0.1. In TLS the handshake comes before the script.
    pub fn start(tls: Option<Arc<ServerConfig>>) -> Hostile {
        Hostile::on(TcpListener::bind("127.0.0.1:0").unwrap(), tls)
    }

    pub fn on(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Hostile {
        let port = listener.local_addr().unwrap().port();
        let listener = Arc::new(listener);
        let script = Mutex::new((answer(ok("{}")), tls.clone()));
        let shared = Shared { script, sent: AtomicU64::new(0), connections: AtomicU64::new(0) };
        let shared = Arc::new(shared);
        let accepting = (Arc::clone(&listener), Arc::clone(&shared));
        let acceptor = thread::spawn(move || accept(&accepting.0, &accepting.1));
        Hostile { port, listener, shared, tls, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/agents/config-check", self.port)
    }

    /// What every connection gets from now on.
    pub fn play(&self, script: Script) {
        self.play_as(self.tls.clone(), script);
    }

    /// The same, with another certificate.
    pub fn play_as(&self, tls: Option<Arc<ServerConfig>>, script: Script) {
        *self.shared.script.lock().unwrap() = (script, tls);
        self.shared.sent.store(0, Ordering::Relaxed);
    }

    /// Bytes that the kernel has taken for clients since the latest `play`; TLS adds a little that is not counted.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = acceptor.join();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept() {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let _ = tcp.set_nodelay(true);
        // A client that never leaves is the client's fault, and not to hold up the test's end.
        let _ = tcp.set_read_timeout(Some(Duration::from_secs(60)));
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let (script, tls) = shared.script.lock().unwrap().clone();
            let tls = tls.filter(|_| !matches!(script.first(), Some(Step::Raw)));
            // The client's leaving is an error here, and expected.
            let _ = match tls {
                None => perform(&script, &mut &tcp, &tcp, &shared, |_| Ok(())),
                Some(config) => ServerConnection::new(config).map_err(io::Error::other).and_then(|session| {
                    let mut stream = StreamOwned::new(session, &tcp);
                    while stream.conn.is_handshaking() {
                        stream.conn.complete_io(&mut stream.sock)?;
                    }
                    perform(&script, &mut stream, &tcp, &shared, |stream| {
                        stream.conn.send_close_notify();
                        stream.flush()
                    })
                }),
            };
        });
    }
}

fn perform<S: Read + Write>(
    script: &Script,
    stream: &mut S,
    tcp: &TcpStream,
    shared: &Shared,
    notify: impl Fn(&mut S) -> io::Result<()>,
) -> io::Result<()> {
    let send = |stream: &mut S, bytes: &[u8]| {
        for part in bytes.chunks(16 * 1024) {
            stream.write_all(part)?;
            shared.sent.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        stream.flush()
    };
    for step in script {
        match step {
            Step::Take => take(stream)?,
            Step::TakeSome(count) => stream.read_exact(&mut vec![0; *count])?,
            Step::Send(bytes) => send(stream, bytes)?,
            Step::Repeat(bytes) => {
                // In large writes, or a gigabyte takes a minute.
                let many = bytes.repeat((64 * 1024 / bytes.len()).max(1));
                loop {
                    send(stream, &many)?;
                }
            }
            Step::Drip(bytes, pause) => {
                for byte in bytes {
                    thread::sleep(*pause);
                    send(stream, &[*byte])?;
                }
            }
            Step::Silence => return io::copy(stream, &mut io::sink()).map(|_| ()),
            Step::Reset => {
                // A close with a linger time of zero sends RST (socket(7), SO_LINGER).
                return Ok(rustix::net::sockopt::set_socket_linger(tcp, Some(Duration::ZERO))?);
            }
            Step::Notify => notify(stream)?,
            Step::Raw => {}
        }
    }
    tcp.shutdown(Shutdown::Write)?;
    // A close with something unread would be a reset.
    io::copy(&mut &*tcp, &mut io::sink()).map(|_| ())
}

fn take(stream: &mut impl Read) -> io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    stream.read_exact(&mut vec![0; length])
}
