//! What takes the active config's place when that has failed, and what becomes of the failed one.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

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

/// The file that the latest install replaced, under another name: it comes back without a sync.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) number: u64,
    /// `None` where it could not get one.
    pub(super) place: Option<Place>,
}

impl Drop for Former {
    fn drop(&mut self) {
        let _ = self.place.as_ref().map(Place::remove);
    }
}

impl Store {
    pub(super) fn former(&self) -> MutexGuard<'_, Option<Former>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another generation over the config; the directory is synced by the next `save`.
    ///
    /// # Errors
    /// 73, with the config as it was.
    pub fn roll_back(&self, target: Target, problem: &Masked) -> Result<RolledBack> {
        let failed = |error| self.cannot_replace("cannot restore the previous config", error);
        let active = self.know_active(Origin::Hand);
        if self.is_unkept(active)
            && let Err(error) = self.save()
        {
            log::warn!(error:%; "cannot save the rejected config");
        }
        // Its revision is to be rejected.
        if let Some(number) = active.filter(|number| self.generation(*number).is_some_and(|it| it.revision.is_none())) {
            self.generations.parse(number);
        }
        let place = self.target().map_err(failed)?;
        let mut kept = active.map(|number| self.generation_path(number));
        let from = active.filter(|number| self.generations.list().has_failed(*number));
        let former = self.former().take();
        let to = match (target, former) {
            (Target::Former, Some(mut former)) => match former.place.take() {
                Some(second) => {
                    atomic::put_in_place(&second, &place).map_err(failed)?;
                    former.number
                }
                None => self.restore(&[former.number], &place, &mut kept).map_err(failed)?,
            },
            (Target::Generation(number), _) => self.restore(&[number], &place, &mut kept).map_err(failed)?,
            (Target::Fallback | Target::Former, _) => {
                let fallbacks = match active {
                    // It works.
                    Some(active) if from.is_none() => vec![active],
                    _ => self.generations.list().fallbacks(from),
                };
                self.restore(&fallbacks, &place, &mut kept).map_err(failed)?
            }
        };
        self.is_unsynced.store(true, Ordering::Relaxed);
        if let Some(number) = from {
            self.generations.list().reject(number, problem);
        }
        self.is_now(Some(to));
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
