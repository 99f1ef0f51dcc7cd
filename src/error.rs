//! The one error type (an exit status, what failed, and why) and the table of exit statuses.
//!
//! `Display` gives the whole chain on one line, `<what failed>: <path or URL>: <cause>`; only `main` prints one as a
//! final error.

use std::fmt;
use std::process::ExitCode;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug)]
pub struct Error {
    exit: Exit,
    what: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `what` names what failed and, where there is one, the remedy; lower case, no full stop.
    pub fn new(exit: Exit, what: impl Into<String>) -> Error {
        Error { exit, what: what.into(), source: None }
    }

    /// As `new`, with the cause, which is appended when the error is shown.
    pub fn because(
        exit: Exit,
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error { exit, what: what.into(), source: Some(source.into()) }
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// As a part of `attempt`, which is named in front.
    pub fn within(self, attempt: &str) -> Error {
        Error { what: format!("{attempt}: {}", self.what), ..self }
    }

    /// Without the cause, which may quote what a program printed, with other words each time.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The cause alone; empty if there is none.
    pub fn cause(&self) -> String {
        let first = self.source.as_deref().map(|source| source as &dyn std::error::Error);
        let chain = std::iter::successors(first, |error| error.source());
        chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.source.is_some() { write!(f, ": {}", self.cause()) } else { Ok(()) }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Makes the enum and the list of its values from one table, so that no status can be missing from the list.
macro_rules! exit_statuses {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What an exit status tells a script. The numbers are part of the public interface (sysexits.h where it has a
        /// fitting one); never 1, 2 or 101, which shells, libraries and panics use; never the collector's own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Exit {
            $($(#[$doc])* $name = $number,)*
        }

        impl Exit {
            pub const ALL: &[Exit] = &[$(Exit::$name),*];
        }
    };
}

exit_statuses! {
    /// Done, or nothing to do.
    Done = 0,
    /// The command line is wrong (EX_USAGE).
    Usage = 64,
    /// The config was refused, or rolled back (EX_DATAERR).
    ConfigRefused = 65,
    /// The collector is missing, or no agent is running (EX_UNAVAILABLE).
    Unavailable = 69,
    /// A bug in kmagent (EX_SOFTWARE).
    Bug = 70,
    /// The system refused a pipe, thread or socket at start (EX_OSERR).
    System = 71,
    /// A file cannot be written (EX_CANTCREAT).
    CannotWrite = 73,
    /// The API is unreachable, throttles or fails, or the lock is held: try again (EX_TEMPFAIL).
    TryAgain = 75,
    /// The API's answer cannot be read (EX_PROTOCOL).
    BadAnswer = 76,
    /// The API refused the key, or a permission is missing (EX_NOPERM).
    Denied = 77,
    /// The settings are invalid (EX_CONFIG).
    Settings = 78,
    /// Of an agent that `kmagent stop` has ended: it is not to be started again.
    Stopped = 79,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The status behind a number, for an outcome that another kmagent process sent.
    pub fn from_code(code: u8) -> Option<Exit> {
        Exit::ALL.iter().copied().find(|exit| exit.code() == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_what_failed_and_why_on_one_line() {
        let error = Error::because(Exit::System, "cannot write", "disk full");
        assert_eq!((error.what(), error.cause().as_str()), ("cannot write", "disk full"));
        assert_eq!(error.to_string(), "cannot write: disk full");
        let outer = Error::because(Exit::System, "no start", error).within("restart");
        assert_eq!((outer.what(), outer.exit()), ("restart: no start", Exit::System));
        assert_eq!(Error::new(Exit::Usage, "unknown").within("flag").to_string(), "flag: unknown");
        assert_eq!(Error::new(Exit::Usage, "unknown").cause(), "");
    }

    #[test]
    fn numbers_round_trip_and_avoid_the_reserved_ones() {
        for &exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), Some(exit));
        }
        for reserved in [1, 2, 101, 126, 127] {
            assert_eq!(Exit::from_code(reserved), None);
        }
    }
}
