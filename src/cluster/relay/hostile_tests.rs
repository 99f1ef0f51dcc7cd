//! Clients that are slow, huge, wrong, many, or gone: what becomes of them, and that others are served meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::super::connection::{
    ANSWER_TIMEOUT, BODY_TIMEOUT, CLOSING_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT,
};
use super::tests::{LARGE, Running, TOKEN, post, reset, response};
use super::*;

const MOMENT: Duration = Duration::from_millis(1);

/// All that arrives until the connection ends, however it does.
fn rest(stream: &mut impl Read) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the server has not closed"),
            Err(_) => return all,
        }
    }
}

fn statuses(answer: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    text.match_indices("HTTP/1.1 ").map(|(at, _)| text[at + 9..at + 12].to_string()).collect()
}

#[test]
fn a_slow_head_is_given_up_however_it_trickles() {
    let relay = Running::plain();
    let mut stream = relay.connect();
    for (count, byte) in (1..).zip(b"POST /ech") {
        stream.write_all(&[*byte]).unwrap();
        relay.until_received(count);
        relay.pass(HEAD_TIMEOUT / 10);
    }
    relay.pass(HEAD_TIMEOUT / 10 + MOMENT);
    assert_eq!(statuses(&rest(&mut stream)), ["408"]);
    relay.is_well();
}

#[test]
fn a_slow_body_is_given_up() {
    let relay = Running::plain();
    let mut stream = relay.connect();
    let request = post("/echo", "hello", "");
    for (count, byte) in (1..).zip(request.as_bytes()).take(request.len() - 1) {
        stream.write_all(&[*byte]).unwrap();
        relay.until_received(count);
    }
    relay.pass(BODY_TIMEOUT + MOMENT);
    assert_eq!(statuses(&rest(&mut stream)), ["408"]);
}

#[test]
fn who_says_nothing_is_dropped_without_a_word() {
    let relay = Running::plain();
    let mut silent = relay.connect();
    let mut blank = relay.connect();
    blank.write_all(&b"\r\n".repeat(10_000)).unwrap();
    let mut kept = relay.connect();
    kept.write_all(post("/echo", "x", "").as_bytes()).unwrap();
    response(&mut kept);
    relay.until("three connections", |server| server.connections.len() == 3);
    relay.pass(HEAD_TIMEOUT.max(IDLE_TIMEOUT) + MOMENT);
    for stream in [&mut silent, &mut blank, &mut kept] {
        assert_eq!(rest(stream), b"");
    }
    relay.until_empty();
}

/// It holds nothing but a reference to what it does not read, and costs no turns.
#[test]
fn a_slow_reader_delays_nobody_and_is_given_up() {
    let relay = Running::with_tls();
    let mut slow: Vec<_> = (0..20).map(|_| relay.secure()).collect();
    for stream in &mut slow {
        stream.write_all(post("/large", "", "").as_bytes()).unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
    }
    relay.until("20 answers", |server| server.connections.iter().all(Connection::is_answering));
    relay.is_well();
    let turns = relay.turns();
    relay.is_well();
    assert!(relay.turns() - turns < 40, "it spins: {} turns for one request", relay.turns() - turns);
    relay.pass(ANSWER_TIMEOUT + MOMENT);
    relay.until_empty();
    for mut stream in slow {
        assert!(rest(&mut stream).len() < LARGE);
    }
}

#[test]
fn heads_without_an_end_are_refused_at_the_limit() {
    let relay = Running::plain();
    for piece in ["a", "a: b\r\n", "GET / HTTP/1.1\r\na: b\r\n", "\0", "\u{fffd}", " ", "POST ", "a\r"] {
        let mut stream = relay.connect();
        // What it does not read any more ends in an error.
        let _ = stream.write_all(piece.repeat(3 * HEAD_LIMIT / piece.len()).as_bytes());
        assert_eq!(statuses(&rest(&mut stream)), ["431"], "{piece:?}");
    }
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    let mut stream = relay.connect();
    stream.write_all(many.as_bytes()).unwrap();
    assert_eq!(statuses(&rest(&mut stream)), ["431"]);
    relay.is_well();
}

#[test]
fn a_body_that_is_too_long_is_not_read() {
    let relay = Running::plain();
    for length in [BODY_LIMIT as u64 + 1, u64::from(u32::MAX), 10_000_000_000] {
        let mut stream = relay.connect();
        let head = format!("POST /echo HTTP/1.1\r\nauthorization: {TOKEN}\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(&vec![b'x'; 1024 * 1024]);
        assert_eq!(statuses(&rest(&mut stream)), ["413"], "{length}");
    }
    let mut stream = relay.connect();
    stream.write_all(post("/echo", &"x".repeat(BODY_LIMIT), "").as_bytes()).unwrap();
    assert_eq!(response(&mut stream), (200, vec![b'x'; BODY_LIMIT]), "the largest");
    // A stranger's is not read, of whatever length.
    let mut stream = relay.connect();
    stream.write_all(format!("POST /echo HTTP/1.1\r\ncontent-length: {BODY_LIMIT}\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(statuses(&rest(&mut stream)), ["401"]);
}

/// Whoever reads another end of the first request than we do could have a second one answered that nobody meant.
#[test]
fn no_request_hides_in_another() {
    let relay = Running::plain();
    let hidden = post("/echo", "hidden", "");
    let head = |headers: &str| format!("POST /echo HTTP/1.1\r\nauthorization: {TOKEN}\r\n{headers}\r\n");
    for (request, expected) in [
        (head("transfer-encoding: chunked\r\n") + "0\r\n\r\n" + &hidden, &["411"][..]),
        (head("content-length: 3\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n" + &hidden, &["411"]),
        (head("content-length: 0\r\ncontent-length: 100\r\n") + &hidden, &["400"]),
        (head("content-length: 0\r\ncontent-length: 0\r\n") + &hidden, &["400"]),
        (head("content-length: 0, 0\r\n") + &hidden, &["400"]),
        (head("content-length: -1\r\n") + &hidden, &["400"]),
        (head("content-length: 0x0\r\n") + &hidden, &["400"]),
        (head("content-length : 0\r\n") + &hidden, &["400"]),
        (head("content-length: 0\r\n folded: x\r\n") + &hidden, &["400"]),
        (head("content-length: 0\r\nexpect: 100-continue\r\n") + &hidden, &["417"]),
        (head("content-length: 0\r\nconnection: close\r\n") + &hidden, &["200"]),
        (format!("POST /echo HTTP/1.0\r\nauthorization: {TOKEN}\r\ncontent-length: 0\r\n\r\n{hidden}"), &["200"]),
        (format!("GET /echo HTTP/1.1\r\ncontent-length: {}\r\n\r\n{hidden}", hidden.len()), &["401"]),
        (head("content-length: 1\r\n") + "xnonsense\r\n\r\n" + &hidden, &["200", "400"]),
    ] {
        let mut stream = relay.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = rest(&mut stream);
        assert_eq!(statuses(&answer), expected, "{request}");
        assert!(!answer.ends_with(b"hidden"), "{request}");
    }
    relay.until_empty();
}

#[test]
fn a_request_that_is_cut_off_is_no_request() {
    let relay = Running::plain();
    let request = post("/echo", "hello", "");
    for end in 0..request.len() {
        let mut stream = relay.connect();
        stream.write_all(&request.as_bytes()[..end]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut stream), b"", "{end}");
    }
    relay.until_empty();
    relay.is_well();
}

#[test]
fn what_is_no_tls_is_dropped() {
    let relay = Running::with_tls();
    let plain = post("/echo", "hello", "").into_bytes();
    let mut hello = client_hello(&relay);
    hello[5] = 0xff;
    let large = [&[22, 3, 1, 0xff, 0xff][..], &vec![1; 0xffff]].concat();
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &vec![0; 0x4000]].concat();
    let empty_records = [22, 3, 1, 0, 0].repeat(10_000);
    let alert = [21, 3, 3, 0, 2, 2, 40].to_vec();
    let early_data = [23, 3, 3, 0, 1, 0].to_vec();
    for (name, bytes) in [
        ("HTTP", plain),
        ("zeros", vec![0; 100_000]),
        ("ones", vec![0xff; 100_000]),
        ("an unknown handshake", hello),
        ("a record that is too long", large),
        ("a handshake without an end", endless),
        ("empty records", empty_records),
        ("an alert", alert),
        ("data first", early_data),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
    ] {
        let mut stream = relay.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let answer = rest(&mut stream);
        assert!(answer.len() < 100 && statuses(&answer).is_empty(), "{name}: {answer:?}");
    }
    relay.until_empty();
    relay.is_well();
}

/// As a client of ours sends it.
fn client_hello(relay: &Running) -> Vec<u8> {
    let mut client = relay.secure().conn;
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn half_a_handshake_is_given_up() {
    let relay = Running::with_tls();
    let hello = client_hello(&relay);
    relay.until_empty();
    let mut streams = Vec::new();
    for end in [0, 1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
        let mut stream = relay.connect();
        stream.write_all(&hello[..end]).unwrap();
        streams.push(stream);
    }
    let count = streams.len();
    relay.until("them", move |server| server.connections.len() == count);
    relay.pass(HANDSHAKE_TIMEOUT + MOMENT);
    relay.until_empty();
    for mut stream in streams {
        assert!(statuses(&rest(&mut stream)).is_empty());
    }
}

#[test]
fn resets_amid_everything_leave_nothing_behind() {
    let relay = Running::with_tls();
    let hello = client_hello(&relay);
    for end in (0..hello.len()).step_by(7) {
        let mut stream = relay.connect();
        stream.write_all(&hello[..end]).unwrap();
        reset(stream);
    }
    let request = post("/large", "hello", "");
    for end in (0..=request.len()).step_by(5) {
        let mut stream = relay.secure();
        stream.write_all(&request.as_bytes()[..end]).unwrap();
        stream.flush().unwrap();
        if end == request.len() {
            stream.read_exact(&mut [0; 1000]).unwrap();
        }
        reset(stream.sock);
    }
    relay.until_empty();
    relay.is_well();
}

/// A client that keeps its connection open when it is to be closed holds it for a moment.
#[test]
fn who_does_not_close_is_closed() {
    let relay = Running::plain();
    let mut stream = relay.connect();
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(statuses(&rest(&mut stream)), ["400"]);
    stream.write_all(&[b'x'; 100_000]).unwrap();
    relay.pass(CLOSING_TIMEOUT + MOMENT);
    relay.until_empty();
}

#[test]
fn of_300_at_once_the_oldest_strangers_go_and_pods_stay() {
    let relay = Running::plain();
    let mut admitted: Vec<TcpStream> = (0..10).map(|_| relay.connect()).collect();
    let request = post("/echo", "pod", "");
    for stream in &mut admitted {
        stream.write_all(&request.as_bytes()[..request.len() - 1]).unwrap();
    }
    relay.until("10 pods", |server| server.connections.iter().filter(|it| !it.is_dispensable()).count() == 10);
    let mut strangers: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = relay.connect();
            stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    relay.is_well();
    for stream in &mut admitted {
        stream.write_all(&request.as_bytes()[request.len() - 1..]).unwrap();
        assert_eq!(response(stream), (200, b"pod".to_vec()));
    }
    let mut dropped = strangers.drain(..300 - CONNECTION_LIMIT + 10);
    assert!(dropped.all(|mut stream| rest(&mut stream).is_empty()));
    // When all are pods, nobody else is accepted.
    let mut pods: Vec<TcpStream> = (0..CONNECTION_LIMIT).map(|_| relay.connect()).collect();
    for stream in &mut pods {
        stream.write_all(&request.as_bytes()[..request.len() - 1]).unwrap();
    }
    relay.until("pods alone", |server| {
        server.connections.len() == CONNECTION_LIMIT && !server.connections.iter().any(Connection::is_dispensable)
    });
    let turns = relay.turns();
    let mut late = relay.connect();
    late.write_all(request.as_bytes()).unwrap();
    relay.pass(MOMENT);
    assert!(relay.turns() - turns < 10, "it spins for who is not accepted");
    pods.clear();
    assert_eq!(response(&mut late), (200, b"pod".to_vec()));
}

/// Keys may be changed at any time; a client that does nothing else gets nowhere and costs little.
#[test]
fn new_keys_without_end_are_no_request() {
    let relay = Running::with_tls();
    let mut stream = relay.secure();
    stream.write_all(b"POST /echo HT").unwrap();
    relay.until_received(13);
    for _ in 0..2000 {
        if stream.conn.refresh_traffic_keys().is_err() || stream.flush().is_err() {
            break;
        }
    }
    relay.is_well();
    relay.pass(HEAD_TIMEOUT + MOMENT);
    relay.until_empty();
}

/// Each honest request takes 5 s at most, TLS and all, in whatever build.
#[test]
fn pods_are_served_amid_a_flood() {
    let relay = Running::with_tls();
    let hello = client_hello(&relay);
    let is_over = AtomicBool::new(false);
    let flood = |nature: usize| {
        let mut open = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let Ok(mut stream) = TcpStream::connect(relay.address) else { continue };
            let _ = match nature {
                0 => Ok(()),
                1 => stream.write_all(&hello),
                2 => stream.write_all(&hello[..20]),
                _ => stream.write_all(&[0xff; 1000]),
            };
            match nature {
                3 => reset(stream),
                _ => open.push(stream),
            }
            if open.len() > 400 {
                open.drain(..200);
            }
        }
    };
    let slowest = thread::scope(|scope| {
        for nature in 0..4 {
            scope.spawn(move || flood(nature));
        }
        let pods: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let asked = (0..5).map(|_| {
                        let began_at = Instant::now();
                        relay.is_well();
                        began_at.elapsed()
                    });
                    asked.max().unwrap()
                })
            })
            .collect();
        let slowest = pods.into_iter().map(|pod| pod.join()).collect::<Vec<_>>();
        is_over.store(true, Ordering::Relaxed);
        slowest.into_iter().map(Result::unwrap).max().unwrap()
    });
    eprintln!("the slowest answer amid the flood took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
