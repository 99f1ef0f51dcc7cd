//! The log: one line on stderr for each record of this program and for each line of the collector, as JSON or as text.
//!
//! Records of other crates are dropped, whatever the level: ureq-proto's trace output is a dump of the whole request,
//! the key included, cut into rows that no mask would recognise. `line` decides how a line looks, `sink` how it is
//! written without ever holding up its writer for long. This module never reads settings and never exits.

pub mod line;
pub mod masked;
pub mod redact;
pub mod sanitize;
mod sink;
pub mod utc;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::os::stderr;
use line::{COLLECTOR, Style};
pub use masked::Masked;
use sink::Sink;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

struct Logger {
    /// Else JSON.
    is_text: AtomicBool,
    /// Each line begins with its priority.
    is_journal: bool,
    /// Locked only to write: a field's `Display` that logs must find it free.
    sink: Mutex<Sink>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Starts the log; a later call changes level and format.
pub fn init(level: LevelFilter, format: LogFormat) {
    let logger = LOGGER.get_or_init(|| {
        let sink = Mutex::new(Sink::new(stderr::open()));
        Logger { is_text: AtomicBool::new(false), is_journal: stderr::is_journal(), sink }
    });
    logger.is_text.store(format == LogFormat::Text, Ordering::Relaxed);
    // It fails when a logger is set already, which can only be this one.
    let _ = log::set_logger(logger);
    log::set_max_level(level);
}

/// Passes on a record of the collector's output, whatever its level: one line, or several with a newline between them.
pub fn collector_record(level: Level, bytes: &[u8]) {
    if let Some(logger) = LOGGER.get() {
        logger.write(|style| style.collector(level, bytes));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        is_ours(metadata.target())
    }

    fn log(&self, record: &Record) {
        if is_ours(record.target()) {
            self.write(|style| style.record(record));
        }
    }

    fn flush(&self) {}
}

impl Logger {
    fn write(&self, render: impl FnOnce(&Style) -> String) {
        masked::with_known(|secrets| {
            let format = if self.is_text.load(Ordering::Relaxed) { LogFormat::Text } else { LogFormat::Json };
            let style = Style { format, is_journal: self.is_journal, at: SystemTime::now(), secrets };
            let line = render(&style);
            lock(&self.sink).write(&line, |count| style.dropped(count));
        });
    }
}

/// `text` as it would be shown: as a message, as a field and as a line of the collector, in each format.
#[cfg(test)]
pub fn rendered(text: &str) -> Vec<String> {
    let lines = |format| {
        masked::with_known(|secrets| {
            let style = Style { format, is_journal: false, at: SystemTime::UNIX_EPOCH, secrets };
            let fields: &[(&str, &str)] = &[("field", text)];
            let record = style.record(&Record::builder().args(format_args!("{text}")).key_values(&fields).build());
            vec![record, style.collector(Level::Info, text.as_bytes())]
        })
    };
    [LogFormat::Json, LogFormat::Text].into_iter().flat_map(lines).collect()
}

/// A time as fields have it: in seconds, to the millisecond.
pub fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

fn is_ours(target: &str) -> bool {
    target == "kmagent" || target.starts_with("kmagent::") || target == COLLECTOR
}

/// A panic elsewhere while a line was written leaves nothing half done that the next line could not live with.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_digits_at_most() {
        let shown = |nanoseconds| seconds(Duration::from_nanos(nanoseconds)).to_string();
        assert_eq!([137_038_975, 2_000_000_001, 0].map(shown), ["0.137", "2", "0"]);
    }

    #[test]
    fn only_our_own_records_are_written() {
        for (target, expected) in [
            ("kmagent", true),
            ("kmagent::api::client", true),
            ("collector", true),
            ("kmagents", false),
            ("ureq::run", false),
            ("ureq_proto::util", false),
            ("rustls::client::hs", false),
        ] {
            assert_eq!(is_ours(target), expected, "{target}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_message_that_logs_while_it_is_rendered_does_not_deadlock() {
        struct Nested<'a>(&'a Logger);
        impl std::fmt::Display for Nested<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.log(&Record::builder().target("kmagent").args(format_args!("inner")).build());
                f.write_str("outer")
            }
        }
        let (mut reader, writer) = std::io::pipe().unwrap();
        let sink = Mutex::new(Sink::new(crate::os::stderr::Stderr::instead(writer)));
        let logger = Logger { is_text: AtomicBool::new(true), is_journal: false, sink };
        logger.log(&Record::builder().target("kmagent").args(format_args!("{}", Nested(&logger))).build());
        drop(logger);
        let mut written = String::new();
        std::io::Read::read_to_string(&mut reader, &mut written).unwrap();
        let messages: Vec<_> = written.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(messages, ["inner", "outer"]);
    }
}
