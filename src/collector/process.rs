//! One child process: spawned in a group of its own, tied to our life, watched by descriptors, its output read.
//!
//! It does not know what it runs or why. Whoever spawns decides when to terminate, kill and reap. stdout and stderr share one
//! pipe, which the owner must read or the child blocks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::collector::handover::binds::{BindWatch, Refusal, Served};
use crate::collector::output::{Output, Transcript};
use crate::os::shutdown;
use crate::os::unix::sys::child;

/// Most bytes read at a turn, so that a child that floods its output does not keep its owner from everything else. The size of
/// a pipe (pipe(7)).
const READ_LIMIT: usize = 64 * 1024;
/// Where the kernel has no pidfd_open(2) (before 5.3) an exit is noticed this late, unless the end of the output tells.
pub const SLOW_CHECK: Duration = Duration::from_secs(1);

/// A command that is run to its end learns this late that the agent ends.
const SLOWEST_END: Duration = Duration::from_millis(100);

/// Between two looks while poll(2) fails.
pub const BLIND_INTERVAL: Duration = Duration::from_millis(100);

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
    pid: Pid,
    /// `None` on a kernel without pidfd_open(2).
    pidfd: Option<OwnedFd>,
    /// `None` after its end.
    pipe: Option<OwnedFd>,
    output: Output,
    /// The error is why there is none.
    binds: Result<BindWatch, String>,
    /// Of `BindWatch`, also after its end.
    wanted_twice: Option<u16>,
}

impl Process {
    /// `on_parent_death` is what the child gets when the calling thread ends. A watched child waits in each bind(2) until
    /// `serve_binds` is called.
    pub fn spawn(mut command: Command, on_parent_death: Signal, binds: Binds) -> io::Result<Process> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        command.stdin(Stdio::null()).stdout(theirs.try_clone()?).stderr(theirs).process_group(0);
        let (from_child, report_to) = match binds {
            Binds::Watched => BindWatch::channel().map(|(ours, theirs)| (Ok(ours), Some(theirs)))?,
            Binds::Unwatched(reason) => (Err(reason), None),
        };
        child::before_exec(&mut command, on_parent_death, report_to);
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let binds = match from_child.map(|channel| BindWatch::accept(&channel, pid)) {
            Err(reason) | Ok(Err(Refusal::Unfiltered(reason))) => Err(reason),
            Ok(Ok(watch)) => Ok(watch),
            Ok(Err(Refusal::Lost(errno))) => {
                child.kill()?;
                child.wait()?;
                return Err(errno.into());
            }
        };
        // Not reaped yet, so the number is still the child's.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        Ok(Process { child, pid, pidfd, pipe: Some(ours), output: Output::default(), binds, wanted_twice: None })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Readable when the child has ended; `None` where the kernel has no such descriptor.
    pub fn exit_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Readable when there is output, or its end.
    pub fn output_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Readable when the child waits in bind(2), or when it will never do so again; `None` when nobody watches.
    pub fn binds_fd(&self) -> Option<BorrowedFd<'_>> {
        self.binds.as_ref().ok().map(BindWatch::fd)
    }

    /// All that its owner has to poll for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.exit_fd(), self.output_fd(), self.binds_fd()].into_iter().flatten()
    }

    /// What the child has bound; the error is why that is not known.
    pub fn binds(&self) -> Result<&BindWatch, &str> {
        self.binds.as_ref().map_err(String::as_str)
    }

    /// The latest port that two of its own sockets wanted to themselves.
    pub fn wanted_twice(&self) -> Option<u16> {
        self.wanted_twice
    }

    /// Lets every bind(2) that waits go on; true when there was one. It may share ports with `partners` and nobody else.
    pub fn serve_binds(&mut self, partners: &[&BindWatch]) -> bool {
        let Ok(watch) = &mut self.binds else { return false };
        let served = watch.serve(partners);
        self.wanted_twice = watch.wanted_twice();
        match served {
            Served::Binds => true,
            Served::Nothing => false,
            Served::Ended => {
                self.binds = Err("it has ended".to_string());
                false
            }
        }
    }

    /// Reads what there is, at most `READ_LIMIT` bytes, and gives each line to `emit`.
    pub fn read_output(&mut self, emit: &mut dyn FnMut(&[u8])) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = [0u8; 8 * 1024];
        let mut taken = 0;
        while taken < READ_LIMIT {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => {
                    self.output.end(emit);
                    self.pipe = None;
                    return;
                }
                Ok(count) => {
                    taken += count;
                    self.output.feed(&buffer[..count], emit);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// The last lines that it printed.
    pub fn tail(&self) -> String {
        self.output.tail()
    }

    /// To the whole group; that the group is gone already is no failure.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }

    /// Whether somebody has suspended it (SIGSTOP and the like, signal(7)) and nobody has continued it since.
    pub fn is_suspended(&self) -> bool {
        let options = rustix::process::WaitIdOptions::STOPPED
            | rustix::process::WaitIdOptions::NOHANG
            | rustix::process::WaitIdOptions::NOWAIT;
        let stopped = rustix::process::waitid(rustix::process::WaitId::Pid(self.pid), options);
        matches!(stopped, Ok(Some(_)))
    }

    /// Its exit status if it has ended; what it left of its group is killed then, and its last words are read.
    pub fn try_reap(&mut self, emit: &mut dyn FnMut(&[u8])) -> io::Result<Option<ExitStatus>> {
        let options = rustix::process::WaitIdOptions::EXITED
            | rustix::process::WaitIdOptions::NOHANG
            | rustix::process::WaitIdOptions::NOWAIT;
        match rustix::process::waitid(rustix::process::WaitId::Pid(self.pid), options) {
            Ok(None) | Err(Errno::INTR) => return Ok(None),
            Ok(Some(_)) => {}
            Err(error) => return Err(error.into()),
        }
        // Before the child is reaped: until then nobody else can have its number as a group.
        self.signal(Signal::KILL);
        let status = self.child.wait()?;
        self.read_output(emit);
        self.output.end(emit);
        self.pipe = None;
        Ok(Some(status))
    }
}

/// How a command that was run to its end came out.
#[derive(Debug)]
pub enum Ended {
    Exited { status: ExitStatus, output: String },
    TimedOut { output: String },
}

/// Runs a command to its end and kills it after `timeout`; the output is all that it printed, within reason. When the agent ends, so
/// does the command, and this never returns.
pub fn run(command: Command, timeout: Duration) -> io::Result<Ended> {
    let step = shutdown::step();
    let deadline = Instant::now() + timeout;
    let mut process = Process::spawn(command, Signal::KILL, Binds::Unwatched("it is no collector".to_string()))?;
    let mut transcript = Transcript::default();
    loop {
        let note = &mut |line: &[u8]| transcript.add(line);
        if let Some(status) = process.try_reap(note)? {
            return Ok(Ended::Exited { status, output: transcript.close(&process.tail()) });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || step.is_last() {
            process.signal(Signal::KILL);
            let output = transcript.close(&process.tail());
            process.child.wait()?;
            if step.is_last() {
                step.rest();
            }
            return Ok(Ended::TimedOut { output });
        }
        let pause = left.min(SLOWEST_END);
        let mut fds: Vec<PollFd<'_>> = [process.exit_fd(), process.output_fd()]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match rustix::event::poll(&mut fds, Some(&pause.try_into().unwrap_or_default())) {
            Ok(_) | Err(Errno::INTR) => {}
            // The kernel is out of memory, so nobody tells what has happened: it is looked at all the same.
            Err(_) => std::thread::sleep(BLIND_INTERVAL.min(left)),
        }
        process.read_output(note);
    }
}

/// An exit status in words: `exited with status 1`, `was killed by SIGSEGV`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
        (None, None) => "ended".to_string(),
    }
}

/// The signals that end processes, by their names (signal(7)); the others by their numbers.
fn signal_name(signal: i32) -> String {
    let named = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    match named.iter().find(|(known, _)| known.as_raw() == signal) {
        Some((_, name)) => name.to_string(),
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_is_run_to_its_end_with_its_last_lines() {
        let minute = Duration::from_secs(60);
        for (script, expected, lines) in [
            ("echo out; echo err >&2; exit 3", "exited with status 3", "out\nerr"),
            ("kill -SEGV $$", "was killed by SIGSEGV", ""),
            ("exec >&- 2>&-; exit 0", "exited with status 0", ""),
        ] {
            match run(sh(script), minute).unwrap() {
                Ended::Exited { status, output } => {
                    assert_eq!((describe(status).as_str(), output.as_str()), (expected, lines));
                }
                Ended::TimedOut { .. } => panic!("{script} timed out"),
            }
        }
        assert!(run(Command::new("/nonexistent/command"), minute).is_err());
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_group() {
        let ended = run(sh("echo $$; sleep 1000 & wait"), Duration::from_millis(300)).unwrap();
        let Ended::TimedOut { output } = ended else { panic!("{ended:?}") };
        let group = Pid::from_raw(output.parse().unwrap()).unwrap();
        // The orphaned sleep is reaped by init when it likes to; a group of zombies takes no harm from the signal.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }

    #[test]
    fn leftovers_of_the_group_do_not_hold_the_reaping_up() {
        let ended = run(sh("sleep 1000 & echo done"), Duration::from_secs(60)).unwrap();
        assert!(matches!(ended, Ended::Exited { output, .. } if output == "done"));
    }
}
