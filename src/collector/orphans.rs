//! Processes that an earlier agent of this run directory left behind: they are ended before the first start.
//!
//! A collector gets SIGTERM when its agent dies, however that dies. One that ignores it, has forked what does, or has
//! rights of its file, where the kernel forgets the signal (prctl(2)), would keep its ports and send everything twice.
//! The agent records in its run directory which collectors it has started. What those have started is known as their
//! descendants, by their process groups, and by a variable in their environment that names an agent of this run
//! directory that died, unless they have that from somebody else, as an operator's shell with a copy of it has.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::socket_files::SocketFile;
use crate::os::files::{self, FileKey, Place};
use crate::os::lock;
use crate::os::orphans::{self, Marks, Orphan};
use crate::os::process_id::{self, ProcessId};
use crate::os::signals::Signals;
use crate::os::user::User;
use crate::os::wait::{Waitable, wait};

/// Names the agent in the environment of each process that it starts for a collector.
pub const VARIABLE: &str = "KM_AGENT_INSTANCE";
/// Names its run directory there.
pub const RUN_DIR_VARIABLE: &str = "KM_AGENT_RUN_DIR";
/// In the run directory.
const RECORD: &str = "collectors.json";
const NEW_RECORD: &str = "collectors.new";
/// Of two collectors and their agent, with the paths of their sockets; far more than it has.
const MAX_BYTES: u64 = 16 * 1024;
/// The kernel sent them SIGTERM when their agent died; this is the time to send their data, the default of
/// stop-timeout.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent and the collectors that it has started last.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    /// Numbers and times begin anew with each boot of the host.
    boot: String,
    agent: ProcessId,
    collectors: Vec<ProcessId>,
    /// That those have bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sockets: Vec<SocketFile>,
}

impl Started {
    /// The value of `VARIABLE`.
    fn instance(&self) -> String {
        format!("{}-{}-{}", self.boot, self.agent.pid, self.agent.started)
    }
}

/// This agent, as its processes know it; empty where the system does not say who it is.
pub fn instance() -> String {
    this_agent().map(|agent| agent.instance()).unwrap_or_default()
}

fn this_agent() -> Option<Started> {
    let agent = ProcessId::of(std::process::id())?;
    Some(Started { boot: process_id::boot()?, agent, collectors: Vec::new(), sockets: Vec::new() })
}

/// What the next agent needs to know of this one's collectors. The run directory is in memory, so it costs no disk.
#[derive(Debug)]
pub struct Recorder {
    run_dir: PathBuf,
    started: Option<Started>,
    has_failed: bool,
}

impl Recorder {
    pub fn new(run_dir: &Path) -> Recorder {
        Recorder { run_dir: run_dir.to_path_buf(), started: this_agent(), has_failed: false }
    }

    /// None of them is left, and nothing that they have started.
    pub fn forget(&self) {
        for name in [RECORD, NEW_RECORD] {
            let _ = Place::new(&self.run_dir.join(name)).and_then(|place| place.remove());
        }
    }

    /// Whether the next agent would find anything; true where it could not, since nothing can be written.
    pub fn is_recorded(&self) -> bool {
        self.started.is_none() || self.has_failed || !matches!(FileKey::of(&self.run_dir.join(RECORD)), Ok(None))
    }

    /// These live.
    pub fn record(&mut self, collectors: impl Iterator<Item = ProcessId>, sockets: Vec<SocketFile>) {
        let Some(started) = &mut self.started else { return };
        started.collectors = collectors.collect();
        started.sockets = sockets;
        let written = write(&self.run_dir, started);
        if let (Err(error), false) = (&written, self.has_failed) {
            log::warn!(error:%; "cannot record the collector's process; it may outlive a killed agent");
        }
        self.has_failed = written.is_err();
    }
}

fn write(run_dir: &Path, started: &Started) -> io::Result<()> {
    let path = run_dir.join(RECORD);
    let replace = || {
        let place = Place::new(&path)?;
        let new = place.beside(NEW_RECORD.into());
        // Of one that was killed before it had renamed it.
        let _ = new.remove();
        new.create_private()?.write_all(&serde_json::to_vec(started)?)?;
        new.rename(&place)
    };
    replace().map_err(|error| files::named(&path, error))
}

/// Ends them: SIGTERM, `stop_timeout` or half a minute, SIGKILL. The caller holds the lock; what an agent has started
/// that lives all the same, since its lock was removed, is its own affair. False if a signal asked this agent to stop
/// meanwhile: nobody waits for them any longer then.
///
/// Without a record, which may have been removed since, they are known by their environment alone.
pub fn end(run_dir: &Path, stop_timeout: Duration, signals: &Signals) -> bool {
    let boot = process_id::boot();
    let started = read(run_dir).filter(|started| boot.as_ref() == Some(&started.boot));
    if started.as_ref().is_some_and(|started| started.agent.is_alive()) {
        return true;
    }
    let instance = started.as_ref().map(Started::instance);
    let has_environment = |variables: &[&[u8]]| {
        let value = |name: &str| {
            let named = variables.iter().find_map(|it| it.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            named.and_then(|value| std::str::from_utf8(value).ok())
        };
        value(VARIABLE).is_some_and(|of| {
            let is_ours = || value(RUN_DIR_VARIABLE).is_some_and(|dir| Path::new(dir) == run_dir);
            instance.as_deref() == Some(of) || is_ours() && boot.as_deref().is_some_and(|boot| has_died(of, boot))
        })
    };
    let recorded = started.as_ref().map(|started| started.collectors.as_slice()).unwrap_or_default();
    let rank = super::OUT_OF_MEMORY_RANK;
    let left = orphans::find(&Marks { recorded, has_environment: &has_environment, rank, lock: lock::NAME });
    let goes_on = left.is_empty() || end_all(left, stop_timeout, signals);
    if let Some(started) = started {
        started.sockets.iter().for_each(SocketFile::remove_if_dead);
    }
    goes_on
}

/// Whether it is the instance of an agent of this boot that has ended.
fn has_died(instance: &str, boot: &str) -> bool {
    let numbers = instance.strip_prefix(boot).and_then(|rest| rest.strip_prefix('-')?.split_once('-'));
    let agent =
        numbers.and_then(|(pid, started)| Some(ProcessId { pid: pid.parse().ok()?, started: started.parse().ok()? }));
    agent.is_some_and(|agent| !agent.is_alive())
}

fn end_all(mut left: Vec<Orphan>, stop_timeout: Duration, signals: &Signals) -> bool {
    let pids: Vec<u32> = left.iter().map(Orphan::id).collect();
    log::warn!(pids:? = pids; "terminating processes that a killed agent left behind");
    left.iter().for_each(Orphan::ask_to_end);
    let goes_on = await_end(&mut left, stop_timeout.min(PATIENCE), Some(signals));
    left.iter().for_each(Orphan::kill);
    await_end(&mut left, PATIENCE, None);
    for orphan in left {
        log::error!(
            pid = orphan.id();
            "a process that a killed agent left behind does not exit: kill it, or reboot"
        );
    }
    goes_on
}

/// `None` when there is none, or another user may have written it, who could have root end any process.
fn read(run_dir: &Path) -> Option<Started> {
    let path = run_dir.join(RECORD);
    let is_ours = [run_dir, &path].iter().all(|path| User::owner_of(path) == Some(User::current()));
    serde_json::from_slice(&files::read(&path, MAX_BYTES).ok().filter(|_| is_ours)?).ok()
}

/// Keeps those that are still there after `patience`, or when a signal asks to stop: it is false then.
fn await_end(left: &mut Vec<Orphan>, patience: Duration, signals: Option<&Signals>) -> bool {
    let deadline = Instant::now() + patience;
    while !left.is_empty() && Instant::now() < deadline {
        let sources: Vec<Waitable<'_>> =
            left.iter().map(Orphan::waitable).chain(signals.map(Signals::waitable)).collect();
        // Whatever it says, each is looked at.
        let _ = wait(&sources, Some(deadline));
        left.retain(|orphan| !orphan.has_ended());
        // The settings were read just now.
        if signals.is_some_and(|signals| signals.take().stop) {
            return false;
        }
    }
    true
}
