//! `Retry-After`: both forms are kept to, and nothing in it keeps the agent away for long.

use super::hostile::{Hostile, answer, response};
use super::{KEY, Most, Table};
use crate::support::agent::Agent;

/// The usual delay after a first failure, here.
const INTERVAL: u64 = 10;

#[test]
fn both_forms_and_absurd_ones() {
    let mut table = Table::new("Retry-After");
    let server = Hostile::start(None);
    let agent = Agent::builder().setting("update-endpoint", server.url()).setting("api-key", KEY).config("fake: {}");
    let agent = agent.setting("config-check-interval", format!("{INTERVAL}s")).spawn();
    agent.wait_start(1);
    // The pause after the first check ends anywhere in the interval.
    assert_eq!(agent.run(["--check"]).code, Some(0));
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let huge = "9".repeat(5000);
    let cases: [(&[(&str, &str)], u64); 25] = [
        (&[("Retry-After", "120")], 120),
        (&[("Retry-After", " 120 ")], 120),
        (&[("Retry-After", "3600")], 3600),
        (&[("Retry-After", "86400")], 3600),
        (&[("Date", date), ("Retry-After", "Sun, 06 Nov 1994 08:51:37 GMT")], 120),
        // The server's clock is its own affair: it is years behind ours.
        (&[("Date", date), ("Retry-After", "Sun, 06 Nov 1994 09:49:38 GMT")], 3600),
        (&[("Retry-After", "1")], INTERVAL),
        (&[("Retry-After", "0")], INTERVAL),
        (&[("Retry-After", "-1")], INTERVAL),
        (&[("Retry-After", "+120")], INTERVAL),
        (&[("Retry-After", "120.5")], INTERVAL),
        (&[("Retry-After", "1e3")], INTERVAL),
        (&[("Retry-After", "0x78")], INTERVAL),
        (&[("Retry-After", "86401")], INTERVAL),
        (&[("Retry-After", "18446744073709551616")], INTERVAL),
        (&[("Retry-After", &huge)], INTERVAL),
        (&[("Retry-After", "")], INTERVAL),
        (&[("Retry-After", "soon")], INTERVAL),
        (&[("Retry-After", "120 seconds")], INTERVAL),
        (&[("Retry-After", date)], INTERVAL),
        (&[("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT")], INTERVAL),
        (&[("Retry-After", "Sun, 99 Xyz 1994 99:99:99 GMT")], INTERVAL),
        (&[("Date", "nonsense"), ("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT")], INTERVAL),
        (&[("Retry-After", "\u{661}\u{662}\u{660}")], INTERVAL),
        // The first of two holds.
        (&[("Retry-After", "120"), ("Retry-After", "3600")], 120),
    ];
    let (count, mut most) = (cases.len(), Most::default());
    for (number, (headers, expected)) in cases.into_iter().enumerate() {
        let status = if number % 2 == 0 { 429 } else { 503 };
        let page = format!("case {number}.");
        server.play(answer(response(status, headers, &page)));
        assert_eq!(most.check(&agent).0.code, Some(75), "{headers:?}");
        let line = agent.wait_log("the failure", |line| line.field("answer").contains(&page));
        let next = line.json["next_check_seconds"].as_u64().unwrap();
        // Jitter is 10 % of the usual delay, and an interval beyond what the server asks for; seconds are cut off.
        let expected = match expected {
            INTERVAL => INTERVAL * 9 / 10 - 1..=INTERVAL * 11 / 10,
            asked_for => asked_for - 1..=asked_for + INTERVAL,
        };
        assert!(expected.contains(&next), "{headers:?}: {next} s instead of {expected:?}");
        // One good answer, and the next failure is a first one again.
        server.play(answer(super::ok("{}")));
        assert_eq!(agent.run(["--check"]).code, Some(0), "{headers:?}");
    }
    table.row(&format!(
        "{count} cases, resident: each kept to, capped at an hour, or ignored; most memory {} KiB",
        most.0
    ));
}
