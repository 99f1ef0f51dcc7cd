//! Every kind of status, and heads that are no HTTP, too long or full of traps.

use super::hostile::{Hostile, Script, Step, answer, ok, response};
use super::{Case, KEY, Trial, case};

const NOT_HTTP: &str = "the answer is not HTTP";
const HEADER: &str = "the answer's header is too long";

fn raw(head: &str) -> Script {
    answer(format!("{head}\r\n\r\n{{}}"))
}

#[test]
fn statuses() {
    let mut cases: Vec<Case> = Vec::new();
    for (statuses, exit, says) in [
        (&[201, 202, 203, 204, 205, 206, 207, 208, 226][..], 76, "HTTP status 20"),
        (&[300, 304, 305, 306, 399], 76, "HTTP status 3"),
        (
            &[400, 402, 406, 407, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 426, 428, 431, 451, 499],
            76,
            "4",
        ),
        (&[401, 403], 77, "check api-key"),
        (&[404, 405], 76, "check update-endpoint"),
        (&[408, 425, 429], 75, "HTTP status 4"),
        (&[500, 501, 502, 503, 504, 505, 507, 511, 520, 599], 75, "HTTP status 5"),
        (&[600, 999], 76, "HTTP status"),
    ] {
        for status in statuses {
            let says = if *status == 226 { "HTTP status 226" } else { says };
            cases.push(case(format!("{status}"), answer(response(*status, &[], r#"{"config":{"a":1}}"#)), exit, says));
        }
    }
    Trial::new("statuses", Hostile::start(None)).run(cases);
}

#[test]
fn informational_answers() {
    let then = |first: &str| answer([first.as_bytes(), &ok("{}")].concat());
    let without_end = |piece: &str| vec![Step::Take, Step::Repeat(piece.as_bytes().to_vec())];
    let cases = vec![
        case("100 first", then("HTTP/1.1 100 Continue\r\n\r\n"), 0, ""),
        case("102 first", then("HTTP/1.1 102 Processing\r\n\r\n"), 0, ""),
        case("103 first", then("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), 0, ""),
        case("199 first", then("HTTP/1.1 199 Nobody knows\r\n\r\n"), 0, ""),
        case("a hundred first", then(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(100)), 0, ""),
        case(
            "101",
            raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade"),
            76,
            "status 101",
        ),
        case("100 with headers", then("HTTP/1.1 100 Continue\r\na: b\r\n\r\n"), 76, NOT_HTTP),
        case("100 without end", without_end("HTTP/1.1 100 Continue\r\n\r\n"), 76, HEADER),
        case("103 without end", without_end("HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n"), 76, HEADER),
        case("only 100", answer("HTTP/1.1 100 Continue\r\n\r\n"), 75, "closed before the answer was complete"),
    ];
    Trial::new("informational answers", Hostile::start(None)).run(cases);
}

#[test]
fn redirects() {
    let to = |location: &str| format!("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n");
    let itself = "a redirect to http://127.0.0.1/agents/config-check, which is not followed";
    let mut cases = Vec::new();
    for (name, location, says) in [
        ("to another host", "https://elsewhere.example/x", "a redirect to https://elsewhere.example/x, which is not"),
        ("to itself", "http://127.0.0.1/agents/config-check", itself),
        ("with a password", "https://u:SECRET@a.example/x?SECRET=1", "a redirect to https://a.example/x, which is not"),
        ("with the key", &format!("/{KEY}/x"), "a redirect to /****/x"),
        ("to a script", "javascript:alert(1)", "a redirect to"),
        ("to a file", "file:///etc/passwd", "a redirect to file:///etc/passwd"),
        ("to nowhere", "", "HTTP status 302"),
        ("backwards", "/\u{202e}gpj.exe", "a redirect to /\\u{202e}gpj.exe"),
        ("very far", &format!("/{}", "x".repeat(10_000)), "a redirect to /xxx"),
    ] {
        cases.push(case(name, answer(to(location)), 76, says));
    }
    for status in [301, 302, 303, 307, 308] {
        let located = response(status, &[("Location", "/elsewhere")], "");
        cases.push(case(format!("{status}"), answer(located), 76, "which is not followed"));
        cases.push(case(format!("{status} without a place"), answer(response(status, &[], "")), 76, "HTTP status 30"));
    }
    let trial = Trial::new("redirects", Hostile::start(None));
    trial.run(cases);
}

#[test]
fn heads() {
    let with = |header: &str| raw(&format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 2"));
    let without_end = |start: &str, piece: &str| {
        vec![Step::Take, Step::Send(start.as_bytes().to_vec()), Step::Repeat(piece.as_bytes().to_vec())]
    };
    let many = |count: usize| (0..count).map(|number| format!("a{number}: b\r\n")).collect::<String>() + "z: z";
    let start = "HTTP/1.1 200 OK\r\n";
    let cases = [
        ("a header of 1 MB", with(&format!("a: {}", "x".repeat(1 << 20))), 76, HEADER),
        ("a header name of 1 MB", with(&format!("{}: a", "x".repeat(1 << 20))), 76, HEADER),
        ("1 MB of headers", with(&many(100_000)), 76, NOT_HTTP),
        ("130 headers", with(&many(130)), 76, NOT_HTTP),
        ("100 headers", with(&many(100)), 0, ""),
        ("a header without end", without_end(start, "a"), 76, HEADER),
        ("a header value without end", without_end("HTTP/1.1 200 OK\r\na: ", "x"), 76, HEADER),
        ("headers without end", without_end(start, "a: b\r\n"), 76, NOT_HTTP),
        ("a reason without end", without_end("HTTP/1.1 200 ", "x"), 76, HEADER),
        ("line ends without end", without_end("", "\r\n"), 76, HEADER),
        ("zeroes without end", without_end("", "\0"), 76, NOT_HTTP),
        ("a header without a colon", with("nonsense"), 76, NOT_HTTP),
        ("a header without a name", with(": a"), 76, NOT_HTTP),
        ("a zero byte in a header", with("a: \0"), 76, NOT_HTTP),
        ("DEL in a header", with("a: \u{7f}"), 76, NOT_HTTP),
        ("an escape in a header", with("a: \u{1b}[31m"), 76, NOT_HTTP),
        ("an escape in a name", with("a\u{1b}[31m: a"), 76, NOT_HTTP),
        ("a blank before the colon", with("a : a"), 76, NOT_HTTP),
        ("a folded header", with("a: b\r\n c"), 76, NOT_HTTP),
        ("Latin-1 in a header", with("a: é"), 0, ""),
        ("a bare line feed", answer("HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"), 0, ""),
        ("HTTP/1.0", answer("HTTP/1.0 200 OK\r\n\r\n{}"), 0, ""),
        ("HTTP/1.2", raw("HTTP/1.2 200 OK"), 76, NOT_HTTP),
        ("HTTP/2", raw("HTTP/2 200 OK"), 76, NOT_HTTP),
        ("HTTP/9.9", raw("HTTP/9.9 200 OK"), 76, NOT_HTTP),
        ("HTTP/0.9", answer("{}\r\n\r\n"), 76, NOT_HTTP),
        ("http in small letters", raw("http/1.1 200 OK"), 76, NOT_HTTP),
        ("a status in words", raw("HTTP/1.1 fine OK"), 76, NOT_HTTP),
        ("status 000", raw("HTTP/1.1 000 OK"), 76, NOT_HTTP),
        ("status 099", raw("HTTP/1.1 099 OK"), 76, NOT_HTTP),
        ("status 1000", raw("HTTP/1.1 1000 OK"), 76, NOT_HTTP),
        ("status -200", raw("HTTP/1.1 -200 OK"), 76, NOT_HTTP),
        ("no reason", raw("HTTP/1.1 200\r\nContent-Length: 2"), 0, ""),
        ("an escape in the reason", raw("HTTP/1.1 500 \u{1b}[31m"), 76, NOT_HTTP),
        ("SSH", answer("SSH-2.0-OpenSSH_9.9\r\n"), 76, NOT_HTTP),
        ("SMTP", answer("220 mail.example ESMTP\r\n"), 76, NOT_HTTP),
        ("frames of HTTP/2", answer(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80".to_vec()), 76, NOT_HTTP),
        ("an alert of TLS", answer(b"\x15\x03\x01\0\x02\x02\x46".to_vec()), 76, NOT_HTTP),
        ("a request", answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 76, NOT_HTTP),
        ("random bytes", answer((0..5000u32).map(|n| (n * n * 7 + 13) as u8).collect::<Vec<_>>()), 76, NOT_HTTP),
    ];
    let cases = cases.map(|(name, script, exit, says)| case(name, script, exit, says));
    Trial::new("heads", Hostile::start(None)).run(cases.into());
}

/// Bodies of answers that are refused anyway: shown in part, on one line, without the key.
#[test]
fn error_pages() {
    let page = |body: Vec<u8>| answer(response(500, &[], body));
    let without_end = |headers: &str, piece: &str| {
        let head = format!("HTTP/1.1 500 Oh\r\n{headers}\r\n");
        vec![Step::Take, Step::Send(head.into_bytes()), Step::Repeat(piece.as_bytes().to_vec())]
    };
    let cases = vec![
        case("empty", page(vec![]), 75, "HTTP status 500"),
        case("100 MB", without_end("Content-Length: 104857600\r\n", "x"), 75, "500; the server says: xxx"),
        case("without end", without_end("", "y"), 75, "500; the server says: yyy"),
        case(
            "chunks without end",
            without_end("Transfer-Encoding: chunked\r\n", "1\r\nz\r\n"),
            75,
            "500; the server says: zzz",
        ),
        case("the key", page(format!("who is {KEY}?").into_bytes()), 75, "500; the server says: who is ****?"),
        case("the key, a thousand times", page(KEY.repeat(1000).into_bytes()), 75, "500; the server says: ****"),
        case("the key where it is cut", page(("x".repeat(505) + KEY).into_bytes()), 75, "xxx****"),
        case(
            "line breaks",
            page(b"a\nkmagent: all is well\r\n2026-01-01T00:00:00.000Z INFO".to_vec()),
            75,
            "a\\nkmagent",
        ),
        case("a terminal's", page(b"\x1b[2J\x1b]52;c;SEC\x07\x9b\xc2\x9b31m\x7f".to_vec()), 75, "\\u{1b}[2J\\u{1b}]52"),
        case("backwards", page("\u{202e}\u{2066}\u{200f}x".as_bytes().to_vec()), 75, "\\u{202e}\\u{2066}\\u{200f}x"),
        case("not text", page(vec![0xff; 600]), 75, "500; the server says: \u{fffd}"),
        case(
            "cut off",
            answer("HTTP/1.1 500 Oh\r\nContent-Length: 99\r\n\r\nbroken o"),
            75,
            "500; the server says: broken o",
        ),
    ];
    Trial::new("error pages", Hostile::start(None)).run(cases);
}
