//! Processes that an agent has left behind, found by what it recorded of them, and by a variable in their environment
//! (proc_pid_environ(5)).
//!
//! It finds, signals and watches them; who is an orphan, and how long one is waited for, is the caller's business.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::process_id::{Entry, ProcessId};
use super::wait::{Waitable, wait};
use crate::os::files;

#[derive(Debug)]
pub struct Orphan {
    id: ProcessId,
    pidfd: OwnedFd,
}

impl Orphan {
    /// `None` when it has ended.
    fn open(id: ProcessId) -> Option<Orphan> {
        let pid = Pid::from_raw(id.pid.cast_signed())?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Again, since the number may have become another's.
        (Entry::of(pid)?.id == id).then_some(Orphan { id, pidfd })
    }

    pub fn id(&self) -> u32 {
        self.id.pid
    }

    /// SIGTERM. One that has ended meanwhile is no failure.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
        // One that was suspended could not act on it.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::CONT);
    }

    /// Ready when it has ended.
    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.pidfd)
    }

    /// False also when the system cannot say.
    pub fn has_ended(&self) -> bool {
        wait(&[self.waitable()], Some(Instant::now())).unwrap_or(false)
    }
}

/// The processes that were recorded and still live, those with this value of this variable that nobody else has
/// started, and what they have started.
///
/// Not this process, and not those that it descends from: a collector's script may be what starts this agent. And no
/// process that has a file of the name `lock` open, nor what it has started: it is an agent of its own.
pub fn find(recorded: &[ProcessId], variable: &str, value: &str, lock: &str) -> Vec<Orphan> {
    let table = Entry::all();
    let own = lineage(&table);
    let search = Search { recorded, table: &table, own: &own, mark: &format!("{variable}={value}"), lock };
    let mut found: Vec<Entry> = Vec::new();
    let is_root = |entry: &Entry| {
        recorded.contains(&entry.id) || has_mark(entry.id.pid, search.mark) && !search.is_anothers(*entry)
    };
    let mut next: Vec<Entry> = table.iter().copied().filter(is_root).collect();
    while let Some(entry) = next.pop() {
        let is_agent = || !recorded.contains(&entry.id) && has_open(entry.id.pid, lock);
        if !found.iter().any(|known| known.id == entry.id) && !is_agent() {
            found.push(entry);
            next.extend(table.iter().filter(|child| child.parent == entry.id.pid));
        }
    }
    found.retain(|entry| !entry.has_ended && !own.contains(&entry.id.pid));
    found.iter().filter_map(|entry| Orphan::open(entry.id)).collect()
}

struct Search<'a> {
    recorded: &'a [ProcessId],
    table: &'a [Entry],
    /// This process and those that it descends from.
    own: &'a [u32],
    mark: &'a str,
    lock: &'a str,
}

impl Search<'_> {
    /// Whether a process has its variable from a copy of the environment, as an operator's shell may: it, or what it
    /// descends from by way of processes that have it too, leads a terminal's session, is an agent, or was started by
    /// a process that has it not. What is left behind has no such parent, but init or what else adopts: one that this
    /// agent descends from too, if it was started as the one before, and that is not of its session.
    fn is_anothers(&self, mut entry: Entry) -> bool {
        // As many as there are, since a number that was given out again could close a circle.
        for _ in self.table {
            if self.recorded.iter().any(|id| *id == entry.id || id.pid == entry.group) {
                return false;
            }
            if entry.has_terminal && entry.session == entry.id.pid || has_open(entry.id.pid, self.lock) {
                return true;
            }
            let parent = self.table.iter().find(|parent| parent.id.pid == entry.parent && parent.id.pid != 1);
            match parent {
                None => return false,
                Some(parent) if !has_mark(parent.id.pid, self.mark) => {
                    return parent.session == entry.session || !self.own.contains(&parent.id.pid);
                }
                Some(parent) => entry = *parent,
            }
        }
        false
    }
}

/// Whether a process has a file of this name open, as far as that can be seen.
fn has_open(pid: u32, name: &str) -> bool {
    let descriptors = PathBuf::from(format!("/proc/{pid}/fd"));
    let mut links = super::files::names_in_proc(&descriptors)
        .filter_map(|descriptor| fs_err::read_link(descriptors.join(descriptor)).ok());
    links.any(|target| target.file_name().is_some_and(|own| own == name))
}

/// This process, its parent, and so on.
fn lineage(table: &[Entry]) -> Vec<u32> {
    let mut lineage = vec![std::process::id()];
    while let Some(entry) = table.iter().find(|entry| Some(&entry.id.pid) == lineage.last())
        && !lineage.contains(&entry.parent)
    {
        lineage.push(entry.parent);
    }
    lineage
}

/// A process that cannot be read is another user's, or has rights that we have not; one without an environment is a
/// zombie or the kernel's.
fn has_mark(pid: u32, mark: &str) -> bool {
    let environment =
        files::read(&PathBuf::from(format!("/proc/{pid}/environ")), files::MAX_KERNEL_FILE).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
}
