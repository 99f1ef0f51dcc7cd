//! The collector's output, cut into pieces anywhere: the same lines come of it, and no line of the log can be forged.
#![no_main]

use std::time::{Duration, SystemTime};

use kmagent::collector::log_lines::Records;
use kmagent::collector::output::{LINE_LIMIT, Output};
use kmagent::log::LogFormat;
use kmagent::log::line::Style;
use kmagent::log::redact::Secrets;
use libfuzzer_sys::fuzz_target;
use log::Level;

const SECRET: &str = "a-secret-word";

fn lines<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut output, mut lines) = (Output::default(), Vec::new());
    let mut take = |line: &[u8]| lines.push(line.to_vec());
    pieces.for_each(|piece| output.feed(piece, &mut take));
    output.end(&mut take);
    assert!(output.tail().len() <= 3 * 2048, "a tail of {} bytes", output.tail().len());
    lines
}

/// `<N>` at its beginning (sd-daemon(3)), of three digits at most.
fn is_severity(text: &str) -> bool {
    let digits = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).map(|(digits, _)| digits);
    digits.is_some_and(|digits| (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fuzz_target!(|bytes: &[u8]| {
    let width = bytes.first().map_or(1, |&byte| usize::from(byte).max(1));
    let whole = lines(std::iter::once(bytes));
    assert_eq!(whole, lines(bytes.chunks(width)), "in pieces of {width} bytes");

    let (mut records, mut folded) = (Records::default(), Vec::new());
    let mut take = |_: Level, record: &[u8]| folded.push(record.to_vec());
    whole.iter().for_each(|line| records.add(line, Duration::ZERO, &mut take));
    records.end(&mut take);
    assert!(folded.iter().all(|record| record.len() <= LINE_LIMIT));
    assert_eq!(folded.join(&b'\n'), whole.join(&b'\n'), "folded");

    let secrets = Secrets::new([SECRET.to_string()]);
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_981_721);
    for line in whole {
        assert!(line.len() <= LINE_LIMIT);
        for format in [LogFormat::Json, LogFormat::Text] {
            let style = Style { format, is_journal: false, at, secrets: &[&secrets] };
            let shown = style.collector(Level::Info, &line);
            let text = shown.strip_suffix('\n').expect("a line");
            assert!(!text.chars().any(|c| c.is_control() && c != '\t'), "a control character: {text:?}");
            assert!(!text.contains(SECRET), "a secret: {text:?}");
            match format {
                LogFormat::Json => _ = serde_json::from_str::<serde_json::Value>(text).expect("JSON"),
                LogFormat::Text => assert!(!is_severity(text), "the journal takes it for one: {text:?}"),
            }
        }
    }
});
