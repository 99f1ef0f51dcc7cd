//! The exit statuses of every command, in one table (sysexits.h where it has a fitting one).
//!
//! Never 1, 2 or 101, which shells, libraries and panics use; never the collector's own.

use std::process::ExitCode;

/// What an exit status tells a script. The numbers are part of the public interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
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
        use Exit::*;
        [Done, Usage, ConfigRefused, Unavailable, Bug, System, CannotWrite, TryAgain, BadAnswer, Denied, Settings]
            .into_iter()
            .find(|exit| exit.code() == code)
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
        for code in 0..=255u8 {
            if let Some(exit) = Exit::from_code(code) {
                assert_eq!(exit.code(), code);
            }
        }
        for reserved in [1, 2, 101, 126, 127] {
            assert_eq!(Exit::from_code(reserved), None);
        }
    }
}
