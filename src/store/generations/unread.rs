//! A list of generations that could not be read when it was to be: the state directory is another user's, or the disk
//! fails. It may be later, so nothing is written over it, and it is read before the next write.

use std::io;

use super::files::{Generations, Kept, LIST, MAX_BYTES};
use crate::os::files::{is_absent, is_planted, safe_open};

impl Generations {
    /// Puts what is on the disk before what there is, if it could not be read when it was to be.
    pub(super) fn read_late(&self) -> io::Result<()> {
        if !self.list().is_unread {
            return Ok(());
        }
        let bytes = match safe_open::read(&self.state_dir.join(LIST), MAX_BYTES) {
            Err(error) if is_only_unread(&error) => return Err(error),
            bytes => bytes,
        };
        let earlier = bytes.ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let mut list = self.list();
        list.is_unread = false;
        let later = std::mem::take(&mut list.generations);
        list.generations = earlier.map(|earlier| earlier.generations).unwrap_or_default();
        list.generations.extend(later);
        list.generations.sort_by_key(|it| it.number);
        Ok(())
    }
}

/// Whether there is something that could not be read this time: not what is no file, or another user's to put there.
pub(super) fn is_only_unread(error: &io::Error) -> bool {
    let is_none = [
        io::ErrorKind::InvalidInput,
        io::ErrorKind::IsADirectory,
        io::ErrorKind::FileTooLarge,
        io::ErrorKind::InvalidData,
    ];
    !is_absent(error) && !is_planted(error) && !is_none.contains(&error.kind())
}
