//! What our children start and leave behind. It becomes a child of ours, whatever group, session or environment it
//! gives itself (PR_SET_CHILD_SUBREAPER, prctl(2)): so it can be found, ended and reaped.
//!
//! ```text
//!   known     children that we have started: `child` reaps them, and nothing here touches them
//!   given     children that this program had when it was executed, as of a shell that became it: never killed
//!   adopted   every other child: reaped when it has ended; killed when `end` is asked to
//! ```
//! `known` is locked from before a fork until the child is in it. So who has the lock sees each child as what it
//! is, and as nobody else reaps what was adopted, its number stays its own while the lock is held. No wait takes any
//! child that comes along, which would take the status of one of ours.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid};

use super::process_id::{Entry, ProcessId};
use super::sys::signals;
use super::wait::{Waitable, wait};
use crate::os::files;

/// How soon it is looked again, where the kernel has no pidfd_open(2) (before 5.3).
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The largest one that there is (proc_pid_oom_score_adj(5)). Kubernetes gives it to a pod without requests.
const MAX_RANK: i32 = 1000;

static CHILDREN: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static GIVEN: OnceLock<Vec<ProcessId>> = OnceLock::new();

/// Which of those that were adopted.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    All,
    /// Those of this rank, see `child::rank_out_of_memory`. A child inherits it whatever else it changes, and only root
    /// can lower it.
    Ranked(i32),
    /// Those that were started before this one.
    Before(ProcessId),
}

/// A child of ours that nothing here touches, until this is dropped.
#[derive(Debug)]
pub struct Known(Pid);

/// Starts a child by `spawn`, which returns its number.
pub fn start<T>(spawn: impl FnOnce() -> io::Result<(T, Pid)>) -> io::Result<(T, Known)> {
    let mut known = lock();
    let (child, pid) = spawn()?;
    known.push(pid);
    Ok((child, Known(pid)))
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut known = lock();
        if let Some(index) = known.iter().position(|pid| *pid == self.0) {
            known.swap_remove(index);
        }
    }
}

fn lock() -> MutexGuard<'static, Vec<Pid>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on what is orphaned below us becomes ours, or no more. Whether it was so before. It fails on no kernel that
/// runs us (Linux 3.4). To be called before the first child is started.
pub fn adopt(adopts: bool) -> bool {
    GIVEN.get_or_init(|| children().into_iter().filter_map(|pid| Some(Entry::of(pid)?.id)).collect());
    let before = matches!(rustix::process::child_subreaper(), Ok(Some(_)));
    let _ = rustix::process::set_child_subreaper(adopts.then(getpid));
    before
}

/// Reaps what was adopted and has ended; never blocks, and reads nothing in /proc. Whoever starts or reaps a child
/// meanwhile does this afterwards.
pub(super) fn reap() {
    let known = match CHILDREN.try_lock() {
        Ok(known) => known,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    while let Some(pid) = signals::ended_child().filter(|pid| !known.contains(pid)) {
        if rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_err() {
            return;
        }
    }
}

/// Whether a child of ours that was adopted lives in a group whose leader is reaped. It reads nothing in /proc.
pub(super) fn has_group(group: Pid) -> bool {
    // Who looks at what was adopted meanwhile counts on its numbers.
    let _known = lock();
    loop {
        match rustix::process::waitid(WaitId::Pgid(Some(group)), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            // One that has ended is reaped, and another one may live.
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Sends SIGTERM to what was adopted, but for `group` and those of `asked`, to which the others are added; whether any
/// of all that lives. `None` where the kernel does not list children.
pub(super) fn ask_to_end(group: Pid, asked: &mut Vec<u32>) -> Option<bool> {
    let children = listed_children()?;
    let known = lock();
    let mut lives = false;
    for pid in children.into_iter().filter(|pid| !known.contains(pid)) {
        if !is_left(pid) {
            continue;
        }
        lives = true;
        let number = pid.as_raw_nonzero().get().cast_unsigned();
        if !asked.contains(&number) && rustix::process::getpgid(Some(pid)) != Ok(group) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            let _ = rustix::process::kill_process(pid, Signal::CONT);
            asked.push(number);
        }
    }
    Some(lives)
}

/// Whether one that was a child of ours, and not known, when it was listed lives. If it has ended it is reaped; an
/// error means that it is no child of ours.
fn is_left(pid: Pid) -> bool {
    let ended = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    matches!(ended, Ok(None) | Err(Errno::INTR)) && !is_given(pid)
}

/// Kills them and what they leave behind in turn, and waits until all of it has ended, but no longer than `patience`.
/// It reads a file in /proc for each child, where the kernel lists them; else (no CONFIG_PROC_CHILDREN) for each
/// process of the host: so not where a collector may be waiting. Whether there were any.
pub fn end(which: Which, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut killed: Vec<u32> = Vec::new();
    loop {
        let left = kill(which);
        killed.extend(left.iter().map(|(pid, _)| pid).filter(|pid| !killed.contains(pid)).collect::<Vec<_>>());
        if left.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            let pids: Vec<u32> = left.iter().map(|(pid, _)| *pid).collect();
            log::error!(pids:? = pids; "processes that a child left behind do not exit: kill them, or reboot");
            return true;
        }
        let pidfds: Vec<Waitable<'_>> =
            left.iter().filter_map(|(_, pidfd)| pidfd.as_ref()).map(Waitable::to_read).collect();
        let until = if pidfds.len() == left.len() { deadline } else { deadline.min(Instant::now() + CHECK_INTERVAL) };
        let _ = wait(&pidfds, Some(until));
    }
    if !killed.is_empty() {
        log::info!(pids:? = killed; "killed processes that a child left behind");
    }
    !killed.is_empty()
}

/// Reaps what has ended; the others, signalled, with what tells their end.
fn kill(which: Which) -> Vec<(u32, Option<OwnedFd>)> {
    let children = children();
    let known = lock();
    let adopted = children.into_iter().filter(|pid| !known.contains(pid));
    let left = adopted.filter_map(|pid| {
        if !is_left(pid) || !which.includes(pid) {
            return None;
        }
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        Some((pid.as_raw_nonzero().get().cast_unsigned(), pidfd))
    });
    left.collect()
}

fn is_given(pid: Pid) -> bool {
    let given = GIVEN.get().map(Vec::as_slice).unwrap_or_default();
    !given.is_empty() && Entry::of(pid).is_some_and(|entry| given.contains(&entry.id))
}

impl Which {
    fn includes(self, pid: Pid) -> bool {
        match self {
            Which::All => true,
            Which::Ranked(rank) => out_of_memory_rank(&pid.to_string()) == Some(rank),
            Which::Before(other) => Entry::of(pid).is_some_and(|entry| entry.id.started < other.started),
        }
    }
}

pub(super) fn out_of_memory_rank(process: &str) -> Option<i32> {
    let path = PathBuf::from(format!("/proc/{process}/oom_score_adj"));
    files::read_text(&path, files::MAX_KERNEL_FILE).ok()?.trim().parse().ok()
}

/// A rank that no child has which is to have at least `rank`; `None` where there is none.
pub fn rank_above(rank: i32) -> Option<i32> {
    let inherited = out_of_memory_rank("self").unwrap_or_default();
    Some(inherited.max(rank) + 1).filter(|rank| *rank <= MAX_RANK)
}

/// All children of all our threads.
fn children() -> Vec<Pid> {
    listed_children().unwrap_or_else(|| {
        let own = std::process::id();
        let entries = Entry::all().into_iter().filter(|entry| entry.parent == own);
        entries.filter_map(|entry| Pid::from_raw(entry.id.pid.cast_signed())).collect()
    })
}

/// The same, where the kernel lists them: a small file for each thread (proc_tid_children(5)).
fn listed_children() -> Option<Vec<Pid>> {
    let tasks = Path::new("/proc/self/task");
    let list = |task: &Path| files::read_text(&task.join("children"), files::MAX_KERNEL_FILE);
    list(&tasks.join(getpid().to_string())).ok()?;
    let lists = super::files::names_in_proc(tasks).filter_map(|task| list(&tasks.join(task)).ok());
    Some(lists.flat_map(|list| list.split_whitespace().filter_map(parse).collect::<Vec<_>>()).collect())
}

fn parse(pid: &str) -> Option<Pid> {
    Pid::from_raw(pid.parse().ok()?)
}
