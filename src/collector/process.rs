//! The collector's process, and commands that are run to their end: output cut into lines, ports watched, limits on
//! both.
//!
//! It does not know what it runs or why. The caller decides when to terminate, kill and reap, and must read the output
//! or the child blocks. How the system does it is `os::child`'s business.

use std::io;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::collector::handover::binds::{BindChannel, BindWatch, Refusal, Served};
use crate::collector::oom_kills::OomKills;
use crate::collector::output::{Output, Transcript};
use crate::collector::socket_files::SocketFile;
use crate::log::Masked;
use crate::os::child::{self, Child, OnParentDeath};
use crate::os::descendants::{self, Which};
use crate::os::process_id::ProcessId;
use crate::os::shutdown::{self, Step};
use crate::os::wait::{Waitable, wait};

/// Most bytes read at a turn, so that a child that floods its output does not keep its owner from everything else. The
/// size of a pipe (pipe(7)).
const READ_LIMIT: usize = 64 * 1024;

/// What was killed ends at once, unless a disk or a network file system keeps it.
pub const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// A command that is run to its end learns this late that the agent ends.
const SLOWEST_END: Duration = Duration::from_millis(100);

/// Whether each bind(2) of a child is reported to us (`handover::binds`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binds {
    /// Where the kernel lets us; else it runs unwatched, and `Process::binds` says why.
    Watched,
    /// For this reason.
    Unwatched(String),
}

#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Output,
    /// The error is why there is none.
    binds: Result<BindWatch, String>,
    /// `None` where the kernel does not count.
    oom_kills: Option<OomKills>,
    /// Of `BindWatch`, also after its end.
    wanted_twice: Option<u16>,
    /// No bind(2) of it was hidden from us.
    saw_all_binds: bool,
    ending: Ending,
    /// Of the child, while what it has started lives on.
    status: Option<ExitStatus>,
    /// What it has started and has been asked to end, besides its group.
    asked: Vec<u32>,
}

/// How far its end was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    NotAsked,
    /// What it has started may take as long as it.
    Asked,
    Killed,
}

impl Process {
    /// A watched child waits in each bind(2) until `serve_binds` is called.
    pub fn spawn(command: Command, on_parent_death: OnParentDeath, binds: Binds) -> io::Result<Process> {
        let (from_child, reporter) = match binds {
            Binds::Watched => BindChannel::pair().map(|(ours, theirs)| (Ok(ours), Some(theirs)))?,
            Binds::Unwatched(reason) => (Err(reason), None),
        };
        let oom_kills = OomKills::before_start();
        let mut child = Child::spawn(command, on_parent_death, reporter)?;
        let binds = match from_child.map(|channel| BindWatch::accept(&channel, child.id())) {
            Err(reason) | Ok(Err(Refusal::Unfiltered(reason))) => Err(reason),
            Ok(Ok(watch)) => Ok(watch),
            Ok(Err(Refusal::Lost(error))) => {
                child.end()?;
                return Err(error);
            }
        };
        let saw_all_binds = binds.is_ok();
        Ok(Process {
            child,
            output: Output::default(),
            binds,
            oom_kills,
            wanted_twice: None,
            saw_all_binds,
            ending: Ending::NotAsked,
            status: None,
            asked: Vec::new(),
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `None` where the system does not say.
    pub fn process_id(&self) -> Option<ProcessId> {
        self.child.process_id()
    }

    /// All that its owner has to wait for: its end, its output, a bind(2) that waits for us.
    pub fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        self.child.sources().chain(self.binds.as_ref().ok().map(BindWatch::waitable))
    }

    /// How often to look whether it has ended, where nothing tells; `None` where something does.
    pub fn check_interval(&self) -> Option<Duration> {
        self.child.check_interval()
    }

    /// What the child has bound; the error is why that is not known.
    pub fn binds(&self) -> Result<&BindWatch, &str> {
        self.binds.as_ref().map_err(String::as_str)
    }

    /// The latest port that two of its own sockets wanted to themselves.
    pub fn wanted_twice(&self) -> Option<u16> {
        self.wanted_twice
    }

    /// Whether a port that two of its own sockets wanted would be known.
    pub fn saw_all_binds(&self) -> bool {
        self.saw_all_binds
    }

    /// Lets every bind(2) that waits go on; true when there was one. It may share ports with `partners` and nobody
    /// else.
    pub fn serve_binds(&mut self, partners: &[&BindWatch]) -> bool {
        let Ok(watch) = &mut self.binds else { return false };
        let served = watch.serve(partners);
        self.wanted_twice = watch.wanted_twice();
        self.saw_all_binds = watch.saw_all();
        match served {
            Served::Binds => true,
            Served::Nothing => false,
            Served::Ended => {
                self.binds = Err("it has ended".to_string());
                false
            }
        }
    }

    /// The Unix sockets that it has bound since this was asked last.
    pub fn socket_files(&mut self) -> Vec<SocketFile> {
        let paths = self.binds.as_mut().map(BindWatch::socket_files).unwrap_or_default();
        paths.iter().filter_map(|path| SocketFile::at(path)).collect()
    }

    /// Reads what there is, at most `READ_LIMIT` bytes, and gives each line to `emit`.
    pub fn read_output(&mut self, emit: &mut dyn FnMut(&[u8])) {
        let mut buffer = [0u8; 8 * 1024];
        let mut taken = 0;
        while taken < READ_LIMIT {
            match self.child.read_output(&mut buffer) {
                Ok(0) => return self.output.end(emit),
                Ok(count) => {
                    taken += count;
                    self.output.feed(&buffer[..count], emit);
                }
                Err(_) => return,
            }
        }
    }

    /// Nothing more will be read.
    pub fn has_closed_output(&self) -> bool {
        self.child.has_closed_output()
    }

    /// The last lines that it printed.
    pub fn tail(&self) -> Masked {
        self.output.tail()
    }

    /// It and what it has started; that all of it is gone already is no failure.
    pub fn ask_to_end(&mut self) {
        self.ending = Ending::Asked;
        self.child.ask_to_end();
        if let Ok(watch) = &self.binds {
            self.asked = watch.ask_strays_to_end();
        }
    }

    /// It and what it has started.
    pub fn kill(&mut self) {
        self.ending = Ending::Killed;
        self.child.kill();
        if let Ok(watch) = &self.binds {
            watch.kill_strays();
        }
    }

    /// Whether it has started another process that lives.
    pub fn has_children(&self) -> bool {
        self.child.has_children()
    }

    pub fn outlives_parent(&self) -> bool {
        self.child.outlives_parent()
    }

    /// Whether it is suspended and has not been continued since.
    pub fn is_suspended(&self) -> bool {
        self.child.is_suspended()
    }

    /// Its exit status if it has ended; what it has started of its group is killed then, and its last words are read.
    ///
    /// Of one that was asked to end, that has time to do so too: it may be the collector, and the child a wrapper that
    /// did not become it by exec. `is_alone` says that no other collector lives, which could be waiting for us, and
    /// whose what was left behind could be.
    pub fn try_reap(&mut self, is_alone: bool, emit: &mut dyn FnMut(&[u8])) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = match self.ending {
                Ending::Asked => self.child.try_reap_alone()?,
                Ending::NotAsked | Ending::Killed => self.child.try_reap()?,
            };
        }
        let Some(status) = self.status else { return Ok(None) };
        if self.ending == Ending::Asked && self.has_left(is_alone) {
            return Ok(None);
        }
        self.read_output(emit);
        self.output.end(emit);
        Ok(Some(status))
    }

    /// Whether what the child has started outlives it.
    fn has_left(&mut self, is_alone: bool) -> bool {
        // In a group of its own it has not been asked yet.
        let adopted = is_alone && self.child.ask_adopted_to_end(&mut self.asked) == Some(true);
        adopted || self.child.has_group() || self.binds.as_ref().is_ok_and(|watch| !watch.has_ended())
    }

    /// What is left of it that could bind, after its end.
    pub fn take_left(&mut self) -> Option<BindWatch> {
        let binds = std::mem::replace(&mut self.binds, Err("it has ended".to_string()));
        binds.ok().filter(|watch| !watch.has_ended())
    }

    /// Its exit status in words: `exited with status 1`, `was killed by SIGKILL because memory ran out`.
    pub fn describe(&self, status: ExitStatus) -> String {
        match (status.code(), child::killed_by(status)) {
            (_, Some(signal)) => {
                let kills = self.oom_kills.as_ref().filter(|_| signal == "SIGKILL");
                format!("was killed by {signal}{}", kills.map_or("", OomKills::reason))
            }
            (Some(code), None) => format!("exited with status {code}"),
            (None, None) => "ended".to_string(),
        }
    }
}

/// How a command that was run to its end came out.
#[derive(Debug)]
pub enum Ended {
    /// With the status in words, too.
    Exited {
        status: ExitStatus,
        end: String,
        output: Masked,
    },
    TimedOut {
        output: Masked,
    },
}

/// What becomes of processes that a command has started and that have left its process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// They end with it, since it only answers a question. Beside a collector they are known by this rank, which the
    /// command has and the collector has not; where they cannot be known they end with the collector.
    Ends { rank: Option<i32> },
    /// They live on: it may have started a service.
    Stays,
}

/// Runs a command to its end and kills it after `timeout`; the output is all that it printed, within reason. When the
/// agent ends, so does the command, and this never returns.
pub fn run(command: Command, timeout: Duration, background: Background) -> io::Result<Ended> {
    let step = shutdown::step();
    let ended = match background {
        Background::Stays => run_alone(command, timeout, &step),
        Background::Ends { rank } => {
            let is_resident = descendants::adopt(true);
            let ended = run_alone(command, timeout, &step);
            let left = if is_resident { rank.map(Which::Ranked) } else { Some(Which::All) };
            if let Some(left) = left {
                descendants::end(left, KILL_PATIENCE);
            }
            descendants::adopt(is_resident);
            ended
        }
    };
    if step.is_shutting_down() {
        step.park_forever();
    }
    ended
}

fn run_alone(command: Command, timeout: Duration, step: &Step<'_>) -> io::Result<Ended> {
    let deadline = Instant::now() + timeout;
    let binds = Binds::Unwatched("it is no collector".to_string());
    let mut process = Process::spawn(command, OnParentDeath::Kill, binds)?;
    let mut transcript = Transcript::default();
    loop {
        let note = &mut |line: &[u8]| transcript.add(line);
        if let Some(status) = process.try_reap(false, note)? {
            let end = process.describe(status);
            return Ok(Ended::Exited { status, end, output: transcript.close(&process.tail()) });
        }
        let now = Instant::now();
        if now >= deadline || step.is_shutting_down() {
            let output = transcript.close(&process.tail());
            process.child.end()?;
            return Ok(Ended::TimedOut { output });
        }
        let sources: Vec<Waitable<'_>> = process.child.sources().collect();
        // Whatever it says, everything is tried.
        let _ = wait(&sources, Some(deadline.min(now + SLOWEST_END)));
        process.read_output(note);
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::os::child::shell;
    use rustix::process::{Pid, Signal};

    #[test]
    fn a_command_is_run_to_its_end_with_its_last_lines() {
        let minute = Duration::from_secs(60);
        for (script, expected, lines) in [
            ("echo out; echo err >&2; exit 3", "exited with status 3", "out\nerr"),
            ("kill -SEGV $$", "was killed by SIGSEGV", ""),
            ("exec >&- 2>&-; exit 0", "exited with status 0", ""),
        ] {
            match run(shell(script), minute, Background::Stays).unwrap() {
                Ended::Exited { end, output, .. } => {
                    assert_eq!((end.as_str(), &*output), (expected, lines));
                }
                Ended::TimedOut { .. } => panic!("{script} timed out"),
            }
        }
        assert!(run(Command::new("/nonexistent/command"), minute, Background::Stays).is_err());
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_group() {
        let ended = run(shell("echo $$; sleep 1000 & wait"), Duration::from_millis(300), Background::Stays).unwrap();
        let Ended::TimedOut { output } = ended else { panic!("{ended:?}") };
        let group = Pid::from_raw(output.parse().unwrap()).unwrap();
        // The orphaned sleep is reaped by init when it likes to; a group of zombies takes no harm from the signal.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }

    #[test]
    fn leftovers_of_the_group_do_not_hold_the_reaping_up() {
        let ended = run(shell("sleep 1000 & echo done"), Duration::from_secs(60), Background::Stays).unwrap();
        assert!(matches!(ended, Ended::Exited { output, .. } if *output == *"done"));
    }
}
