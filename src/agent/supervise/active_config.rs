//! What is known of the active config's file without reading it: its revision, by the file's identity.
//!
//! A config of megabytes takes seconds to read, while a collector's output, exits and bind(2) wait. The poller reads it
//! (`PollerCommand::ReadConfig`), and of a candidate the revision is known when it is installed.

use crate::agent::mailbox::ConfigReading;
use crate::config::value::Revision;
use crate::error::Result;
use crate::log::Masked;
use crate::os::files::FileId;

#[derive(Default)]
pub(super) struct ActiveConfig {
    known: Option<ConfigReading>,
    /// The poller has been asked to read it and has not answered.
    expected: Option<FileId>,
}

impl ActiveConfig {
    pub(super) fn is_known(&self, file: FileId) -> bool {
        self.known.as_ref().is_some_and(|known| known.file == file)
    }

    /// Whether the poller has to be asked for it.
    pub(super) fn expect(&mut self, file: FileId) -> bool {
        !self.is_known(file) && self.expected.replace(file) != Some(file)
    }

    pub(super) fn learn(&mut self, reading: Option<ConfigReading>) {
        self.expected = None;
        self.known = reading;
    }

    /// A candidate has become this file.
    pub(super) fn installed(&mut self, file: Result<Option<FileId>>, revision: &Revision) {
        let reading = |file| ConfigReading { file, revision: Ok(revision.clone()) };
        self.known = file.ok().flatten().map(reading);
    }

    /// Of the file that is there now; the error is why it is not known.
    pub(super) fn revision(&self, file: Result<Option<FileId>>) -> std::result::Result<Option<Revision>, Masked> {
        match (file, &self.known) {
            (Ok(None), _) => Ok(None),
            (Ok(Some(file)), Some(known)) if known.file == file => known.revision.clone().map(Some),
            (Ok(Some(_)), _) => Err("the file has changed and was not read yet".into()),
            (Err(error), _) => Err(error.to_string().into()),
        }
    }
}
