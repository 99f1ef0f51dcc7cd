//! The HTTP/1.1 server under the scripted API, the OTLP sink and the demo API: plain or TLS, one thread a connection.
//!
//! It parses requests and delivers replies, misbehaved ones included. What to reply is its caller's business.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One request, as it came over the wire.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// The request line's target: a path, or what a client sends to a proxy.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When the whole request had arrived.
    pub at: Instant,
    /// Counts connections from 0, so that a test can see one being kept.
    pub connection: u64,
}

impl Request {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a client gets for a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A well-formed response. `Content-Length` is added unless a header names the length or the encoding.
    Response { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// These bytes and nothing else, then the connection is closed.
    Raw(Vec<u8>),
    /// The connection is closed without a word.
    Close,
    /// The connection is reset.
    Reset,
    /// Silence until the client gives up or the server stops.
    Hang,
    /// The response of `Response`, byte by byte, a pause before each.
    Drip { pause: Duration, status: u16, body: Vec<u8> },
}

impl Reply {
    pub fn json(value: &serde_json::Value) -> Reply {
        let headers = vec![("Content-Type".into(), "application/json".into())];
        Reply::Response { status: 200, headers, body: value.to_string().into_bytes() }
    }

    pub fn status(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Reply {
        let headers = headers.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Reply::Response { status, headers, body: body.into() }
    }
}

type Handler = dyn Fn(Request) -> Reply + Send + Sync;

/// A listening server. Dropping it closes the port and every connection.
pub struct Server {
    pub addr: SocketAddr,
    listener: Arc<TcpListener>,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    /// Open connections by number, to shut them down on stop.
    connections: Mutex<HashMap<u64, TcpStream>>,
    tls: Option<Arc<ServerConfig>>,
    handler: Box<Handler>,
}

impl Server {
    /// Serves on `port` of 127.0.0.1; 0 takes a free one.
    pub fn start(
        port: u16,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Server> {
        Server::of(TcpListener::bind(("127.0.0.1", port))?, tls, handler)
    }

    /// Serves on a socket that listens already.
    pub fn of(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Server> {
        let listener = Arc::new(listener);
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { connections: Mutex::default(), tls, handler: Box::new(handler) });
        let accepting = (Arc::clone(&listener), Arc::clone(&shared));
        let acceptor = thread::spawn(move || accept(&accepting.0, &accepting.1));
        Ok(Server { addr, listener, shared, acceptor: Some(acceptor) })
    }

    /// Ends it as Go's servers end: the port closes, idle connections too, and a request that has begun is answered
    /// first. Waits for that as long as a client takes.
    #[allow(dead_code)]
    pub fn drain(mut self) {
        self.stop_accepting();
        // From here on a read finds the end, once what has come is read.
        let connections = || self.shared.connections.lock().unwrap();
        connections().values().for_each(|connection| drop(connection.shutdown(Shutdown::Read)));
        while !connections().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn stop_accepting(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        // On Linux this wakes accept(2), and the port refuses from here on: closing it would not do while a process
        // that another test forks, and that has not yet called exec, holds a copy.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = acceptor.join();
    }

    /// Waits for ever: for a program that is nothing but this server.
    #[allow(dead_code)]
    pub fn join(mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_accepting();
        for connection in self.shared.connections.lock().unwrap().values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for number in 0.. {
        let Ok((stream, _)) = listener.accept() else { return };
        // As real servers do. Otherwise an answer right behind TLS session tickets waits for the client's delayed
        // acknowledgement, 40 ms.
        let _ = stream.set_nodelay(true);
        let Ok(clone) = stream.try_clone() else { return };
        shared.connections.lock().unwrap().insert(number, clone);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A client that went away is the client's business.
            let _ = match shared.tls.clone() {
                Some(config) => ServerConnection::new(config)
                    .map_err(io::Error::other)
                    .and_then(|session| converse(StreamOwned::new(session, &stream), &stream, number, &shared)),
                None => converse(&stream, &stream, number, &shared),
            };
            // The registered clone goes first, so that `stream` is the last descriptor and dropping it ends the
            // connection.
            shared.connections.lock().unwrap().remove(&number);
        });
    }
}

/// Answers one request after another on a connection, until either side has had enough.
fn converse(stream: impl Read + Write, tcp: &TcpStream, connection: u64, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream, connection)? {
        let out = stream.get_mut();
        match (shared.handler)(request) {
            Reply::Response { status, headers, body } => {
                out.write_all(&response(status, &headers, &body))?;
                if headers
                    .iter()
                    .any(|(key, value)| key.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close"))
                {
                    break;
                }
            }
            Reply::Drip { pause, status, body } => {
                for byte in response(status, &[], &body) {
                    thread::sleep(pause);
                    out.write_all(&[byte])?;
                    out.flush()?;
                }
            }
            Reply::Raw(bytes) => {
                out.write_all(&bytes)?;
                break;
            }
            Reply::Close => break,
            Reply::Reset => {
                // A close with a linger time of zero sends RST (socket(7), SO_LINGER).
                rustix::net::sockopt::set_socket_linger(tcp, Some(Duration::ZERO))?;
                return Ok(());
            }
            Reply::Hang => {
                io::copy(&mut stream, &mut io::sink())?;
                return Ok(());
            }
        }
        stream.get_mut().flush()?;
    }
    stream.get_mut().flush()?;
    // FIN now: a client that reads to the end must not wait for its own next write.
    tcp.shutdown(Shutdown::Write)
}

fn response(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (key, value) in headers {
        head += &format!("{key}: {value}\r\n");
    }
    let framed =
        |key: &String| key.eq_ignore_ascii_case("content-length") || key.eq_ignore_ascii_case("transfer-encoding");
    if !headers.iter().any(|(key, _)| framed(key)) {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// `None` when the client has closed the connection between two requests.
fn read_request(stream: &mut BufReader<impl Read + Write>, connection: u64) -> io::Result<Option<Request>> {
    let first = read_line(stream)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next().filter(|word| !word.is_empty()), words.next()) else {
        return Ok(None);
    };
    let mut request = Request {
        method: method.to_string(),
        path: path.to_string(),
        headers: Vec::new(),
        body: Vec::new(),
        at: Instant::now(),
        connection,
    };
    loop {
        let line = read_line(stream)?;
        let Some((key, value)) = line.split_once(':') else { break };
        request.headers.push((key.to_string(), value.trim().to_string()));
    }
    if request.header("expect").is_some() {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.get_mut().flush()?;
    }
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = usize::from_str_radix(read_line(stream)?.trim(), 16).map_err(io::Error::other)?;
            let start = request.body.len();
            request.body.resize(start + size, 0);
            stream.read_exact(&mut request.body[start..])?;
            read_line(stream)?;
            if size == 0 {
                break;
            }
        }
    } else {
        let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        request.body.resize(length, 0);
        stream.read_exact(&mut request.body)?;
    }
    request.at = Instant::now();
    Ok(Some(request))
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}
