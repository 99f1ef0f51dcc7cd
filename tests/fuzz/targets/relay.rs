//! What pods send to the relay: heads and reports by themselves, and whole connections, cut anywhere. Where a request
//! ends is found the same however it arrives, a second reading of the head agrees, and each answer is one to a request.
#![no_main]

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use kmagent::cluster::relay::host_contract::decode;
use kmagent::cluster::relay::http::{Request, Response, end_of_head, parse};
use kmagent::cluster::relay::server::{BODY_LIMIT, Respond, Server};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server::bind("127.0.0.1:0".parse().unwrap(), None).unwrap());
}

/// Answers with nothing, and counts what it was asked.
#[derive(Default)]
struct Counting {
    heads: usize,
    whole: usize,
}

impl Respond for Counting {
    fn respond_to_head(&mut self, request: &Request) -> Option<Response> {
        self.heads += 1;
        (request.path == "/now").then(|| Response::ok("{}".to_string()))
    }

    fn respond(&mut self, _: Duration, request: &Request) -> Response {
        assert!(request.body.len() <= BODY_LIMIT);
        self.whole += 1;
        Response::ok(String::new())
    }
}

fuzz_target!(|bytes: &[u8]| {
    read_report(bytes);
    read_head(bytes);
    let cut = bytes.first().map_or(0, |&at| usize::from(at)).min(bytes.len());
    connect(&bytes[bytes.len().min(1)..], cut);
});

fn read_report(bytes: &[u8]) {
    let Ok(question) = decode(bytes) else { return };
    let name = &question.pod.0;
    assert!(!name.is_empty() && name.len() <= 253 && !name.contains(|c: char| c.is_whitespace() || c.is_control()));
    assert!(question.report.problem.is_none_or(|problem| !problem.is_empty() && problem.len() <= 4096));
}

fn read_head(bytes: &[u8]) {
    let end = end_of_head(bytes, 0);
    for searched in 0..bytes.len().min(end.unwrap_or(usize::MAX)).min(64) {
        assert_eq!(end_of_head(bytes, searched), end, "{searched}");
    }
    let Some(end) = end else { return };
    let Ok(head) = parse(&bytes[..end]) else { return };
    assert_eq!(head.length, end);
    // Line by line, as others may read it.
    let lines = bytes[..end].split(|&byte| byte == b'\n').skip(1);
    let names: Vec<Vec<u8>> = lines
        .filter_map(|line| Some(line[..line.iter().position(|&byte| byte == b':')?].to_ascii_lowercase()))
        .collect();
    let count = |name: &str| names.iter().filter(|it| it.as_slice() == name.as_bytes()).count();
    assert!(count("content-length") <= 1 && count("authorization") <= 1 && count("transfer-encoding") == 0);
    assert!(count("content-length") == 1 || head.body_length == 0);
}

fn connect(bytes: &[u8], cut: usize) {
    SERVER.with_borrow_mut(|server| {
        let mut counting = Counting::default();
        let mut client = TcpStream::connect(server.address().unwrap()).unwrap();
        let began_at = Instant::now();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        for piece in [first, second] {
            // What the server does not read any more ends in an error.
            let _ = client.write_all(piece);
            server.turn(Duration::ZERO, &mut counting);
        }
        let _ = client.shutdown(Shutdown::Write);
        client.set_nonblocking(true).unwrap();
        let (mut answers, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            server.turn(Duration::ZERO, &mut counting);
            match client.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => answers.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            assert!(began_at.elapsed() < Duration::from_secs(5), "it hangs");
        }
        drop(client);
        server.turn(Duration::from_secs(3600), &mut counting);
        assert!(server.sources().count() == 1, "it is still there");
        let count = answers.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
        assert!(count <= counting.heads + 1 && counting.whole <= counting.heads, "{count} answers");
    });
}
