//! What outside of its config kept a collector from starting, by its last words.
//!
//! Go's words for the system's errors (syscall.Errno), and those of bbolt, which file_storage keeps its data in. They
//! are looked for in the error that ends the collector alone: before it, it may complain of what it can do without.

use std::net::SocketAddr;
use std::path::Path;

use crate::os::files::SeenFile;
use crate::os::port_holder::{self, Holder};

/// What may change without the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// It is missing, or may not be read.
    File(SeenFile),
    /// Another process listens there.
    Port { at: SocketAddr, is_stream: bool, holder: Holder },
}

impl Outside {
    pub fn has_changed(&self) -> bool {
        match self {
            Outside::File(seen) => seen.has_changed(),
            // By now it may be the previous config's collector, which gives it up.
            Outside::Port { at, is_stream, holder } => port_holder::find(*at, *is_stream).as_ref() != Some(holder),
        }
    }
}

/// Of a path, which stands before it.
const OF_FILES: [&str; 5] = [
    ": no such file or directory",
    ": permission denied",
    ": not a directory",
    ": read-only file system",
    ": no space left on device",
];
/// Of a storage.
const OF_STORAGES: [&str; 4] =
    [": invalid database", ": checksum error", ": version mismatch", ": file size too small"];

/// Whether what ended it names something outside of its config.
pub fn is_outside(tail: &str) -> bool {
    fatal(tail).is_some_and(|error| OF_FILES.iter().chain(&OF_STORAGES).any(|words| error.contains(words)))
}

/// Whether what ended it is that a storage stayed locked (bbolt's ErrTimeout), as seen with 0.149.
pub fn is_locked(tail: &str) -> bool {
    let kinds = ["exporter", "receiver", "processor", "connector"];
    fatal(tail).is_some_and(|error| kinds.iter().any(|kind| error.contains(&format!("{kind}: timeout"))))
}

/// The file that what ended it names, as it is now.
pub fn named_file(tail: &str) -> Option<SeenFile> {
    let error = fatal(tail)?;
    let end = OF_FILES.iter().filter_map(|words| error.find(words)).min()?;
    let named = &error[..end];
    // As in `open /etc/ca.pem`: of a path with a blank, all.
    let start = named.rfind(" /").map(|blank| blank + 1)?;
    Some(SeenFile::now(Path::new(&named[start..])))
}

/// The error that ended the collector (cobra's); before 2024 it was in the log alone.
pub fn fatal(tail: &str) -> Option<&str> {
    let starts_line = |at: &usize| *at == 0 || tail[..*at].ends_with('\n');
    let cobra = || tail.match_indices("Error: ").map(|(at, _)| at).filter(starts_line).last();
    let at = cobra().or_else(|| tail.rfind("collector server run finished with error: "))?;
    Some(&tail[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As collectors 0.145 and 0.135 print them.
    /// Such as the collector of the previous config.
    #[test]
    #[cfg(unix)]
    fn a_port_that_somebody_else_has_by_now_has_changed() {
        let thief = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = thief.local_addr().unwrap();
        let holder = port_holder::find(at, true).unwrap();
        let taken = Outside::Port { at, is_stream: true, holder };
        assert!(!taken.has_changed());
        drop(thief);
        assert!(taken.has_changed());
        let _next = std::net::TcpListener::bind(at).unwrap();
        assert!(taken.has_changed());
    }

    #[test]
    fn what_is_outside_a_config_is_known_by_the_error_that_ends_the_collector() {
        let start = "Error: cannot start pipelines: failed to start \"otlp\" receiver: ";
        for (error, file) in [
            (
                "failed to load TLS config: failed to load cert /x/ca.pem: open /x/ca.pem: no such file or directory",
                "/x/ca.pem",
            ),
            ("open /x/my logs/exporter__logs: permission denied", "/x/my logs/exporter__logs"),
            ("mkdir /x/y: not a directory", "/x/y"),
            ("invalid database", ""),
        ] {
            let tail = format!("2026-11-30T03:22:06.639Z\tinfo\tStarting shutdown...\n{start}{error}");
            assert!(is_outside(&tail), "{tail}");
            let found = named_file(&tail).map(|seen| seen.path.display().to_string());
            assert_eq!(found.unwrap_or_default(), file, "{tail}");
        }
        let old = "2022/11/22 14:04:37 collector server run finished with error: open /x: no such file or directory";
        assert_eq!(named_file(old).map(|seen| seen.file), Some(None));
        let locked = "Error: cannot start pipelines: failed to start \"otlp_http\" exporter: timeout";
        assert!(is_locked(locked) && !is_outside(locked));
    }

    #[test]
    fn what_it_can_do_without_and_what_is_its_own_is_not() {
        for tail in [
            "",
            "warn\topen /x: no such file or directory",
            "warn\topen /x: no such file or directory\nError: invalid configuration: no exporter",
            "warn\tError: open /x: no such file or directory\nError: cannot start: boom",
            "Error: cannot start pipelines: boom",
        ] {
            assert!(!is_outside(tail) && !is_locked(tail) && named_file(tail).is_none(), "{tail}");
        }
    }
}
