//! One child process.

use std::fs::File;
use std::io;
use std::os::windows::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::process_id::ProcessId;
use super::unsupported;
use super::user::Credentials;
use super::wait::Waitable;

/// What a child gets when the thread that spawned it ends, however it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnParentDeath {
    AskToEnd,
    Kill,
}

/// No child reports its bind calls here.
#[derive(Debug)]
pub enum BindReporter {}

#[derive(Debug)]
pub enum Child {}

impl Child {
    pub fn spawn(
        _command: Command,
        _on_parent_death: OnParentDeath,
        _binds: Option<BindReporter>,
    ) -> io::Result<Child> {
        Err(unsupported())
    }

    pub fn process_id(&self) -> Option<ProcessId> {
        match *self {}
    }

    pub fn id(&self) -> u32 {
        match *self {}
    }

    pub fn sources(&self) -> impl Iterator<Item = Waitable<'_>> {
        match *self {}
        #[expect(unreachable_code)]
        std::iter::empty()
    }

    pub fn check_interval(&self) -> Option<Duration> {
        match *self {}
    }

    pub fn read_output(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub fn has_closed_output(&self) -> bool {
        match *self {}
    }

    pub fn ask_to_end(&self) {
        match *self {}
    }

    pub fn kill(&self) {
        match *self {}
    }

    pub fn is_suspended(&self) -> bool {
        match *self {}
    }

    pub fn has_children(&self) -> bool {
        match *self {}
    }

    pub fn outlives_parent(&self) -> bool {
        match *self {}
    }

    pub fn try_reap(&mut self) -> io::Result<Option<ExitStatus>> {
        match *self {}
    }

    pub fn try_reap_alone(&mut self) -> io::Result<Option<ExitStatus>> {
        match *self {}
    }

    pub fn has_group(&self) -> bool {
        match *self {}
    }

    pub fn ask_adopted_to_end(&self, _asked: &mut Vec<u32>) -> Option<bool> {
        match *self {}
    }

    pub fn end(&mut self) -> io::Result<()> {
        match *self {}
    }
}

/// The kernel's order of victims when memory runs out is not ours to change here.
pub fn rank_out_of_memory(_command: &mut Command, _rank: i32) {}

/// No process runs with another user's rights here.
pub fn run_as(_command: &mut Command, _user: Option<Credentials>, _inherit: Vec<File>) {}

/// A command line of an operator's, for the system's shell. It reads the line as it is, not as arguments are quoted.
pub fn shell(script: &str) -> Command {
    let mut command = Command::new("cmd");
    command.arg("/c").raw_arg(script);
    command
}

/// What killed a process; `None` when it exited by itself. A process that a fault ends has its code of 0xC0000000 and
/// above (NTSTATUS).
pub fn killed_by(status: ExitStatus) -> Option<String> {
    let code = status.code()?.cast_unsigned();
    (code >= 0xC000_0000).then(|| format!("{code:#010X}"))
}
