//! When the agents of a fleet ask, by the program's own `core/cadence`: what `tests/bench/fleet` makes tables of.
//!
//! `fleet INTERVAL END SEED [FROM-TO:down|FROM-TO:RETRY_AFTER]...`, all in seconds. On stdin it reads when each agent
//! asks for the first time; on stdout it writes when any agent asks, before END. `down` is an API that does not answer,
//! the other one that answers 503 with such a `Retry-After`, or without for 0.

use std::io::{self, BufRead, BufWriter, Write};
use std::time::Duration;

use kmagent::core::cadence::Cadence;

struct Fault {
    from: f64,
    to: f64,
    retry_after: Option<Duration>,
}

impl Fault {
    fn parse(text: &str) -> Option<Fault> {
        let (span, answer) = text.split_once(':')?;
        let (from, to) = span.split_once('-')?;
        let seconds = if answer == "down" { 0 } else { answer.parse().ok()? };
        let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds));
        Some(Fault { from: from.parse().ok()?, to: to.parse().ok()?, retry_after })
    }
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number =
        || args.next().and_then(|word| word.parse::<f64>().ok()).expect("usage: INTERVAL END SEED FAULT...");
    let (interval, end, seed) = (Duration::from_secs_f64(number()), number(), number() as u64);
    let faults: Vec<Fault> = args.map(|word| Fault::parse(&word).expect("a fault is FROM-TO:down|SECONDS")).collect();
    let mut out = BufWriter::new(io::stdout().lock());
    for (index, line) in io::stdin().lock().lines().enumerate() {
        let first: f64 = line?.trim().parse().expect("a time in seconds");
        // As `cmd::start` makes one, for hosts of one image that boot within a second.
        let seed = (1_795_356_277_000_000_000 + (seed * 1_000_003 + index as u64) * 100_000) ^ (312 << 32);
        let mut cadence = Cadence::new(Some(interval), seed);
        let mut now = Duration::ZERO;
        while first + now.as_secs_f64() < end {
            let at = first + now.as_secs_f64();
            writeln!(out, "{at:.3}")?;
            cadence.began();
            match faults.iter().find(|fault| (fault.from..fault.to).contains(&at)) {
                None => cadence.succeeded(now, now),
                Some(fault) => cadence.failed(now, fault.retry_after),
            }
            now = cadence.next().expect("there is an interval");
        }
    }
    out.flush()
}
