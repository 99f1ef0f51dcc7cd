//! The one error type: an exit status, what failed, and why.
//!
//! `Display` gives the whole chain on one line, `<what failed>: <path or URL>: <cause>`; only `main` prints one as a final error.

use std::fmt;

use crate::exit::Exit;

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
