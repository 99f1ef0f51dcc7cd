//! One child process: spawned in a group of its own, tied to our life, watched by descriptors, its output read.
//!
//! It does not know what it runs or why. stdout and stderr share one pipe, which the owner must read or the child
//! blocks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::descendants::{self, Known};
use super::open_files;
use super::process_id::{self, ProcessId};
use super::sys::before_exec;
use super::wait::Waitable;
use crate::os::files;

pub use super::sys::before_exec::{rank_out_of_memory, run_as};

/// Where the kernel has no pidfd_open(2) (before 5.3) an exit is noticed this late, unless the end of the output tells.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a child gets when the thread that spawned it ends, however it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnParentDeath {
    AskToEnd,
    Kill,
}

/// A child's end of the channel on which it reports that it will report each bind(2): `collector::handover` has ours.
#[derive(Debug)]
pub struct BindReporter(OwnedFd);

impl From<OwnedFd> for BindReporter {
    fn from(channel: OwnedFd) -> BindReporter {
        BindReporter(channel)
    }
}

impl AsFd for BindReporter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    /// Its group too.
    pid: Pid,
    /// `None` where there is no /proc.
    process_id: Option<ProcessId>,
    /// `None` after it was reaped.
    known: Option<Known>,
    /// `None` on a kernel without pidfd_open(2), and after it was reaped.
    pidfd: Option<OwnedFd>,
    /// `None` after its end.
    output: Option<OwnedFd>,
}

impl Child {
    /// Returns when the child has been executed.
    pub fn spawn(
        mut command: Command,
        on_parent_death: OnParentDeath,
        binds: Option<BindReporter>,
    ) -> io::Result<Child> {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        command.stdin(Stdio::null()).stdout(theirs.try_clone()?).stderr(theirs);
        let signal = match on_parent_death {
            OnParentDeath::AskToEnd => Signal::TERM,
            OnParentDeath::Kill => Signal::KILL,
        };
        before_exec::arrange(&mut command, signal, open_files::inherited(), binds.map(|reporter| reporter.0));
        let spawn = || {
            let process = command.spawn()?;
            let pid = Pid::from_child(&process);
            Ok((process, pid))
        };
        let (process, known) = descendants::start(spawn)?;
        // With our copies of the child's descriptors, so that there is room for what comes.
        drop(command);
        let pid = Pid::from_child(&process);
        // Not reaped yet, so the number is still the child's.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
        let process_id = ProcessId::of(process.id());
        Ok(Child { process, pid, process_id, known: Some(known), pidfd, output: Some(ours) })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn process_id(&self) -> Option<ProcessId> {
        self.process_id
    }

    /// Ready when it has ended, or when there is output, or its end.
    pub fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        [&self.pidfd, &self.output].into_iter().flatten().map(Waitable::to_read)
    }

    /// How often to look whether it has ended, where nothing tells; `None` where something does.
    pub fn check_interval(&self) -> Option<Duration> {
        self.pidfd.is_none().then_some(CHECK_INTERVAL)
    }

    /// What it has printed, without waiting for it: `WouldBlock` when there is nothing, 0 bytes when there will be
    /// nothing more.
    pub fn read_output(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(pipe) = &self.output else { return Ok(0) };
        let count = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut *buffer))?;
        if count == 0 {
            self.output = None;
        }
        Ok(count)
    }

    pub fn has_closed_output(&self) -> bool {
        self.output.is_none()
    }

    /// SIGTERM to its group; that this is gone already is no failure.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
        // A suspended one could not act on it.
        self.signal(Signal::CONT);
    }

    /// Its whole group.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // The number of a group that is gone may be given to another one.
        if self.known.is_none() && !self.has_group() {
            return;
        }
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }

    /// Whether it is suspended (by SIGSTOP and the like, signal(7)) and has not been continued since.
    pub fn is_suspended(&self) -> bool {
        matches!(self.look(WaitIdOptions::STOPPED), Ok(true))
    }

    /// Whether a process lives that its first thread has started, as far as the kernel lists them
    /// (proc_tid_children(5)).
    pub fn has_children(&self) -> bool {
        let list = PathBuf::from(format!("/proc/{0}/task/{0}/children", self.pid));
        files::read(&list, files::MAX_KERNEL_FILE).is_ok_and(|list| !list.is_empty())
    }

    /// Whether SIGTERM does not reach it when its parent dies: it ignores that, or it has become another user's, for
    /// which the kernel forgets the signal (prctl(2), PR_SET_PDEATHSIG).
    pub fn outlives_parent(&self) -> bool {
        let pid = self.id();
        let ignored = process_id::status_field(pid, "SigIgn").and_then(|set| u64::from_str_radix(&set, 16).ok());
        ignored.is_some_and(|set| set & 1 << (Signal::TERM.as_raw() - 1) != 0)
            || process_id::users(pid).is_some_and(|[_, user]| user != rustix::process::geteuid().as_raw())
    }

    /// Its exit status if it has ended; what it left of its group is killed then.
    pub fn try_reap(&mut self) -> io::Result<Option<ExitStatus>> {
        if !self.has_ended()? {
            return Ok(None);
        }
        // Before the child is reaped: until then nobody else can have its number as a group.
        self.kill();
        self.process.wait().map(Some)
    }

    /// The same, but what it left of its group lives on; once only.
    pub fn try_reap_alone(&mut self) -> io::Result<Option<ExitStatus>> {
        if !self.has_ended()? {
            return Ok(None);
        }
        let status = self.process.wait()?;
        // It would be ready for ever.
        self.pidfd = None;
        self.known = None;
        Ok(Some(status))
    }

    fn has_ended(&self) -> io::Result<bool> {
        match self.look(WaitIdOptions::EXITED) {
            Err(Errno::INTR) => Ok(false),
            ended => Ok(ended?),
        }
    }

    /// After `try_reap_alone`: whether any of its group lives, as far as that has lost its parent.
    pub fn has_group(&self) -> bool {
        descendants::has_group(self.pid)
    }

    /// After `try_reap_alone`: asks what our children have left behind to end, but for those of the group, which have
    /// been asked; `asked` are those that have been, too. Whether any of it lives; `None` where that cannot be said
    /// without a look at each process of the host.
    pub fn ask_adopted_to_end(&self, asked: &mut Vec<u32>) -> Option<bool> {
        descendants::ask_to_end(self.pid, asked)
    }

    /// Kills its group and waits until it has ended.
    pub fn end(&mut self) -> io::Result<()> {
        self.kill();
        self.process.wait()?;
        Ok(())
    }

    fn look(&self, for_what: WaitIdOptions) -> Result<bool, Errno> {
        let options = for_what | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(rustix::process::waitid(WaitId::Pid(self.pid), options)?.is_some())
    }
}

/// A command line of an operator's, for the system's shell.
pub fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// What killed a process, as in `SIGSEGV`; `None` when it exited by itself.
pub fn killed_by(status: ExitStatus) -> Option<String> {
    status.signal().map(signal_name)
}

/// The signals that end processes, by their names (signal(7)); the others by their numbers.
pub(super) fn signal_name(signal: i32) -> String {
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
