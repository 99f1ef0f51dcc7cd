//! The collector's lines on their way into the log: each record's level, its stack trace folded into it, and no more of
//! them than `collector-log-rate`.
//!
//! A record is one line of the collector's logger, in one of zap's encodings, or of what ends it: a panic, an error of
//! its command line. An error is held for a moment, since its stack trace follows; the lines that do not begin another
//! record are that. It reads no clock: the caller passes the time, and asks again at the deadlines. The last lines for
//! error messages are kept by `output`, whatever is suppressed here.

use std::time::Duration;

use log::Level;

use super::output::{LINE_LIMIT, Tail};

/// A record and its stack trace are one write(2) of the collector's: only a pipe's size and a busy host part them.
const FOLD_TIME: Duration = Duration::from_millis(100);
const MINUTE: Duration = Duration::from_secs(60);

/// How what ends a Go program begins, and what cobra says of an error.
const FATAL: [&[u8]; 3] = [b"panic: ", b"fatal error: ", b"Error: "];
/// The collector's main, behind a time stamp.
const RUN_FAILED: &[u8] = b" collector server run finished with error: ";

/// What is done with a record.
type Emit<'a> = dyn FnMut(Level, &[u8]) + 'a;

/// One collector's records, put together from its lines.
#[derive(Debug, Default)]
pub struct Records {
    /// An error, as far as it is there, its lines separated by newlines.
    error: Vec<u8>,
    /// Until when more of it may come; `None` if there is none.
    until: Option<Duration>,
}

impl Records {
    /// Takes a line, without its newline.
    pub fn add(&mut self, line: &[u8], now: Duration, emit: &mut Emit<'_>) {
        match (level(line), self.until) {
            (None, None) => emit(Level::Info, line),
            (None, Some(_)) if self.error.len() + 1 + line.len() <= LINE_LIMIT => {
                self.error.push(b'\n');
                self.error.extend_from_slice(line);
            }
            (Some(Level::Error), _) | (None, Some(_)) => {
                self.end(emit);
                self.error.extend_from_slice(line);
                self.until = Some(now + FOLD_TIME);
            }
            (Some(level), _) => {
                self.end(emit);
                emit(level, line);
            }
        }
    }

    /// When `end` is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.until
    }

    /// Nothing more of a record will come.
    pub fn end(&mut self, emit: &mut Emit<'_>) {
        if self.until.take().is_some() {
            emit(Level::Error, &self.error);
            self.error = Vec::new();
        }
    }
}

/// What the log takes of all collectors together.
#[derive(Debug)]
pub struct LogRate {
    /// Records a minute, errors apart; 0 is no limit.
    limit: u32,
    /// When the minute began.
    since: Duration,
    passed: u32,
    suppressed: u64,
    /// Of the suppressed ones.
    last: Tail,
}

impl LogRate {
    pub fn new(limit: u32) -> LogRate {
        LogRate { limit, since: Duration::ZERO, passed: 0, suppressed: 0, last: Tail::default() }
    }

    /// Logs a record, or counts it.
    pub fn pass(&mut self, level: Level, record: &[u8], now: Duration) {
        self.end_minute(now);
        if self.admits(level, record, now) {
            crate::log::collector_record(level, record);
        }
    }

    /// When a minute ends in which some were suppressed.
    pub fn deadline(&self) -> Option<Duration> {
        (self.suppressed > 0).then(|| self.since + MINUTE)
    }

    /// Says how many were suppressed, if the minute has ended.
    pub fn end_minute(&mut self, now: Duration) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            report(self.suppressed);
            self.forget();
        }
    }

    /// A collector has ended: why may stand in what it printed last.
    pub fn collector_ended(&mut self) {
        report(self.suppressed.saturating_sub(self.last.iter().count() as u64));
        for record in self.last.iter() {
            crate::log::collector_record(level(record).unwrap_or(Level::Info), record);
        }
        self.forget();
    }

    fn admits(&mut self, level: Level, record: &[u8], now: Duration) -> bool {
        if self.limit == 0 || level == Level::Error {
            return true;
        }
        if now >= self.since + MINUTE {
            (self.since, self.passed) = (now, 0);
        }
        if self.passed < self.limit {
            self.passed += 1;
            return true;
        }
        self.suppressed += 1;
        self.last.push(record);
        false
    }

    fn forget(&mut self) {
        (self.suppressed, self.last) = (0, Tail::default());
    }
}

fn report(count: u64) {
    if count > 0 {
        log::warn!(count = count; "suppressed collector lines: more than collector-log-rate in a minute");
    }
}

/// The level of the record that begins with `line`; `None` if none does.
fn level(line: &[u8]) -> Option<Level> {
    if let Some(word) = level_in_json(line).or_else(|| level_in_columns(line)) {
        return Some(match word.to_ascii_lowercase().as_slice() {
            b"error" | b"dpanic" | b"panic" | b"fatal" => Level::Error,
            b"warn" | b"warning" => Level::Warn,
            b"debug" => Level::Debug,
            _ => Level::Info,
        });
    }
    let has_failed = || line.windows(RUN_FAILED.len()).any(|part| part == RUN_FAILED);
    match line {
        _ if FATAL.iter().any(|fatal| line.starts_with(fatal)) => Some(Level::Error),
        // A time stamp of Go's own logger, as in `2026/11/22`.
        [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'-' | b'/', ..] => {
            Some(if has_failed() { Level::Error } else { Level::Info })
        }
        [b'{', ..] => Some(Level::Info),
        _ => None,
    }
}

/// zap's console encoding: columns with a time, a level and more, separated by tabs.
fn level_in_columns(line: &[u8]) -> Option<&[u8]> {
    let mut columns = line.split(|byte| *byte == b'\t');
    let has_time = columns.next()?.first()?.is_ascii_digit();
    columns.next().filter(|_| has_time)
}

/// zap's JSON has the level first, Go's slog after the time: before anything nested. In a string the quotes would be
/// escaped.
fn level_in_json(line: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = br#""level":""#;
    let fields = line.strip_prefix(b"{")?;
    let flat = fields.split(|byte| *byte == b'{').next()?;
    let at = flat.windows(KEY.len()).position(|part| part == KEY)?;
    flat[at + KEY.len()..].split(|byte| *byte == b'"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(1000);

    #[test]
    fn the_level_is_the_records_own() {
        for (line, expected) in [
            ("2026-11-30T02:40:58.340Z\terror\tinternal/base_exporter.go:115\tExporting failed.", Some(Level::Error)),
            ("2026-11-30T02:40:58.340+0100\tWARN\tx", Some(Level::Warn)),
            ("1.6e+09\tfatal\tx", Some(Level::Error)),
            ("2026-11-30T02:40:58.340Z\tdebug\tx\terror", Some(Level::Debug)),
            ("2026-11-30T02:40:58.340Z\tnotice\tx", Some(Level::Info)),
            (r#"{"level":"error","ts":1.6,"msg":"x"}"#, Some(Level::Error)),
            (r#"{"level":"dpanic","msg":"x"}"#, Some(Level::Error)),
            (r#"{"time":"2026","level":"WARN","msg":"x"}"#, Some(Level::Warn)),
            (r#"{"level":"info","msg":"a \"level\":\"error\""}"#, Some(Level::Info)),
            (r#"{"msg":"a \"level\":\"error\""}"#, Some(Level::Info)),
            (r#"{"msg":"x","resource":{"level":"error"}}"#, Some(Level::Info)),
            ("panic: runtime error: index out of range [recovered]", Some(Level::Error)),
            ("fatal error: all goroutines are asleep - deadlock!", Some(Level::Error)),
            ("Error: cannot start pipelines", Some(Level::Error)),
            ("2026/11/22 14:04:37 collector server run finished with error: x", Some(Level::Error)),
            ("2026/11/22 14:04:37 x", Some(Level::Info)),
            ("go.opentelemetry.io/collector/x.(*y).z", None),
            ("\t/home/x/y.go:115", None),
            ("an error", None),
            ("12 monkeys\terror", Some(Level::Error)),
            ("", None),
        ] {
            assert_eq!(level(line.as_bytes()), expected, "{line}");
        }
    }

    /// What comes out after each line, and then at the end.
    fn records(lines: &[&str]) -> Vec<(Level, String)> {
        let mut records = Records::default();
        let mut all = Vec::new();
        let mut emit = |level: Level, record: &[u8]| all.push((level, String::from_utf8(record.to_vec()).unwrap()));
        for line in lines {
            records.add(line.as_bytes(), AT, &mut emit);
        }
        assert_eq!(records.deadline().is_some(), records.until.is_some());
        records.end(&mut emit);
        all
    }

    #[test]
    fn a_stack_trace_belongs_to_its_error() {
        let (error, info) = ("2026-01-01\terror\tx", "2026-01-01\tinfo\tx");
        let expected = |list: &[(Level, &str)]| -> Vec<(Level, String)> {
            list.iter().map(|(level, text)| (*level, text.to_string())).collect()
        };
        assert_eq!(
            records(&[info, "plain", "\ttab", error, "a.b", "\t/c:1", info, "plain"]),
            expected(&[
                (Level::Info, info),
                (Level::Info, "plain"),
                (Level::Info, "\ttab"),
                (Level::Error, &format!("{error}\na.b\n\t/c:1")),
                (Level::Info, info),
                (Level::Info, "plain"),
            ])
        );
        assert_eq!(
            records(&[error, error, "panic: x", "", "goroutine 1 [running]:"]),
            expected(&[
                (Level::Error, error),
                (Level::Error, error),
                (Level::Error, "panic: x\n\ngoroutine 1 [running]:")
            ])
        );
        let long = "x".repeat(LINE_LIMIT - error.len() - 2);
        assert_eq!(
            records(&[error, &long, "ab", "c"]),
            expected(&[(Level::Error, &format!("{error}\n{long}")), (Level::Error, "ab\nc")])
        );
    }

    #[test]
    fn an_error_is_held_for_a_moment_and_nothing_else_is() {
        let mut records = Records::default();
        let mut all = 0;
        let mut emit = |_: Level, _: &[u8]| all += 1;
        records.add(b"2026-01-01\twarn\tx", AT, &mut emit);
        assert_eq!(records.deadline(), None);
        records.add(b"2026-01-01\terror\tx", AT, &mut emit);
        records.add(b"\tx", AT + FOLD_TIME / 2, &mut emit);
        assert_eq!(records.deadline(), Some(AT + FOLD_TIME), "however much follows");
        records.end(&mut emit);
        assert_eq!(records.deadline(), None);
        records.end(&mut emit);
        assert_eq!(all, 2);
    }

    #[test]
    fn a_minute_has_so_many_lines_and_errors_besides() {
        let mut rate = LogRate::new(2);
        let seconds = |seconds| AT + Duration::from_secs(seconds);
        let admitted = |rate: &mut LogRate, level, at| rate.admits(level, b"x", seconds(at));
        assert_eq!([0, 1, 2].map(|at| admitted(&mut rate, Level::Info, at)), [true, true, false]);
        assert_eq!(rate.deadline(), Some(seconds(60)));
        assert!(admitted(&mut rate, Level::Error, 3) && !admitted(&mut rate, Level::Warn, 59));
        assert_eq!((rate.suppressed, rate.last.iter().count()), (2, 2));
        rate.end_minute(seconds(59));
        assert_eq!(rate.suppressed, 2);
        rate.end_minute(seconds(60));
        assert_eq!((rate.suppressed, rate.deadline(), rate.last.iter().count()), (0, None, 0));
        assert_eq!([60, 61, 62].map(|at| admitted(&mut rate, Level::Info, at)), [true, true, false]);
        rate.collector_ended();
        assert_eq!((rate.suppressed, rate.deadline()), (0, None));
        assert!(!admitted(&mut rate, Level::Info, 119) && admitted(&mut rate, Level::Info, 120));
    }

    #[test]
    fn no_limit_is_none() {
        let mut rate = LogRate::new(0);
        assert!((0..10_000).all(|_| rate.admits(Level::Info, b"x", AT)));
        assert_eq!(rate.deadline(), None);
    }
}
