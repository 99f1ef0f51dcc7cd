//! Which process it is: a number and when that was given out, since the number alone is given to another one day
//! (proc_pid_stat(5)).

use std::path::{Path, PathBuf};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::os::files;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// In clock ticks since the host was booted.
    pub started: u64,
}

impl ProcessId {
    /// `None` when there is no such process, or no /proc.
    pub fn of(pid: u32) -> Option<ProcessId> {
        Pid::from_raw(pid.cast_signed()).and_then(Entry::of).map(|entry| entry.id)
    }

    /// One that has ended and was not reaped does not live.
    pub fn is_alive(self) -> bool {
        let found = Pid::from_raw(self.pid.cast_signed()).and_then(Entry::of);
        found.is_some_and(|entry| entry.id == self && !entry.has_ended)
    }
}

/// A line of what the kernel says of a process, without its name (proc_pid_status(5)).
pub(super) fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = files::read_text(&PathBuf::from(format!("/proc/{pid}/status")), files::MAX_KERNEL_FILE).ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_string()))
}

/// Whom it runs for: its real and its effective user.
pub(super) fn users(pid: u32) -> Option<[u32; 2]> {
    let ids = status_field(pid, "Uid")?;
    let mut ids = ids.split_whitespace().map(str::parse);
    Some([ids.next()?.ok()?, ids.next()?.ok()?])
}

/// Another one after each boot, when numbers and times begin anew; `None` where the kernel does not say.
pub fn boot() -> Option<String> {
    let text = files::read_text(Path::new("/proc/sys/kernel/random/boot_id"), files::MAX_KERNEL_FILE).ok()?;
    Some(text.trim().to_string())
}

/// What the kernel's table says of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub id: ProcessId,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    /// The session's.
    pub has_terminal: bool,
    /// A zombie.
    pub has_ended: bool,
}

impl Entry {
    pub fn of(pid: Pid) -> Option<Entry> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        parse(&files::read(&path, files::MAX_KERNEL_FILE).ok()?)
    }

    /// Of every process that can be seen. It reads a file of each, so not where a collector may be waiting.
    pub fn all() -> Vec<Entry> {
        let pids = super::files::names_in_proc(Path::new("/proc"))
            .filter_map(|name| Pid::from_raw(name.to_str()?.parse().ok()?));
        pids.filter_map(Entry::of).collect()
    }
}

/// `pid (name) state ppid pgrp session tty …`, the start is the 22nd. The name can be anything, parentheses too.
fn parse(stat: &[u8]) -> Option<Entry> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let pid = std::str::from_utf8(stat.split(|&byte| byte == b' ').next()?).ok()?;
    let rest: Vec<&str> = std::str::from_utf8(&stat[end + 1..]).ok()?.split_whitespace().collect();
    let id = ProcessId { pid: pid.parse().ok()?, started: rest.get(19)?.parse().ok()? };
    let number = |index: usize| rest.get(index)?.parse().ok();
    Some(Entry {
        id,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        has_terminal: *rest.get(4)? != "0",
        has_ended: matches!(*rest.first()?, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_whatever_the_name_of_its_process() {
        let rest = "S 41 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3\n";
        for name in ["x", "a b", ") S 1 (", "\u{e9})"] {
            let entry = parse(format!("42 ({name}) {rest}").as_bytes()).unwrap();
            assert_eq!((entry.id, entry.parent), (ProcessId { pid: 42, started: 98765 }, 41), "{name}");
            assert!(!entry.has_ended);
        }
        assert!(parse(b"42 (\xff) Z 41 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1\n").unwrap().has_ended);
        assert!(parse(b"42 (x) S 1").is_none() && parse(b"").is_none());
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let own = ProcessId::of(std::process::id()).unwrap();
        assert!(own.is_alive() && !ProcessId { started: own.started + 1, ..own }.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = ProcessId::of(child.id()).unwrap();
        while ended.is_alive() {
            std::thread::yield_now();
        }
        assert!(ProcessId::of(child.id()) == Some(ended), "it is not reaped, so its number is still its own");
        child.wait().unwrap();
        assert!(boot().is_some_and(|boot| boot.len() == 36));
    }
}
