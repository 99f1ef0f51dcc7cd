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

    /// Without the cause, which may name a file that has another name each time.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn std::error::Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
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
    fn numbers_round_trip_and_avoid_the_reserved_ones() {
        for &exit in Exit::ALL {
            assert_eq!(Exit::from_code(exit.code()), Some(exit));
        }
        for reserved in [1, 2, 101, 126, 127] {
            assert_eq!(Exit::from_code(reserved), None);
        }
    }
}
