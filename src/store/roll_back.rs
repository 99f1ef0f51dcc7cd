//! What takes the active config's place when that has failed, and what becomes of the failed one.
//!
//! What is restored is in `spares` already, or read from the generations.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::generations::Origin;
use super::{CANDIDATE_MARK, Store, atomic};
use crate::error::Result;
use crate::log::Masked;
use crate::os::files::{Place, named};

/// Which config a roll back restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest confirmed one; if none is, the newest proved one other than the active.
    Fallback,
    /// What the latest install replaced.
    Former,
    Generation(u64),
}

/// What a roll back has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The generation that was active and has failed; `None` if there was nothing, or nothing that can be read.
    pub from: Option<u64>,
    /// Where what was active is kept.
    pub kept: Option<PathBuf>,
    pub to: u64,
}

impl Store {
    /// Puts another generation over the config; the directory is synced by the next `save`. With `may_wait` false, as
    /// while a collector lives, nothing is parsed, and nothing synced unless there is no other way.
    ///
    /// # Errors
    /// 73, with the config as it was.
    pub fn roll_back(&self, target: Target, problem: &Masked, may_wait: bool) -> Result<RolledBack> {
        let failed = |error| self.cannot_replace("cannot restore the previous config", error);
        let active = self.know_active(Origin::Hand);
        let place = self.target();
        if let Some(number) = active.filter(|number| self.is_unkept(Some(*number))) {
            let has_second_name = || place.as_ref().is_ok_and(|place| self.add_second_name(number, place));
            let saved = match may_wait {
                true => self.save(),
                false if has_second_name() => Ok(()),
                false => self.try_save().unwrap_or(Ok(())),
            };
            if let Err(error) = saved {
                log::warn!(error:%; "cannot save the rejected config");
            }
        }
        // Its revision is to be rejected.
        let is_unparsed = |number: &u64| self.generation(*number).is_some_and(|it| it.revision.is_none());
        if let Some(number) = active.filter(|number| may_wait && is_unparsed(number)) {
            self.generations.parse(number);
        }
        let place = place.map_err(failed)?;
        let mut kept = active.map(|number| self.generation_path(number));
        let from = active.filter(|number| self.generations.list().has_failed(*number));
        let former = self.spares().former;
        let numbers = match (target, former) {
            (Target::Former, Some(former)) => vec![former],
            (Target::Generation(number), _) => vec![number],
            // It works.
            (Target::Fallback | Target::Former, _) if from.is_none() => active.into_iter().collect(),
            (Target::Fallback | Target::Former, _) => Vec::new(),
        };
        let numbers = match numbers.is_empty() {
            true => self.generations.list().fallbacks(from),
            false => numbers,
        };
        let spare = numbers.first().filter(|_| kept.is_some()).and_then(|number| self.take_spare(*number));
        let to = match (spare, numbers.first()) {
            // It is in its place.
            (_, Some(&number)) if Some(number) == active => number,
            (Some(spare), Some(&number)) => {
                spare.rename(&place).map_err(failed)?;
                number
            }
            (None, _) | (_, None) => self.restore(&numbers, &place, &mut kept).map_err(failed)?,
        };
        self.is_unsynced.store(true, Ordering::Relaxed);
        if let Some(number) = from {
            self.generations.list().reject(number, problem);
        }
        self.is_now(Some(to));
        self.release_spares(true);
        Ok(RolledBack { from, kept, to })
    }

    /// Writes the first of these that is there to `place`. What is no generation gets another name before.
    fn restore(&self, numbers: &[u64], place: &Place, kept: &mut Option<PathBuf>) -> io::Result<u64> {
        let mut missing = None;
        for &number in numbers {
            let bytes = match self.generations.read(number) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing.get_or_insert(error);
                    continue;
                }
                bytes => bytes?,
            };
            let restored = atomic::write_new(place, CANDIDATE_MARK, &bytes)?;
            if kept.is_none() && matches!(place.look(), Ok(Some(_))) {
                let aside = aside(place);
                match atomic::set_aside(place, &aside, self.max_bytes) {
                    Ok(()) => *kept = Some(aside.path()),
                    Err(error) => log::warn!(error:%; "cannot save the rejected config"),
                }
            }
            restored.rename(place).inspect_err(|_| restored.remove())?;
            return Ok(number);
        }
        Err(missing.unwrap_or_else(|| self.generations.no_fallback()))
    }

    /// Of a symbolic link the target.
    ///
    /// # Errors
    /// 73.
    pub fn remove_config(&self, problem: &Masked) -> Result<()> {
        let active = self.know_active(Origin::Hand);
        self.target()
            .and_then(|target| target.remove().map_err(|error| named(&target.path(), error)))
            .map_err(|error| self.cannot_replace("cannot remove the config", error))?;
        if let Some(number) = active {
            self.generations.list().reject(number, problem);
        }
        Ok(())
    }
}

/// What is in the config's place and cannot be read, a directory for instance, goes here; an earlier version kept every
/// config here that it rolled back.
pub(super) fn aside(target: &Place) -> Place {
    let mut name = target.name().to_os_string();
    name.push(".rejected");
    target.beside(name)
}
