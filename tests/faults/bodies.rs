//! Bodies that are too much, too little or framed wrongly, and configs that would be too much once they are read.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::hostile::{Hostile, Script, Step, answer, ok, response};
use super::{Case, MAX_CONFIG_SIZE, MEMORY, Table, Trial, body, case, forget_peak, peak, settled};
use crate::support::agent::{Agent, Builder};
use crate::support::{bin, machine};

const TOO_LONG: &str = "the answer is longer than 4194304 bytes; raise max-config-size";
const CUT_OFF: &str = "the connection was closed before the answer was complete";
const TOO_SLOW: &str = "no complete answer within 1s";
const NOT_HTTP: &str = "the answer is not HTTP";
const NO_SIZE: &str = "the answer ended within a chunk size";
const TOO_MANY: &str = "it has more than 262144 values";
const ENCODED: &str = "which was not requested";

fn head(headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes()
}

/// A head with these headers, then `piece` for ever.
fn endless(headers: &str, piece: &[u8]) -> Script {
    vec![Step::Take, Step::Send(head(headers)), Step::Repeat(piece.to_vec())]
}

/// The beginning of a chunked body, then `piece` for ever.
fn endless_chunks(beginning: &str, piece: &[u8]) -> Script {
    let start = [head("Transfer-Encoding: chunked\r\n"), beginning.as_bytes().to_vec()].concat();
    vec![Step::Take, Step::Send(start), Step::Repeat(piece.to_vec())]
}

fn chunked(body: &str) -> Script {
    answer([head("Transfer-Encoding: chunked\r\n"), body.as_bytes().to_vec()].concat())
}

fn with_length(length: &str, body: &str) -> Script {
    answer([head(&format!("Content-Length: {length}\r\n")), body.as_bytes().to_vec()].concat())
}

#[test]
fn too_long() {
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let padded = |length: u64| format!("{{{}}}", " ".repeat(length as usize - 2));
    let mut cases: Vec<Case> = Vec::new();
    for (name, script) in [
        ("1 GB, announced and sent", endless("Content-Length: 1073741824\r\n", b"x")),
        ("1 GB, announced and not sent", answer(head("Content-Length: 1073741824\r\n"))),
        ("without a length and without end", endless("", b"x")),
        ("white space without end", endless("", b" \n")),
        ("an object without end", endless("", b"{\"a\":")),
        ("chunks without end", endless_chunks("", chunk.as_bytes())),
        ("one byte more than allowed", answer(ok(padded(MAX_CONFIG_SIZE + 1)))),
        ("a length of 2^63", with_length("9223372036854775808", "{}")),
        ("a length of 2^64 - 1", with_length("18446744073709551615", "{}")),
    ] {
        cases.push(case(name, script, 76, TOO_LONG));
    }
    cases.push(case("as much as is allowed", answer(ok(padded(MAX_CONFIG_SIZE))), 0, ""));
    let mut trial = Trial::new("bodies that are too long", Hostile::start(None));
    for case in &cases {
        trial.attack(case);
        // It stops reading: what is taken beyond the limit is what lies in the two kernels' socket buffers.
        let sent = trial.server.sent();
        assert!(sent < MAX_CONFIG_SIZE + (16 << 20), "{}: {sent} bytes were taken", case.name);
    }
    trial.run(Vec::new());
}

#[test]
fn wrongly_framed() {
    // A size is a number of the machine's own width.
    let is_narrow = matches!(machine::name(), "i686" | "armv7");
    let (exit, says) = if is_narrow { (76, NOT_HTTP) } else { (75, CUT_OFF) };
    let cases = [
        ("a body shorter than its length", with_length("20", "{}"), 75, CUT_OFF),
        ("a body longer than its length", with_length("9", r#"{"restart_required":true}"#), 76, "EOF while parsing"),
        ("a length of 0", with_length("0", "{}"), 76, "it is empty"),
        ("a length of 2^64", with_length("18446744073709551616", "{}"), 76, NOT_HTTP),
        ("a negative length", with_length("-2", "{}"), 76, NOT_HTTP),
        ("a length in words", with_length("two", "{}"), 76, NOT_HTTP),
        ("no length behind its name", with_length("", "{}"), 76, NOT_HTTP),
        ("two lengths", with_length("2\r\nContent-Length: 20", "{}"), 76, NOT_HTTP),
        ("the last chunk is missing", chunked("2\r\n{}\r\n"), 75, CUT_OFF),
        ("a chunk shorter than its size", chunked("20\r\n{}"), 75, CUT_OFF),
        ("a chunk without its end", chunked("2\r\n{}0\r\n\r\n"), 76, NOT_HTTP),
        ("a chunk size in words", chunked("two\r\n{}\r\n0\r\n\r\n"), 76, NOT_HTTP),
        ("a negative chunk size", chunked("-2\r\n{}\r\n0\r\n\r\n"), 76, NOT_HTTP),
        ("a chunk of 2^32 - 1", chunked("ffffffff\r\n{}"), 75, CUT_OFF),
        ("a chunk of 2^64 - 1", chunked("ffffffffffffffff\r\n{}"), exit, says),
        ("a chunk of 2^64", chunked("10000000000000000\r\n{}"), 76, NOT_HTTP),
        ("a chunk size without end", endless_chunks("", b"1"), 75, NO_SIZE),
        ("a chunk extension without end", endless_chunks("2;x=", b"x"), 75, NO_SIZE),
        ("trailers without end", endless_chunks("0\r\n", b"a: b\r\n"), 75, TOO_SLOW),
        ("chunked, and empty", chunked("0\r\n\r\n"), 76, "it is empty"),
    ];
    let cases = cases.map(|(name, script, exit, says)| case(name, script, exit, says));
    Trial::new("bodies that are framed wrongly", Hostile::start(None)).run(cases.into());
}

/// In gzip's format (RFC 1951, 1952): a zero byte, then as many copies of it as fit `length`, 258 in every 13 bits.
fn gzip_bomb(length: usize) -> Vec<u8> {
    let (mut bytes, mut bit) = (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff], 0);
    let mut put = |bits: &str| {
        for one in bits.bytes() {
            if bit % 8 == 0 {
                bytes.push(0);
            }
            *bytes.last_mut().unwrap() |= (one - b'0') << (bit % 8);
            bit += 1;
        }
    };
    // Last block, fixed codes (least significant bit first), the literal 0.
    put("1");
    put("10");
    put("00110000");
    for _ in 0..length / 258 {
        // Length 258, distance 1.
        put("11000101");
        put("00000");
    }
    put("0000000");
    bytes
}

#[test]
fn compressed() {
    let bomb = gzip_bomb(100 << 20);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let encoded = |encoding| answer(response(200, &[("Content-Encoding", encoding)], &bomb));
    let cases = vec![
        case("a gzip bomb of 100 MB", encoded("gzip"), 76, "the answer is encoded as gzip, which was not requested"),
        case("under another name", encoded("x-gzip"), 76, ENCODED),
        case("as deflate", encoded("deflate"), 76, ENCODED),
        case("as br", encoded("br"), 76, ENCODED),
        case("twice", encoded("gzip, gzip"), 76, ENCODED),
        case("under a nasty name", encoded("\u{202e}x"), 76, "encoded as \\u{202e}x"),
        body("without saying so", &bomb, 76, "expected a JSON object"),
        case("a good answer that says so", answer(response(200, &[("Content-Encoding", "gzip")], "{}")), 76, ENCODED),
        case("identity", answer(response(200, &[("Content-Encoding", "identity")], "{}")), 0, ""),
        case(
            "as a transfer encoding",
            answer([head("Transfer-Encoding: gzip, chunked\r\n"), b"3\r\n\x1f\x8b\x08\r\n0\r\n\r\n".to_vec()].concat()),
            76,
            "expected a JSON object",
        ),
    ];
    Trial::new("compressed bodies", Hostile::start(None)).run(cases);
}

/// An answer as long as may be with this config, whose list is filled with `item`.
fn filled(before: &str, item: &str, after: &str) -> String {
    let (before, after) = (format!("{{\"restart_required\":true,\"config\":{{{before}"), format!("0{after}}}}}"));
    let count = (MAX_CONFIG_SIZE as usize - before.len() - after.len()) / item.len();
    before + &item.repeat(count) + &after
}

#[test]
fn configs_that_would_be_too_much() {
    let numbered = |one: fn(usize) -> String, count: usize| (0..count).map(one).collect::<String>();
    let keys = numbered(|number| format!("\"{number:x}\":1,"), 380_000);
    let mut cases: Vec<Case> = Vec::new();
    for (name, text) in [
        ("two million numbers", filled("\"a\":[", "1,", "]")),
        ("a million strings", filled("\"a\":[", "\"\",", "]")),
        ("a million empty lists", filled("\"a\":[", "[],", "]")),
        ("a million empty objects", filled("\"a\":[", "{},", "]")),
        ("half a million objects", filled("\"a\":[", "{\"\":1},", "]")),
        ("numbers that grow when written", filled("\"a\":[", "1e15,", "]")),
        ("two million numbers, 120 deep", filled(&format!("\"a\":{}", "[".repeat(120)), "1,", &"]".repeat(120))),
        ("a third of a million keys", format!("{{\"config\":{{{keys}\"\":1}}}}")),
    ] {
        // The body, and the tree that has been made of it when the limit is met.
        cases.push(Case { memory: 40 * 1024, ..body(name, text, 76, TOO_MANY) });
    }
    // A text of 32 MB, which is written in memory but not proved, nor to the disk.
    let deep = format!("\"a\":{}{}0{}", "[".repeat(120), "1,".repeat(130_000), "]".repeat(120));
    let deep = format!("{{\"restart_required\":true,\"config\":{{{deep}}}}}");
    cases.push(Case {
        memory: 96 * 1024,
        ..body("short, but 120 deep", deep, 65, "the text is longer than 8388608 bytes")
    });
    // Not part of the config, so not kept.
    let ignored = format!("{{\"more\":[{}1]}}", "1,".repeat(2_000_000));
    cases.push(body("two million numbers that nobody asked for", ignored, 0, ""));
    let ignored = format!("{{\"more\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    cases.push(body("a million levels that nobody asked for", ignored, 0, ""));
    Trial::new("configs that would be too much", Hostile::start(None)).run(cases);
}

/// A collector that takes any config at once: the stand-in would itself take long for these.
fn undemanding(builder: Builder) -> Builder {
    let path: PathBuf = builder.dir().join("collector");
    let script = "#!/bin/sh\ncase $1 in validate | --version) exit 0 ;; esac\necho 'Everything is ready.'\n\
                  trap 'exit 0' TERM\nwhile :; do sleep 1; done\n";
    bin::write_program(&path, script);
    builder.collector(path)
}

/// The negative control of the limits, and the most that a config costs: as long and as dense as may be.
#[test]
fn the_largest_configs_that_are_taken() {
    // An object and a number in each, and the list itself.
    let most = (MAX_CONFIG_SIZE / 16 / 2 - 2) as usize;
    let objects: String = (0..most).map(|number| format!("{{\"k{number}\":{number}}},")).collect();
    let dense = format!("\"a\":[{}{{}}]", objects);
    let strings: String = (0..90_000).map(|number| format!("\"a string of the usual length {number}\",")).collect();
    let usual = format!("\"a\":[{strings}0]");
    let one = format!("\"a\":\"{}\"", "x".repeat(MAX_CONFIG_SIZE as usize - 100));
    let mut table = Table::new("the largest configs that are taken");
    for (name, config, factor) in
        [("as dense as may be", dense, 40), ("90,000 strings", usual, 20), ("one string", one, 8)]
    {
        let server = Hostile::start(None);
        let agent = undemanding(Agent::builder()).setting("update-endpoint", server.url()).config("fake: {}");
        let agent = agent.setting("config-check-interval", "168h").setting("min-uptime", "100ms");
        let agent = settled(agent);
        let at_rest = forget_peak(&agent);
        let answer_text = format!("{{\"restart_required\":true,\"config\":{{{config}}}}}");
        assert!(answer_text.len() as u64 <= MAX_CONFIG_SIZE);
        server.play(answer(ok(&answer_text)));
        let began_at = Instant::now();
        assert!(agent.run(["--check"]).says().contains("installed config"), "{name}");
        let took = began_at.elapsed();
        // Once more, with the active config to compare with.
        agent.run(["--check"]).says();
        let (at_rest, peak) = (at_rest.unwrap_or_default(), peak(&agent).unwrap_or_default());
        let times = peak as f64 * 1024.0 / MAX_CONFIG_SIZE as f64;
        let yaml = fs::metadata(agent.config_file()).unwrap().len();
        table.row(&format!(
            "{name}: {} bytes, as YAML {yaml}; {:.1} s; at most {peak} KiB, {times:.1} times max-config-size, from {at_rest} KiB",
            answer_text.len(),
            took.as_secs_f64()
        ));
        assert!(peak * 1024 <= factor * MAX_CONFIG_SIZE + MEMORY * 1024, "{name}: {peak} KiB");
        assert_eq!(agent.stop(), 0);
    }
}
