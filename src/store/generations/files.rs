//! The files of the generations: `generations.json`, which is the list, and a file for each config in `generations`.
//!
//! A config's file is on disk before the list names it, and goes after the list no longer does. Two threads change the
//! list, and either may write it: what is written is what it is by then. No lock is held by who writes that the other
//! thread needs to go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use serde::Deserialize;

use super::list::List;
use super::unread::is_only_unread;
use super::{Generation, Limits, Origin, Standing};
use crate::config::value::Value;
use crate::config::yaml;
use crate::os::files::{Directory, Place, is_absent, named, safe_open};
use crate::store::atomic;
use crate::store::record::unix_now;

pub(super) const LIST: &str = "generations.json";
const DIRECTORY: &str = "generations";
/// Bytes of the list: each entry may hold a problem, as a record does.
pub(super) const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Of a generation that has no file of its own yet; nothing if it is gone: changed again, by hand, since it was seen.
pub(in crate::store) type Content = io::Result<Option<Vec<u8>>>;

/// What the list's file has.
#[derive(Deserialize)]
pub(super) struct Kept {
    #[serde(default)]
    last_number: u64,
    pub(super) generations: Vec<Generation>,
}

#[derive(Debug)]
pub(in crate::store) struct Generations {
    pub(super) state_dir: PathBuf,
    /// And how many bytes a config may have.
    limits: Mutex<(Limits, u64)>,
    list: Mutex<List>,
    /// Held by who writes; false when nothing is to be written.
    disk: Mutex<bool>,
}

impl Generations {
    pub(in crate::store) fn new(state_dir: &Path, limits: Limits, max_bytes: u64) -> Generations {
        Generations {
            state_dir: state_dir.to_path_buf(),
            limits: Mutex::new((limits, max_bytes)),
            list: Mutex::default(),
            disk: Mutex::new(true),
        }
    }

    pub(in crate::store) fn limit(&self, limits: Limits, max_bytes: u64) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = (limits, max_bytes);
    }

    fn limits(&self) -> (Limits, u64) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the files stay as they are.
    pub(in crate::store) fn freeze(&self) {
        *self.disk() = false;
    }

    pub(in crate::store) fn is_frozen(&self) -> bool {
        !*self.disk()
    }

    fn disk(&self) -> MutexGuard<'_, bool> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> PathBuf {
        self.state_dir.join(DIRECTORY)
    }

    pub(in crate::store) fn path(&self, number: u64) -> PathBuf {
        self.directory().join(format!("{number}.yaml"))
    }

    fn place(&self, number: u64) -> io::Result<Place> {
        Place::new(&self.path(number))
    }

    /// # Errors
    /// They name the path.
    pub(in crate::store) fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        self.place(number)?.read(self.limits().1)
    }

    fn bytes(&self, number: u64) -> u64 {
        self.place(number).and_then(|place| place.look()).ok().flatten().map_or(0, |meta| meta.len())
    }

    /// The newest that has this content.
    pub(in crate::store) fn find_content(&self, bytes: &[u8]) -> Option<u64> {
        let kept = |it: &&Generation| !it.is_unkept;
        let numbers: Vec<u64> = self.list().all().iter().filter(kept).map(|it| it.number).collect();
        let is_same =
            |number: &u64| self.bytes(*number) == bytes.len() as u64 && self.read(*number).is_ok_and(|it| it == bytes);
        numbers.into_iter().rev().find(is_same)
    }

    /// Reads the list, and leaves no config in the directory that it does not name. Where that is no list the files
    /// are taken for what has proved itself: one of them may be the only one that did. One that cannot be read may be
    /// later, and stays as it is until then. False if nothing is known.
    pub(in crate::store) fn open(&self) -> bool {
        let path = self.state_dir.join(LIST);
        let list = match safe_open::read(&path, MAX_BYTES) {
            // Without the list nothing is confirmed any more: not for an error that passes.
            Err(error) if !is_absent(&error) => safe_open::read(&path, MAX_BYTES),
            list => list,
        };
        let is_new = matches!(&list, Err(error) if is_absent(error));
        if let Err(error) = &list
            && is_only_unread(error)
        {
            log::error!(path:% = path.display(), error:%; "cannot read the list of generations; it is not changed");
            let mut list = self.list();
            // No number that it has.
            list.last_number = unix_now();
            (list.is_unread, list.is_unwritten) = (true, true);
            return false;
        }
        let kept = list.and_then(|bytes| Ok(serde_json::from_slice::<Kept>(&bytes)?));
        let is_writable = *self.disk();
        let directory = Directory::open(&self.directory());
        let mut list = self.list();
        match kept {
            Ok(mut kept) => {
                kept.generations.sort_by_key(|it| it.number);
                list.last_number = kept.generations.last().map_or(0, |last| last.number).max(kept.last_number);
                // One whose file is missing is of no use.
                kept.generations.retain(|it| !matches!(self.place(it.number).and_then(|it| it.look()), Ok(None)));
                list.generations = kept.generations;
                let numbers = directory.iter().flat_map(Directory::names).filter_map(|name| number_of(&name));
                let strays: Vec<u64> = numbers.filter(|number| is_writable && list.find(*number).is_none()).collect();
                for number in strays {
                    let _ = self.place(number).and_then(|place| place.remove());
                }
            }
            Err(error) => {
                let mut numbers: Vec<u64> =
                    directory.iter().flat_map(Directory::names).filter_map(|name| number_of(&name)).collect();
                numbers.sort_unstable();
                if !is_new {
                    log::warn!(path:% = path.display(), error:%; "cannot read the list of generations; making it anew");
                }
                for number in numbers {
                    let standing = Standing::Unconfirmed { exits: 0, starts: 0 };
                    let generation = Generation::new(None, Origin::Before, unix_now(), standing);
                    list.generations.push(Generation { number, is_unkept: false, ..generation });
                    list.last_number = number;
                    list.is_unwritten = true;
                }
                // From now on a file that is in no list is one whose agent was killed before it wrote that.
                let is_known = directory.as_ref().err().is_none_or(is_absent);
                if is_new && is_known && list.all().is_empty() && is_writable {
                    let _ = self.write_list(0, &[]);
                }
            }
        }
        !is_new
    }

    /// Adds one whose content is here; it is in the list even if that cannot be written.
    ///
    /// # Errors
    /// They name the path.
    pub(in crate::store) fn add(&self, generation: Generation, bytes: &[u8]) -> (u64, io::Result<()>) {
        let number = self.list().add(generation);
        let disk = self.disk();
        let written = if *disk { self.write_content(number, bytes) } else { Ok(()) };
        if written.is_ok()
            && let Some(generation) = self.list().find_mut(number)
        {
            generation.is_unkept = false;
        }
        (number, written)
    }

    /// Where there is no space the generations that are needed least go, one after the other. Each has a file of its
    /// own: one with a second name would stay root's when a start script gives the directory to the agent's user.
    fn write_content(&self, number: u64, bytes: &[u8]) -> io::Result<()> {
        loop {
            let Err(error) = atomic::write(&self.path(number), bytes) else { return Ok(()) };
            let least = self.list().least_needed();
            let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let Some(least) = least.filter(|_| is_full) else { return Err(error) };
            self.list().remove(least);
            self.place(least)?.remove()?;
        }
    }

    /// Writes the list if it is not what its file has, and before it what has no file of its own yet; and parses what
    /// has not been.
    ///
    /// # Errors
    /// They name the path. What could not be written is tried again by the next call.
    pub(in crate::store) fn save(&self, content: impl Fn(&Generation) -> Content) -> io::Result<()> {
        let disk = self.disk();
        self.save_held(&disk, content)?;
        let unparsed = self.list().unparsed();
        for &number in &unparsed {
            self.parse(number);
        }
        if unparsed.is_empty() { Ok(()) } else { self.save_held(&disk, |_| Ok(None)) }
    }

    /// Finds out the revision of one that has not been parsed yet: of a large config that takes seconds.
    pub(in crate::store) fn parse(&self, number: u64) {
        let config = self.read(number).ok().and_then(|bytes| yaml::parse(&bytes).ok());
        self.list().set_revision(number, config.map(|config| config.revision()));
    }

    /// As `save`, but nothing is parsed; `None` if another thread is writing.
    pub(in crate::store) fn try_save(&self, content: impl Fn(&Generation) -> Content) -> Option<io::Result<()>> {
        match self.disk.try_lock() {
            Ok(disk) => Some(self.save_held(&disk, content)),
            Err(TryLockError::Poisoned(disk)) => Some(self.save_held(&disk.into_inner(), content)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn save_held(&self, disk: &bool, content: impl Fn(&Generation) -> Content) -> io::Result<()> {
        if !disk || !self.list().is_unwritten {
            return Ok(());
        }
        self.read_late()?;
        let kept = self.keep_contents(content);
        let numbers: Vec<u64> = self.list().all().iter().map(|it| it.number).collect();
        let sizes: Vec<(u64, u64)> = numbers.into_iter().map(|number| (number, self.bytes(number))).collect();
        let size = |number| sizes.iter().find(|(of, _)| *of == number).map_or(0, |(_, bytes)| *bytes);
        let (last_number, generations, dropped) = {
            let mut list = self.list();
            list.excess(self.limits().0, size).into_iter().for_each(|number| list.remove(number));
            list.is_unwritten = false;
            let generations: Vec<Generation> = list.generations.iter().filter(|it| !it.is_unkept).cloned().collect();
            (list.last_number, generations, std::mem::take(&mut list.dropped))
        };
        if let Err(error) = self.write_list(last_number, &generations) {
            let mut list = self.list();
            list.is_unwritten = true;
            list.dropped.extend(dropped);
            return Err(error);
        }
        let mut removed = Ok(());
        for number in dropped {
            removed = removed.and(self.remove_file(number).inspect_err(|_| {
                let mut list = self.list();
                list.dropped.push(number);
                list.is_unwritten = true;
            }));
        }
        kept.inspect_err(|_| self.list().is_unwritten = true).and(removed)
    }

    fn remove_file(&self, number: u64) -> io::Result<()> {
        let unnamed = |error| named(&self.path(number), error);
        let removed = self.place(number).and_then(|place| place.remove().map_err(unnamed));
        removed.or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) })
    }

    fn write_list(&self, last_number: u64, generations: &[Generation]) -> io::Result<()> {
        let generations = serde_json::to_string(generations)?;
        let text = format!("{{\"last_number\":{last_number},\"generations\":{generations}}}\n").into_bytes();
        atomic::write(&self.state_dir.join(LIST), &text)
    }

    fn keep_contents(&self, content: impl Fn(&Generation) -> Content) -> io::Result<()> {
        let unkept: Vec<Generation> = self.list().all().iter().filter(|it| it.is_unkept).cloned().collect();
        // A candidate that could not be kept can be once it is installed.
        for generation in unkept.into_iter().filter(|it| it.file.is_some()) {
            let Some(bytes) = content(&generation)? else {
                self.list().remove(generation.number);
                continue;
            };
            self.write_content(generation.number, &bytes)?;
            if let Some(kept) = self.list().find_mut(generation.number) {
                kept.is_unkept = false;
            }
        }
        Ok(())
    }

    /// Takes over a file of an earlier version, unless it has been. True if it is to be removed when the list is
    /// written.
    pub(in crate::store) fn take_over(&self, place: &Place, standing: Standing) -> io::Result<bool> {
        let Some(found) = place.look()?.filter(std::fs::Metadata::is_file) else { return Ok(false) };
        let bytes = place.read(self.limits().1)?;
        // Cut off by a power failure, say: a roll back would go to it.
        if standing == Standing::Confirmed && !matches!(yaml::parse(&bytes), Ok(Value::Object(_))) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "it is no config: remove it");
            return Err(named(&place.path(), error));
        }
        if let Some(number) = self.find_content(&bytes) {
            if standing == Standing::Confirmed {
                self.list().set_standing(number, standing);
            }
            return Ok(true);
        }
        let since = found.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let installed_at = since.map_or_else(unix_now, |since| since.as_secs());
        let generation = Generation::new(None, Origin::Before, installed_at, standing);
        let (number, written) = self.add(generation, &bytes);
        if let Err(error) = written {
            self.list().remove(number);
            return Err(error);
        }
        Ok(true)
    }

    pub(in crate::store) fn sweep(&self, mark: &str) {
        if let Ok(directory) = Directory::open(&self.directory()) {
            atomic::sweep(&directory, mark);
        }
    }

    /// Why a roll back finds nothing.
    pub(in crate::store) fn no_fallback(&self) -> io::Error {
        named(&self.directory(), io::Error::new(io::ErrorKind::NotFound, "it has no config that has proved itself"))
    }
}

fn number_of(name: &std::ffi::OsStr) -> Option<u64> {
    name.to_str()?.strip_suffix(".yaml")?.parse().ok()
}
