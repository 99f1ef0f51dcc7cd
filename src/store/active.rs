//! The active config as one of the generations: which one it is, how it is installed, and the verdicts on it.
//!
//! What is decided is in the list at once, and on disk when `save` has written it. Both threads of the agent come here;
//! only `save`, `keep_*` and a roll back without a second name wait for the disk.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::generations::{Generation, Origin, Standing, StartProblem, Trust};
use super::record::unix_now;
use super::roll_back::aside;
use super::{Candidate, Store, atomic};
use crate::config::value::{Revision, Value};
use crate::error::{Error, Exit, Result};
use crate::log::Masked;
use crate::os::files::{FileId, Place, is_absent, is_planted};
use crate::os::{process_id, shutdown};

const CANNOT_SAVE: &str = "cannot save the generations";

impl Store {
    /// From now on all files stay as they are.
    pub fn freeze(&self) {
        self.generations.freeze();
    }

    /// Reads what is kept, takes over what an earlier version kept, and recognises the active config.
    pub fn open_generations(&self) {
        let is_known = self.generations.open();
        let state = |name| Place::new(&self.state_dir.join(name));
        let old = [
            (state("last-known-good.yaml"), Standing::Confirmed),
            (state("previous.yaml"), Standing::Replaced),
            (
                self.target().map(|target| aside(&target)),
                Standing::RolledBack { problem: "rolled back by an earlier version".into() },
            ),
        ];
        let mut taken = Vec::new();
        for (place, standing) in old.into_iter().filter(|_| !self.generations.is_frozen()) {
            match place.and_then(|place| Ok(self.generations.take_over(&place, standing)?.then_some(place))) {
                Ok(place) => taken.extend(place),
                // What is planted in the config's place is a problem of its own.
                Err(error) if is_absent(&error) || is_planted(&error) => {}
                Err(error) => log::warn!(error:%; "cannot take over what an earlier version of the agent kept"),
            }
        }
        self.know_active(if is_known { Origin::Hand } else { Origin::Before });
        if !taken.is_empty() && self.try_save().is_some_and(|saved| saved.is_ok()) {
            for place in taken {
                let _ = place.remove();
            }
        }
    }

    /// An agent starts: what it finds has been started once more.
    pub fn begin(&self) {
        self.generations.list().started(process_id::boot().as_deref());
    }

    /// Why the active config is to be rolled back before its collector is started.
    pub fn start_problem(&self) -> Option<StartProblem> {
        self.generations.list().start_problem(process_id::boot().as_deref())
    }

    /// An agent ends in good order, under which a collector with the active config has passed its probation or not.
    pub fn end(&self, has_run: bool) {
        self.generations.list().stopped(has_run);
    }

    /// The generation that the active config is. One that nobody has installed becomes one, which has a file of its own
    /// with the next `save`. `None` of what cannot be read; what cannot be looked at is what it was: no verdict may go
    /// to another one for that, nor get lost.
    pub(super) fn know_active(&self, source: Origin) -> Option<u64> {
        let file = match self.look() {
            Ok(file) => file?,
            Err(_) => return self.active_generation(),
        };
        let known = self.generations.list().number_of(file);
        if known.is_some() {
            return known;
        }
        let bytes = self.read(&self.config).ok()?;
        let same = self.generations.find_content(&bytes);
        let mut list = self.generations.list();
        // The other thread may have been here, or replaced the config.
        if self.look().is_ok_and(|now| now != Some(file)) || list.number_of(file).is_some() {
            return list.active();
        }
        let number = same.unwrap_or_else(|| {
            let standing = Standing::Pending { boot: process_id::boot(), starts: 0 };
            list.add(Generation::new(None, source, unix_now(), standing))
        });
        // What is found at a start may have been put there by an earlier one, and what was just installed by us.
        let is_pending = list.find(number).is_some_and(Generation::is_pending);
        let is_put_back = !is_pending && list.active().is_some_and(|former| former != number);
        let is_changed = same.is_none() || is_put_back;
        list.set_active(Some(file), number);
        drop(list);
        if is_changed && source == Origin::Hand && !self.generations.is_frozen() {
            let kept = self.generation_path(number);
            log::warn!(kept:% = kept.display(), generation = number; "config was changed by hand; keeping a copy");
        }
        Some(number)
    }

    /// The generation that the active config is, if it is this file.
    pub fn generation_of(&self, file: FileId) -> Option<u64> {
        self.know_active(Origin::Hand);
        self.generations.list().number_of(file)
    }

    /// As it was seen last: nothing is read.
    pub fn seen_generation(&self, file: FileId) -> Option<Generation> {
        let list = self.generations.list();
        list.number_of(file).and_then(|number| list.find(number).cloned())
    }

    /// What its content was found to be.
    pub fn found_revision(&self, number: u64, revision: Option<&Revision>) {
        if let Some(revision) = revision {
            self.generations.list().set_revision(number, Some(revision.clone()));
        }
    }

    /// Why the active config cannot be kept, if it cannot be read.
    pub fn unreadable(&self) -> Option<Error> {
        let error = self.read(&self.config).err()?;
        Some(self.cannot_write("cannot read the config", error))
    }

    /// How far the active config is to be trusted.
    pub fn trust(&self) -> Trust {
        let active = self.know_active(Origin::Hand);
        self.generations.list().trust(active)
    }

    /// Whether there is a config to go back to.
    pub fn has_fallback(&self) -> bool {
        let has_config = self.has_config();
        let list = self.generations.list();
        !list.fallbacks(list.active().filter(|_| has_config)).is_empty()
    }

    /// What a roll back of the active config would restore, as a tree.
    pub fn read_fallback(&self) -> Option<Value> {
        let fallback = {
            let list = self.generations.list();
            list.fallbacks(list.active()).first().copied()
        };
        self.read_generation(fallback?).ok()
    }

    /// The newest confirmed config; if none is, the newest that has proved itself.
    pub fn read_confirmed(&self) -> Option<Value> {
        let best = self.generations.list().fallbacks(None).first().copied()?;
        self.read_generation(best).ok()
    }

    // ---- Installing.

    /// Keeps a validated candidate as a generation, and before it an active config that was changed by hand. Whatever
    /// cannot be written is tried again later: an install does not fail for want of history.
    pub fn keep_candidate(&self, candidate: &mut Candidate, text: &str) {
        self.know_active(Origin::Hand);
        let revision = candidate.revision.clone();
        let _step = shutdown::step();
        self.generations.list().supersede(Some(&revision));
        let standing = Standing::Pending { boot: process_id::boot(), starts: 0 };
        let generation = Generation::new(Some(revision), Origin::Api, unix_now(), standing);
        let (number, written) = self.generations.add(generation, text.as_bytes());
        candidate.generation = Some(number);
        if let Err(error) = self.kept(written) {
            // The next `save` says so, once.
            log::debug!(error:%; "cannot keep the new config as a generation yet");
        }
        self.prepare_roll_back_of(candidate);
    }

    /// Keeps a config that was refused. Its file, if it could be written.
    pub fn keep_refused(&self, text: &str, revision: &Revision, problem: &Masked) -> Option<PathBuf> {
        if text.len() as u64 > self.max_bytes {
            return None;
        }
        let _step = shutdown::step();
        self.generations.list().supersede(Some(revision));
        let standing = Standing::Refused { problem: problem.clone() };
        let generation = Generation::new(Some(revision.clone()), Origin::Api, unix_now(), standing);
        let (number, written) = self.generations.add(generation, text.as_bytes());
        if let Err(error) = self.kept(written) {
            log::warn!(error:%; "cannot keep the rejected config");
            self.generations.list().remove(number);
            return None;
        }
        Some(self.generation_path(number))
    }

    fn kept(&self, written: io::Result<()>) -> Result<()> {
        written.map_err(|error| self.cannot_write(CANNOT_SAVE, error)).and_then(|()| self.save())
    }

    /// A candidate that is not going to be installed.
    pub fn discard(&self, candidate: &Candidate) {
        if let Some(number) = candidate.generation {
            self.generations.list().remove(number);
        }
        self.release_spares(true);
    }

    /// The generation of the active config, once it is in a file of its own.
    ///
    /// # Errors
    /// 73; or it cannot be read.
    pub fn keep_active(&self) -> Result<u64> {
        let failed = |error| self.cannot_write("cannot save the current config", error);
        self.look().map_err(|error| error.within("cannot save the current config"))?;
        let number = match self.know_active(Origin::Hand) {
            Some(number) => number,
            None => return Err(failed(self.read(&self.config).err().unwrap_or(io::ErrorKind::Other.into()))),
        };
        self.save().map_err(|error| error.within("cannot save the current config"))?;
        match self.generation(number).is_some_and(|it| !it.is_unkept) {
            true => Ok(number),
            false => Err(failed(io::ErrorKind::NotFound.into())),
        }
    }

    /// Makes a candidate the active config; the directory is synced by the next `save`. `Target::Former` brings back
    /// what it replaces.
    ///
    /// # Errors
    /// 73, with the config as it was.
    pub fn install(&self, candidate: &Candidate) -> Result<()> {
        self.install_over(candidate, true)
    }

    /// As `install`, for who has kept the active config and does not need `Target::Former`.
    ///
    /// # Errors
    /// As for `install`.
    pub fn install_alone(&self, candidate: &Candidate) -> Result<()> {
        self.install_over(candidate, false)
    }

    fn install_over(&self, candidate: &Candidate, keeps_former: bool) -> Result<()> {
        let failed = |error| self.cannot_replace("cannot install the new config", error);
        let target = self.target().map_err(failed)?;
        // It may have been changed by hand.
        self.look().map_err(|error| error.within("cannot install the new config"))?;
        let former = self.know_active(Origin::Hand);
        let has_spare = keeps_former && former.is_some_and(|number| self.add_second_name(number, &target));
        if !has_spare && self.is_unkept(former) {
            // Changed by hand since the candidate was kept, and nothing keeps it.
            if keeps_former && former > candidate.generation {
                let what = "the config was changed by hand just now: the next check tries again to replace it";
                return Err(Error::new(Exit::TryAgain, what));
            }
            if !keeps_former && let Err(error) = self.save() {
                log::warn!(error:%; "cannot keep a copy of the config that is replaced");
            }
        }
        self.spares().former = former.filter(|_| keeps_former);
        candidate.file.rename(&target).map_err(|error| {
            self.release_spares(true);
            failed(error)
        })?;
        self.is_unsynced.store(true, Ordering::Relaxed);
        self.generations.list().replaced(former);
        self.is_now(candidate.generation);
        Ok(())
    }

    /// Whether an install would overwrite the only config that works.
    pub fn is_only_proved_unkept(&self) -> bool {
        self.generations.list().is_only_proved_unkept()
    }

    /// The config file is this generation, whether it can be looked at or not.
    pub(super) fn is_now(&self, number: Option<u64>) {
        let file = self.look().ok().flatten();
        if let Some(number) = number {
            self.generations.list().set_active(file, number);
        }
    }

    // ---- Verdicts.

    /// A generation has passed its probation. True if that is news.
    pub fn prove(&self, number: u64, is_confirmed: bool) -> bool {
        let is_news = self.generations.list().prove(number, is_confirmed);
        self.release_spares(false);
        is_news
    }

    /// The generation that the active config is, as it was seen last.
    pub fn active_generation(&self) -> Option<u64> {
        self.generations.list().active()
    }

    pub fn record_exits(&self, number: u64, exits: u32) {
        self.generations.list().record_exits(number, exits);
    }

    /// Of a check without an agent: whether that confirms the active config.
    pub fn found_by_check(&self, confirm_seconds: u64) -> bool {
        self.generations.list().found_by_check(unix_now(), confirm_seconds)
    }

    // ---- The disk.

    /// Syncs the config's directory and writes the list and what it names, as far as that is not done.
    ///
    /// # Errors
    /// 73; it is done by the next call.
    pub fn save(&self) -> Result<()> {
        self.sync_config();
        let saved = self.generations.save(|generation| self.content(generation));
        self.release_spares(false);
        saved.map_err(|error| self.cannot_write(CANNOT_SAVE, error))
    }

    /// As `save`, but nothing is parsed. If another thread is at it this does nothing, and says `None`.
    pub fn try_save(&self) -> Option<Result<()>> {
        self.sync_config();
        let saved = self.generations.try_save(|generation| self.content(generation))?;
        Some(saved.map_err(|error| self.cannot_write(CANNOT_SAVE, error)))
    }

    /// Whether `save` has something to do.
    pub fn is_unsaved(&self) -> bool {
        self.is_unsynced.load(Ordering::Relaxed) || self.generations.list().is_unwritten()
    }

    fn sync_config(&self) {
        if self.is_unsynced.swap(false, Ordering::Relaxed)
            && let Ok(target) = self.target()
        {
            atomic::sync_directory(&target);
        }
    }

    pub(super) fn is_unkept(&self, number: Option<u64>) -> bool {
        number.is_some_and(|number| !self.generations.list().is_kept(number))
    }
}
