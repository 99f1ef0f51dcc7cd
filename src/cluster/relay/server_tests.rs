//! What honest clients get, over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::super::certificate;
use super::super::http::Body;
use super::*;
use crate::os::wait::wait;
use crate::os::wake_channel;

/// For what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers with what it was asked, or with a config as large as one can be.
pub(super) struct Echo {
    large: Arc<str>,
}

pub(super) const TOKEN: &str = "pod-token";
pub(super) const LARGE: usize = 8 * 1024 * 1024;

impl Echo {
    pub(super) fn new() -> Echo {
        Echo { large: "x".repeat(LARGE).into() }
    }
}

impl Respond for Echo {
    fn respond_to_head(&mut self, request: &Request) -> Option<Response> {
        match (request.method, request.path) {
            ("GET" | "HEAD", "/healthz") => Some(Response::ok("{}".to_string())),
            _ if request.authorization != Some(TOKEN.as_bytes()) => {
                Some(Response { header: Some("www-authenticate: token"), ..Response::status(401) })
            }
            ("POST", "/echo" | "/large") => None,
            (_, "/echo" | "/large") => Some(Response { header: Some("allow: POST"), ..Response::status(405) }),
            _ => Some(Response::status(404)),
        }
    }

    fn respond(&mut self, _: Uptime, request: &Request) -> Response {
        match request.path {
            "/large" => Response::ok(Body { shared: Some(self.large.clone()), ..Body::default() }),
            _ => Response::ok(String::from_utf8(request.body.to_vec()).unwrap()),
        }
    }
}

/// Looked at after each turn until it is true. It may let time pass.
type Look = Box<dyn FnMut(&Server, &mut Uptime) -> bool + Send>;

/// A server on a thread of its own, with its owner's loop. A time that is to pass is skipped.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) client: Option<Arc<ClientConfig>>,
    looks: Option<wake_channel::Sender<Look>>,
    turns: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn plain() -> Running {
        Running::start(None, None)
    }

    pub(super) fn with_tls() -> Running {
        let (server, client) = tls();
        Running::start(Some(server), Some(client))
    }

    fn start(tls: Option<Arc<ServerConfig>>, client: Option<Arc<ClientConfig>>) -> Running {
        let mut server = Server::bind("127.0.0.1:0".parse().unwrap(), tls).unwrap();
        let (looks, asked) = wake_channel::channel::<Look>().unwrap();
        let (address, turns) = (server.address().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = turns.clone();
        let thread = thread::spawn(move || {
            let (began_at, mut skipped) = (Instant::now(), Uptime::ZERO);
            let (mut echo, mut looks) = (Echo::new(), Vec::new());
            loop {
                let until = server.deadline().and_then(|until| began_at.checked_add(until.saturating_sub(skipped)));
                let sources: Vec<Waitable> = [asked.waitable()].into_iter().chain(server.sources()).collect();
                assert!(sources.len() <= CONNECTION_LIMIT + 2);
                wait(&sources, until).unwrap();
                let (new, is_closed) = asked.drain();
                if is_closed {
                    return;
                }
                looks.extend(new);
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    server.turn(began_at.elapsed() + skipped, &mut echo);
                    assert!(server.held() <= CONNECTION_LIMIT * (HEAD_LIMIT + BODY_LIMIT), "{}", server.held());
                    let before = skipped;
                    looks.retain_mut(|look| !look(&server, &mut skipped));
                    if skipped == before {
                        break;
                    }
                }
            }
        });
        Running { address, client, looks: Some(looks), turns, thread: Some(thread) }
    }

    /// Until the server is like this.
    pub(super) fn until(&self, what: &str, is: impl Fn(&Server) -> bool + Send + 'static) {
        let (sender, receiver) = mpsc::channel();
        self.looks.as_ref().unwrap().send(Box::new(move |server, _| is(server) && sender.send(()).is_ok()));
        receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the server never has {what}"));
    }

    pub(super) fn until_received(&self, bytes: usize) {
        self.until("that", move |server| server.connections.iter().any(|it| it.received() == bytes));
    }

    pub(super) fn until_empty(&self) {
        self.until("no connection", |server| server.connections.is_empty());
    }

    pub(super) fn pass(&self, time: Duration) {
        let (sender, receiver) = mpsc::channel();
        self.looks.as_ref().unwrap().send(Box::new(move |_, skipped| {
            *skipped += time;
            sender.send(()).is_ok()
        }));
        receiver.recv_timeout(PATIENCE).unwrap();
    }

    pub(super) fn turns(&self) -> usize {
        self.turns.load(Ordering::Relaxed)
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub(super) fn secure(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("relay").unwrap();
        let client = ClientConnection::new(self.client.clone().unwrap(), name).unwrap();
        StreamOwned::new(client, self.connect())
    }

    /// It answers one who asks as it should.
    pub(super) fn is_well(&self) {
        let mut stream: Box<dyn ReadWrite> = match self.client {
            Some(_) => Box::new(self.secure()),
            None => Box::new(self.connect()),
        };
        stream.write_all(post("/echo", "well", "connection: close\r\n").as_bytes()).unwrap();
        assert_eq!(response(&mut *stream), (200, b"well".to_vec()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.looks = None;
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the server has panicked");
    }
}

/// Both sides of it.
pub(super) fn tls() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["relay".to_string()]).unwrap();
    let directory = crate::os::unix::files::test_dir::Dir::new();
    let path = directory.path().join("relay.pem");
    std::fs::write(&path, cert.pem() + &signing_key.serialize_pem()).unwrap();
    let (_, server) = certificate::Certificate::read(&path, Uptime::ZERO).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (server, Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

pub(super) fn post(path: &str, body: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nauthorization: {TOKEN}\r\n{more}content-length: {}\r\n\r\n{body}", body.len())
}

/// Closes it so that the other end learns of an error.
pub(super) fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Status and body of one response.
pub(super) fn response(stream: &mut (impl Read + ?Sized)) -> (u16, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {:?}", head.escape_ascii().to_string()));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head[9..12].parse().unwrap(), body)
}

#[test]
fn a_request_is_answered_with_and_without_tls() {
    let (plain, secure) = (Running::plain(), Running::with_tls());
    let ask = |stream: &mut dyn ReadWrite| {
        for body in ["", "one", "two"] {
            stream.write_all(post("/echo", body, "").as_bytes()).unwrap();
            assert_eq!(response(stream), (200, body.as_bytes().to_vec()));
        }
        stream.write_all(post("/large", "", "connection: close\r\n").as_bytes()).unwrap();
        let (status, body) = response(stream);
        assert_eq!((status, body.len()), (200, LARGE));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it is closed");
    };
    ask(&mut plain.connect());
    ask(&mut secure.secure());
}

pub(super) trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn each_refusal_has_its_status() {
    let relay = Running::plain();
    let long = format!("GET /healthz HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(HEAD_LIMIT));
    let large = format!("POST /echo HTTP/1.1\r\nauthorization: {TOKEN}\r\ncontent-length: {}\r\n\r\n", BODY_LIMIT + 1);
    for (request, status, stays) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", 200, true),
        ("\r\n\nGET /healthz HTTP/1.1\r\n\r\n", 200, true),
        ("GET /healthz HTTP/1.0\r\n\r\n", 200, false),
        ("POST /echo HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", 401, false),
        ("GET /echo HTTP/1.1\r\n\r\n", 401, true),
        ("GET /echo HTTP/1.1\r\nauthorization: pod-token\r\n\r\n", 405, true),
        ("GET /other HTTP/1.1\r\nauthorization: pod-token\r\n\r\n", 404, true),
        ("POST /echo HTTP/1.1\r\nauthorization: pod-token\r\n\r\n", 411, false),
        ("GET / HTTP/3.0\r\n\r\n", 505, false),
        ("nonsense\r\n\r\n", 400, false),
        (&long, 431, false),
        (&large, 413, false),
    ] {
        let mut stream = relay.connect();
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(response(&mut stream).0, status, "{request:.60}");
        match stays {
            true => {
                stream.write_all(post("/echo", "x", "").as_bytes()).unwrap();
                assert_eq!(response(&mut stream), (200, b"x".to_vec()), "{request}");
            }
            false => assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{request:.60}"),
        }
    }
    let mut stream = relay.connect();
    stream.write_all(b"HEAD /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("content-length: 0\r\n\r\n"), "{answer}");
}

#[test]
fn requests_that_are_sent_ahead_are_answered_in_their_order() {
    let relay = Running::with_tls();
    let mut stream = relay.secure();
    let bodies: Vec<String> = (0..100).map(|number| number.to_string().repeat(200)).collect();
    let ahead: String = bodies.iter().map(|body| post("/echo", body, "")).collect();
    stream.write_all(ahead.as_bytes()).unwrap();
    for body in &bodies {
        assert_eq!(response(&mut stream), (200, body.as_bytes().to_vec()));
    }
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let relay = Running::plain();
    let request = post("/echo", "hello", "connection: keep-alive\r\n");
    let mut stream = relay.connect();
    stream.set_nodelay(true).unwrap();
    for cut in 1..request.len() {
        for piece in [&request[..cut], &request[cut..]] {
            stream.write_all(piece.as_bytes()).unwrap();
            thread::yield_now();
        }
        assert_eq!(response(&mut stream), (200, b"hello".to_vec()), "{cut}");
    }
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(response(&mut stream), (200, b"hello".to_vec()));
}

/// A client may close its side for writing when it has asked.
#[test]
fn one_that_writes_no_more_gets_its_answer() {
    let relay = Running::with_tls();
    let mut stream = relay.secure();
    stream.write_all(post("/large", "", "").as_bytes()).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(response(&mut stream).1.len(), LARGE);
}
