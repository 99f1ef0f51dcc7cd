//! Files beside the config that a roll back renames into its place: so it neither reads nor syncs anything, which a
//! collector that lives would wait for.
//!
//! What an install replaces gets a second name, which costs nothing. Where a file must have one name only, or a roll
//! back would go to another generation, there is a copy: made by the poller with the candidate, or before a start.
//! Each is gone when the verdict is there.

use std::io;
use std::sync::{MutexGuard, PoisonError};

use super::atomic::NewFile;
use super::generations::Generation;
use super::generations::files::Content;
use super::{CANDIDATE_MARK, Candidate, Store, atomic};
use crate::os::files::{Place, safe_open};

#[derive(Debug, Default)]
pub(super) struct Spares {
    /// The generation that the latest install replaced; `None` once that one has its verdict.
    pub(super) former: Option<u64>,
    files: Vec<Spare>,
}

/// The content of a generation, whole and on disk.
#[derive(Debug)]
pub(super) struct Spare {
    number: u64,
    place: Place,
    /// Of a copy: held, so that nobody sweeps it away.
    _copy: Option<NewFile>,
}

impl Drop for Spare {
    fn drop(&mut self) {
        let _ = self.place.remove();
    }
}

impl Spares {
    fn has(&self, number: u64) -> bool {
        self.files.iter().any(|it| it.number == number)
    }
}

impl Spare {
    pub(super) fn rename(&self, target: &Place) -> io::Result<()> {
        atomic::put_in_place(&self.place, target)
    }
}

impl Store {
    pub(super) fn spares(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the latest install can be undone without waiting for the disk.
    pub fn is_revocable(&self) -> bool {
        let spares = self.spares();
        spares.former.is_none_or(|former| spares.has(former))
    }

    /// Makes what a roll back of the active config would need; before a start.
    pub fn prepare_roll_back(&self) {
        let fallback = {
            let list = self.generations.list();
            list.active().and_then(|active| list.fallbacks(Some(active)).first().copied())
        };
        self.prepare(fallback);
    }

    /// The same, of a candidate that may become the active config.
    pub(super) fn prepare_roll_back_of(&self, candidate: &Candidate) {
        let (active, fallback) = {
            let list = self.generations.list();
            (list.active(), list.fallbacks(candidate.generation).first().copied())
        };
        // It gets a second name when it is replaced: until then an operator may write into it. So it is tried on the
        // candidate, which is in the same directory.
        let second = atomic::second_name(candidate.file.place(), CANDIDATE_MARK);
        let can_have_one = second.is_some_and(|second| second.remove().is_ok());
        self.prepare(active.filter(|_| !can_have_one));
        self.prepare(fallback.filter(|fallback| Some(*fallback) != active));
    }

    fn prepare(&self, number: Option<u64>) {
        let Some(number) = number.filter(|number| !self.spares().has(*number)) else { return };
        let copy = || {
            let bytes = self.generations.read(number)?;
            atomic::write_new(&self.target()?, CANDIDATE_MARK, &bytes)
        };
        match copy() {
            Ok(copy) => self.spares().files.push(Spare { number, place: copy.place().clone(), _copy: Some(copy) }),
            // The roll back tries again, and says so.
            Err(error) => log::debug!(error:%; "cannot prepare a roll back"),
        }
    }

    /// The active config, which is to be replaced, keeps another name. False where it cannot have one.
    pub(super) fn add_second_name(&self, number: u64, target: &Place) -> bool {
        if !self.spares().has(number) {
            let Some(place) = atomic::second_name(target, CANDIDATE_MARK) else { return false };
            self.spares().files.push(Spare { number, place, _copy: None });
        }
        true
    }

    pub(super) fn take_spare(&self, number: u64) -> Option<Spare> {
        let mut spares = self.spares();
        let at = spares.files.iter().position(|it| it.number == number)?;
        Some(spares.files.swap_remove(at))
    }

    /// Once the active config has proved itself, or was restored. What has no other file yet stays, and the active
    /// one's until its install is over.
    pub(super) fn release_spares(&self, is_install_over: bool) {
        // They are removed when neither lock is held.
        let _released: Vec<Spare> = {
            let list = self.generations.list();
            let Some(active) = list.active().filter(|active| !list.has_failed(*active)) else { return };
            let is_due = |number: u64| number == active && !is_install_over;
            let mut spares = self.spares();
            spares.former.take_if(|former| !is_due(*former));
            spares.files.extract_if(.., |it| list.is_kept(it.number) && !is_due(it.number)).collect()
        };
    }

    /// Of a generation that has no file of its own: the active config's, as long as it is the file that was seen; or
    /// what has just taken its place.
    pub(super) fn content(&self, generation: &Generation) -> Content {
        let spare = self.spares().files.iter().find(|it| it.number == generation.number).map(|it| it.place.clone());
        if let Some(spare) = spare {
            return spare.read(self.max_bytes).map(Some);
        }
        let is_there = || safe_open::identity(&self.config).map(|file| file.is_some() && file == generation.file);
        if !is_there()? {
            return Ok(None);
        }
        let bytes = self.read(&self.config)?;
        Ok(is_there()?.then_some(bytes))
    }
}
