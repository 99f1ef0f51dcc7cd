//! What Linux tells about processes and ports (proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// A process or one of its threads, as `/proc/<pid>/status` has it.
#[derive(Clone, Debug)]
pub struct Status(BTreeMap<String, String>);

impl Status {
    fn read(path: impl AsRef<Path>) -> Option<Status> {
        let text = fs::read_to_string(path).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Some(Status(fields.map(|(key, value)| (key.to_string(), value.trim().to_string())).collect()))
    }

    /// A field's text, `""` when the kernel has no such field.
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A field's number, in the unit that the kernel uses (KiB for memory).
    pub fn number(&self, name: &str) -> u64 {
        let first = self.field(name).split_whitespace().next();
        first.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number in {name} of {:?}", self.0))
    }

    /// `R`, `S`, `T` (stopped), `Z` (zombie) …
    pub fn state(&self) -> char {
        self.field("State").chars().next().unwrap_or('?')
    }

    /// Voluntary and involuntary ones.
    pub fn context_switches(&self) -> u64 {
        self.number("voluntary_ctxt_switches") + self.number("nonvoluntary_ctxt_switches")
    }
}

/// `None` once the process is gone.
pub fn status(pid: u32) -> Option<Status> {
    Status::read(format!("/proc/{pid}/status"))
}

/// Each thread of the process, by its id.
pub fn tasks(pid: u32) -> Vec<(u32, Status)> {
    numbers_in(&format!("/proc/{pid}/task"))
        .filter_map(|tid| Some((tid, Status::read(format!("/proc/{pid}/task/{tid}/status"))?)))
        .collect()
}

/// How often any thread of the process was switched to, so far. An idle process does not add to it.
pub fn context_switches(pid: u32) -> u64 {
    tasks(pid).iter().map(|(_, task)| task.context_switches()).sum()
}

/// `rchar`, `wchar`, `syscr`, `syscw`, `read_bytes`, `write_bytes` …
pub fn io(pid: u32) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let fields = text.lines().filter_map(|line| line.split_once(": "));
    fields.filter_map(|(key, value)| Some((key.to_string(), value.parse().ok()?))).collect()
}

/// How many descriptors the process has open; `None` where we may not look: the agent lets nobody but root look into
/// it.
pub fn descriptors(pid: u32) -> Option<usize> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok().map(Iterator::count)
}

/// Whether the process exists and has not died (a zombie has).
pub fn alive(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

pub fn parent(pid: u32) -> Option<u32> {
    state_and_parent(pid).map(|(_, parent)| parent)
}

/// Of `/proc/<pid>/stat`, since this is asked of every process of the host, again and again: after the name, which may
/// hold anything.
fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[end_of_name + 1..]).ok()?.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

pub fn command_line(pid: u32) -> Vec<String> {
    strings_in(format!("/proc/{pid}/cmdline"))
}

/// The environment that the process was started with, `KEY=value` each.
pub fn environment(pid: u32) -> Vec<String> {
    strings_in(format!("/proc/{pid}/environ"))
}

/// Every live process whose start environment has this `KEY=value`: children inherit it however they detach themselves.
pub fn marked(mark: &str) -> Vec<u32> {
    let has_mark = |environment: Vec<u8>| environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes());
    let is_marked = |pid: &u32| fs::read(format!("/proc/{pid}/environ")).is_ok_and(has_mark);
    numbers_in("/proc").filter(|pid| is_marked(pid) && alive(*pid)).collect()
}

/// Live children, and their children, and so on.
pub fn descendants(pid: u32) -> Vec<u32> {
    let all = numbers_in("/proc").filter_map(|pid| Some((pid, state_and_parent(pid)?)));
    let alive: Vec<(u32, u32)> =
        all.filter(|(_, (state, _))| !matches!(state, 'Z' | 'X')).map(|(pid, (_, parent))| (pid, parent)).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        found
            .extend(alive.iter().filter(|(_, parent)| *parent == found[next]).map(|(pid, _)| *pid).collect::<Vec<_>>());
        next += 1;
    }
    found.split_off(1)
}

/// Sends a signal; false when there is no such process.
pub fn signal(pid: u32, signal: Signal) -> bool {
    Pid::from_raw(pid as i32).is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// A free port that nobody else in this process is given. It lies below the range from which Linux takes the local
/// ports of outgoing connections (32768 and up, ip(7)), so that it is still free when a collector binds it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (step % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Whether this very process listens on a port of IPv4, by the sockets among its descriptors (/proc/net/tcp, proc(5)).
pub fn listens(pid: u32, port: u16) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let listening = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Local address, state (0A is listening), inode.
        (fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == "0A").then(|| format!("socket:[{}]", fields[9]))
    });
    let listening: Vec<String> = listening.collect();
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok());
    targets.any(|target| listening.contains(&target))
}

/// How many connections of IPv4 to a port of this host are established, as their clients see it.
pub fn established(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Remote address and state (01 is established).
    fields.filter(|fields| fields[2].ends_with(&format!(":{port:04X}")) && fields[3] == "01").count()
}

/// Whether something accepts connections there.
pub fn port_answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn numbers_in(dir: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn strings_in(path: String) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let parts = bytes.split(|&byte| byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}
