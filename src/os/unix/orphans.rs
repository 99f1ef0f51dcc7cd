//! Processes that an agent has left behind, found by what it recorded of them, and by their environment
//! (proc_pid_environ(5)).
//!
//! It finds, signals and watches them; who is an orphan, and how long one is waited for, is the caller's business.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal};

use super::descendants;
use super::process_id::{self, Entry, ProcessId};
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

/// What tells one that an agent has left behind.
pub struct Marks<'a> {
    /// The processes that it has started. What is left of their groups is theirs, too.
    pub recorded: &'a [ProcessId],
    /// Whether the variables of an environment are those that it gives to them.
    pub has_environment: &'a dyn Fn(&[&[u8]]) -> bool,
    /// The rank that the kernel inherits to all that they start (oom_score_adj, proc_pid_oom_score_adj(5)), at least.
    pub rank: i32,
    /// The name of the file that an agent holds locked.
    pub lock: &'a str,
}

/// The processes that were recorded and still live, those that are marked and that nobody else has started, and what
/// they have started.
///
/// Not this process, and not those that it descends from: a collector's script may be what starts this agent. And no
/// process that holds a lock, nor what it has started: it is an agent of its own.
pub fn find(marks: &Marks<'_>) -> Vec<Orphan> {
    let table = Entry::all();
    let own = lineage(&table);
    let search = Search { marks, table: &table, own: &own };
    let is_recorded = |entry: &Entry| marks.recorded.contains(&entry.id);
    let is_root = |entry: &Entry| is_recorded(entry) || search.is_left_in_group(entry) || search.is_marked(entry);
    let mut found: Vec<Entry> = Vec::new();
    let mut next: Vec<Entry> = table.iter().copied().filter(is_root).collect();
    while let Some(entry) = next.pop() {
        let is_agent = || !is_recorded(&entry) && holds(entry.id.pid, marks.lock);
        if !found.iter().any(|known| known.id == entry.id) && !is_agent() {
            found.push(entry);
            next.extend(table.iter().filter(|child| child.parent == entry.id.pid));
        }
    }
    found.retain(|entry| !entry.has_ended && !own.contains(&entry.id.pid));
    found.iter().filter_map(|entry| Orphan::open(entry.id)).collect()
}

struct Search<'a> {
    marks: &'a Marks<'a>,
    table: &'a [Entry],
    /// This process and those that it descends from.
    own: &'a [u32],
}

impl Search<'_> {
    /// Whether its group is that of a recorded process that has ended. As long as the group is there, no process gets
    /// its number; should it have emptied meanwhile, what leads a session has taken that.
    fn is_left_in_group(&self, entry: &Entry) -> bool {
        self.marks.recorded.iter().any(|id| id.pid == entry.group && entry.id.started >= id.started)
            && !self.table.iter().any(|leader| leader.id.pid == entry.group && !leader.has_ended)
            && entry.session != entry.group
            && self.has_rank(entry)
    }

    fn is_marked(&self, entry: &Entry) -> bool {
        // What few have first: each is a file to read, of every process of the host.
        self.has_rank(entry)
            && self.is_of_our_user(entry)
            && self.has_environment(entry.id.pid)
            && !self.is_anothers(*entry)
    }

    /// Another user could have root wait for a process that is marked, and for whatever it has open.
    fn is_of_our_user(&self, entry: &Entry) -> bool {
        process_id::users(entry.id.pid).is_some_and(|[user, _]| user == rustix::process::geteuid().as_raw())
    }

    fn has_rank(&self, entry: &Entry) -> bool {
        descendants::out_of_memory_rank(&entry.id.pid.to_string()).is_some_and(|rank| rank >= self.marks.rank)
    }

    /// A process that cannot be read is another user's, or has rights that we have not; one without an environment is a
    /// zombie or the kernel's.
    fn has_environment(&self, pid: u32) -> bool {
        let path = PathBuf::from(format!("/proc/{pid}/environ"));
        let environment = files::read(&path, files::MAX_KERNEL_FILE).unwrap_or_default();
        let variables: Vec<&[u8]> = environment.split(|&byte| byte == 0).collect();
        (self.marks.has_environment)(&variables)
    }

    /// Whether a process has its variable from a copy of the environment, as an operator's shell may: it, or what it
    /// descends from by way of processes that have it too, leads a terminal's session, is an agent, or was started by
    /// a process that has it not. What is left behind has no such parent, but init or what else adopts: one that this
    /// agent descends from too, if it was started as the one before, and that is not of its session.
    fn is_anothers(&self, mut entry: Entry) -> bool {
        // As many as there are, since a number that was given out again could close a circle.
        for _ in self.table {
            if self.marks.recorded.iter().any(|id| *id == entry.id || id.pid == entry.group) {
                return false;
            }
            if entry.has_terminal && entry.session == entry.id.pid || holds(entry.id.pid, self.marks.lock) {
                return true;
            }
            let parent = self.table.iter().find(|parent| parent.id.pid == entry.parent && parent.id.pid != 1);
            match parent {
                // Also of one that cannot be seen, or is in another namespace.
                None => return entry.parent != 1,
                Some(parent) if !self.has_environment(parent.id.pid) => {
                    return parent.session == entry.session || !self.own.contains(&parent.id.pid);
                }
                Some(parent) => entry = *parent,
            }
        }
        false
    }
}

/// Whether a process holds a file of this name locked, as far as that can be seen; not if it has only inherited it.
fn holds(pid: u32, name: &str) -> bool {
    let descriptors = PathBuf::from(format!("/proc/{pid}/fd"));
    super::files::names_in_proc(&descriptors).any(|descriptor| {
        let path = descriptors.join(descriptor);
        let is_named = fs_err::read_link(&path).is_ok_and(|target| {
            let own = target.file_name().and_then(OsStr::to_str).unwrap_or_default();
            // As the kernel calls one that was removed.
            own.strip_suffix(" (deleted)").unwrap_or(own) == name
        });
        is_named && files::open_regular(&path).is_ok_and(|file| files::lock_holder(&file) == Some(pid))
    })
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
