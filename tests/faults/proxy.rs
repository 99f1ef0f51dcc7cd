//! A proxy that is broken or hostile: what it says before it lets the agent through.

use std::time::Duration;

use super::hostile::{Hostile, Script, Step, answer, ok};
use super::{KEY, Trial, case};

const TOO_SLOW: &str = "no complete answer within 1s";

#[test]
fn proxies() {
    let server = Hostile::start(None);
    let url = server.url();
    let through = format!("(through the proxy {url})");
    let through: &'static str = through.leak();
    let says = |text: &str| -> Script { answer(text) };
    let tunnel = says("HTTP/1.1 200 OK\r\n\r\n");
    let tunnelled = |script: Script| [tunnel.clone(), script].concat();
    let endless = |start: &str, piece: &str| -> Script {
        vec![Step::Take, Step::Send(start.as_bytes().to_vec()), Step::Repeat(piece.as_bytes().to_vec())]
    };
    let cases = vec![
        case("silence", vec![Step::Take, Step::Silence], 75, TOO_SLOW),
        case("a close", vec![Step::Take], 75, through),
        case("a reset", vec![Step::Take, Step::Reset], 75, through),
        case(
            "407",
            says("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            75,
            "the proxy requires a user name and password (HTTP status 407); write them, percent-encoded, into http_proxy",
        ),
        case(
            "403 with a page",
            says(&format!("HTTP/1.1 403 No\r\n\r\n{KEY} \u{1b}[2J")),
            75,
            "the proxy forbids the connection (HTTP status 403)",
        ),
        case("500", says("HTTP/1.1 500 Oh\r\n\r\n"), 75, through),
        case("no HTTP", says("SSH-2.0-OpenSSH_9.9\r\n\r\n"), 76, through),
        case("an escape", says("HTTP/1.1 200 \u{1b}[31m\r\n\r\n"), 76, through),
        case("a head without end", endless("HTTP/1.1 200 OK\r\na: ", "x"), 75, through),
        case("headers without end", endless("HTTP/1.1 200 OK\r\n", "a: b\r\n"), 76, through),
        case(
            "100 without end",
            endless("", "HTTP/1.1 100 Continue\r\n\r\n"),
            75,
            "the proxy makes no connection (HTTP status 100)",
        ),
        case(
            "byte by byte",
            vec![Step::Take, Step::Drip(b"HTTP/1.1 200 and so on and so on".to_vec(), Duration::from_millis(100))],
            75,
            through,
        ),
        case("a tunnel to nothing", tunnelled(vec![Step::Take]), 75, through),
        case("a tunnel to silence", tunnelled(vec![Step::Take, Step::Silence]), 75, TOO_SLOW),
        case("a tunnel to nonsense", tunnelled(answer("nonsense\r\n\r\n")), 76, "the answer is not HTTP"),
        case("an answer instead of a tunnel", answer(ok("{}")), 76, "the answer is not HTTP"),
        case("a tunnel, the negative control", tunnelled(answer(ok("{}"))), 0, ""),
    ];
    let adapt = |builder: crate::support::agent::Builder| {
        let builder = builder.setting("update-endpoint", "http://api.example:81/x").setting("allow-http", true);
        builder.env("http_proxy", url.clone())
    };
    Trial::behind(tunnel.clone(), "proxies", server, adapt).run(cases);
}
