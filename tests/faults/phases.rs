//! An answer that stops coming, comes too slowly, or ends in the middle: at each phase of a call.

use std::time::Duration;

use super::hostile::{Hostile, Script, Step, ok};
use super::{Case, Trial, case};

const TOO_SLOW: &str = "no complete answer within 1s; if the API is only slow, raise poll-timeout";
const CUT_OFF: &str = "the connection was closed before the answer was complete";

/// What has been sent when the answer stops, by the name of the phase.
fn phases() -> Vec<(&'static str, Script)> {
    let sent = |text: &str| vec![Step::Take, Step::Send(text.as_bytes().to_vec())];
    vec![
        ("when it is accepted", vec![]),
        ("within the request's head", vec![Step::TakeSome(10)]),
        ("after the request", vec![Step::Take]),
        ("within the status line", sent("HTTP/1.1 2")),
        ("within a header", sent("HTTP/1.1 200 OK\r\nContent-Le")),
        ("before the end of the head", sent("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n")),
        ("after the head", sent("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")),
        ("within the body", sent("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"restart_")),
        ("within a chunk size", sent("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1")),
        ("within a chunk", sent("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1e\r\n{\"rest")),
        ("before the last chunk", sent("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")),
        ("after 1 MB", sent(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n{}", " ".repeat(1_000_000)))),
    ]
}

fn ending(step: Step) -> impl Iterator<Item = (&'static str, Script)> {
    phases().into_iter().map(move |(name, script)| (name, script.into_iter().chain([step.clone()]).collect()))
}

#[test]
fn silence() {
    let cases = ending(Step::Silence).map(|(name, script)| case(name, script, 75, TOO_SLOW)).collect();
    Trial::new("silence, by phase", Hostile::start(None)).run(cases);
}

#[test]
fn resets() {
    let cases = ending(Step::Reset).map(|(name, script)| case(name, script, 75, "config check: http://127.0.0.1:"));
    Trial::new("resets, by phase", Hostile::start(None)).run(cases.collect());
}

#[test]
fn closes() {
    let within_size = |name: &str| name == "within a chunk size";
    let says = |name| if within_size(name) { "the answer ended within a chunk size" } else { CUT_OFF };
    let mut cases: Vec<Case> = phases().into_iter().map(|(name, script)| case(name, script, 75, says(name))).collect();
    // Without a length nothing tells that more was to come, but the object is not whole.
    let script = vec![Step::Take, Step::Send(b"HTTP/1.1 200 OK\r\n\r\n{\"restart_".to_vec())];
    cases.push(case("within a body without a length", script.clone(), 76, "EOF while parsing"));
    let reset = script.into_iter().chain([Step::Reset]).collect();
    // Whatever the kernel had delivered by then.
    cases.push(case("the same, reset", reset, 76, "the answer cannot be read"));
    Trial::new("closes, by phase", Hostile::start(None)).run(cases);
}

#[test]
fn slowness() {
    let pause = Duration::from_millis(100);
    let whole = ok("{\"restart_required\": false, \"config\": null}");
    let end_of_head = whole.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let (head, body) = whole.split_at(end_of_head);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let cases = vec![
        case("a head, byte by byte", vec![Step::Take, Step::Drip(whole.clone(), pause)], 75, TOO_SLOW),
        case(
            "a body, byte by byte",
            vec![Step::Take, Step::Send(head.to_vec()), Step::Drip(body.to_vec(), pause)],
            75,
            TOO_SLOW,
        ),
        case(
            "chunks, byte by byte",
            vec![Step::Take, Step::Send(chunked), Step::Drip(b"1\r\n \r\n".repeat(50), pause)],
            75,
            TOO_SLOW,
        ),
        case("a byte a second", vec![Step::Take, Step::Drip(whole.clone(), Duration::from_secs(1))], 75, TOO_SLOW),
        case(
            "an error page, byte by byte",
            vec![
                Step::Take,
                Step::Send(b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\n".to_vec()),
                Step::Drip(vec![b'x'; 100], pause),
            ],
            75,
            "HTTP status 500; the server says: xxx",
        ),
        // The negative control: slow, but in time.
        case("a little late", vec![Step::Take, Step::Drip(ok("{}"), Duration::from_millis(2))], 0, ""),
    ];
    Trial::new("slowness", Hostile::start(None)).run(cases);
}
