//! Faults at chosen system calls of one thread of the agent, by strace(1).
//!
//! strace counts each system call by its name and, without `-f`, sees one thread only, so a point is a name and a
//! number.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::support::agent::Agent;
use crate::support::process;
use crate::support::wait::wait_until;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The main thread.
    Supervisor,
    Poller,
}

/// The `number`th call of that name, from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub call: String,
    pub number: usize,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// SIGKILL, before the call is carried out.
    Killed,
    /// The call is not carried out and returns this error.
    Error(&'static str),
}

impl Fault {
    fn expression(self, point: &Point) -> String {
        let Point { call, number } = point;
        match self {
            Fault::Killed => format!("inject={call}:signal=KILL:when={number}"),
            Fault::Error(errno) => format!("inject={call}:error={errno}:when={number}"),
        }
    }
}

/// A call in whose stead an error was returned, as strace shows it.
pub struct Struck(String);

impl Struck {
    /// The files that it is about: those that it names, and those of its descriptors (`-y`).
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        // What is written is no name.
        let call =
            if self.0.starts_with("write") { self.0.split_once(',').map_or("", |(file, _)| file) } else { &self.0 };
        call.split(['"', '<', '>']).filter(|part| part.starts_with('/')).map(Path::new)
    }
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A thread that is being traced, and perhaps meets a fault.
pub struct Trace {
    strace: Option<Child>,
    file: PathBuf,
}

impl Trace {
    /// Attaches to a thread of a running agent.
    #[track_caller]
    pub fn attach(agent: &Agent, thread: Thread, fault: Option<(&Point, Fault)>) -> Trace {
        let pid = agent.pid();
        let tid = match thread {
            Thread::Supervisor => pid,
            Thread::Poller => thread_named(pid, "poller"),
        };
        let file = trace_file(agent);
        let mut command = strace(&file, fault);
        let mut strace = command.arg("-p").arg(tid.to_string()).spawn().expect("cannot start strace");
        // It ends with the thread, which may meet the fault at once, while another tracer keeps the agent from being
        // reaped.
        let mut has_ended = || strace.try_wait().unwrap().is_some();
        wait_until("strace attached", || tracer(tid).is_some() || agent.exit_status().is_some() || has_ended());
        Trace { strace: Some(strace), file }
    }

    /// The command `args` of this agent from its first system call on; only its main thread is seen.
    pub fn command(agent: &Agent, args: &[&str], fault: Option<(&Point, Fault)>) -> (Trace, Command) {
        let file = trace_file(agent);
        (Trace { strace: None, file: file.clone() }, launched(agent, strace(&file, fault), args))
    }

    /// Starts an agent and attaches to its poller before that has done anything: the whole agent is stopped by the
    /// poller's first gettid(2), which the standard library makes for each thread, and the main thread never does.
    #[track_caller]
    pub fn start_at_poller(agent: &Agent, fault: Option<(&Point, Fault)>) -> Trace {
        let seen = agent.dir().join("strace-until-poller");
        let mut holding = Command::new("strace");
        let stop = "inject=gettid:signal=STOP:when=1";
        holding.args(["-f", "-e", "trace=gettid", "-e", stop, "-o"]).arg(&seen);
        agent.spawn_command(launched(agent, holding, &["start"]));
        wait_until("the poller", || {
            fs::read_to_string(&seen).is_ok_and(|text| text.contains("stopped by SIGSTOP"))
                || agent.exit_status().is_some()
        });
        let pid = agent.pid();
        wait_until("no tracer", || {
            tracer(pid).is_none_or(|holding| !process::signal(holding, Signal::KILL))
                && process::tasks(pid).iter().all(|(_, task)| task.number("TracerPid") == 0)
        });
        let trace = Trace::attach(agent, Thread::Poller, fault);
        process::signal(pid, Signal::CONT);
        trace
    }

    /// All threads and children of an agent, with what they write and the names of their files.
    #[track_caller]
    pub fn attach_to_all(agent: &Agent) -> Trace {
        let file = trace_file(agent);
        let strace = all(&file).arg("-p").arg(agent.pid().to_string()).spawn().expect("cannot start strace");
        let trace = Trace { strace: Some(strace), file };
        wait_until("strace attached", || process::tasks(agent.pid()).iter().all(|(tid, _)| tracer(*tid).is_some()));
        trace
    }

    /// These calls fail in all threads of an agent until this is dropped; with `path`, those that are about it.
    #[track_caller]
    pub fn hold(agent: &Agent, calls: &str, errno: &str, path: Option<&Path>) -> Trace {
        let file = trace_file(agent);
        let mut command = holding(&file, calls, errno);
        if let Some(path) = path {
            // A file is opened by its name in a directory that is open.
            command.arg("-P").arg(path).arg("-P").arg(path.file_name().unwrap());
        }
        let strace = command.arg("-p").arg(agent.pid().to_string()).spawn().expect("cannot start strace");
        let trace = Trace { strace: Some(strace), file };
        wait_until("strace attached", || process::tasks(agent.pid()).iter().all(|(tid, _)| tracer(*tid).is_some()));
        trace
    }

    /// A command in which, and in whose children, they fail.
    pub fn held_command(agent: &Agent, args: &[&str], calls: &str, errno: &str) -> Command {
        launched(agent, holding(&trace_file(agent), calls, errno), args)
    }

    /// `command`, but with all that `attach_to_all` sees.
    pub fn command_of_all(agent: &Agent, args: &[&str]) -> (Trace, Command) {
        let file = trace_file(agent);
        (Trace { strace: None, file: file.clone() }, launched(agent, all(&file), args))
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// From here on nothing strikes any more. SIGKILL, since strace blocks the others while it traces a command.
    #[track_caller]
    pub fn detach(&mut self, agent: &Agent) {
        if let Some(strace) = &mut self.strace.take() {
            process::signal(strace.id(), Signal::KILL);
            strace.wait().unwrap();
        }
        wait_until("strace detached", || {
            tracer(agent.pid()).is_none_or(|tracer| !process::signal(tracer, Signal::KILL))
        });
    }

    /// Every system call that was made so far, but for the looks at other processes: an agent that starts takes one at
    /// each of the host.
    pub fn points(&self) -> Vec<Point> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut points = Vec::new();
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        for line in text.lines() {
            if let Some((call, arguments)) = line.split_once('(')
                && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                let number = counts.entry(call).or_insert(0);
                *number += 1;
                // A path is walked directory by directory; in the quick form the file at its end stands for all.
                let is_step = arguments.contains("O_PATH") && arguments.contains("O_DIRECTORY");
                if !arguments.contains("/proc/") && (!is_step || super::is_long()) {
                    points.push(Point { call: call.to_string(), number: *number });
                }
            }
        }
        points.sort();
        points
    }

    /// How often this call was made about which files, as far as it names any: below the agent's directory by what
    /// follows that, and with a `#` for each number.
    pub fn calls(&self, call: &str) -> BTreeMap<Vec<String>, usize> {
        let root = self.file.parent().unwrap();
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let mut calls = BTreeMap::new();
        for arguments in text.lines().filter_map(|line| line.strip_prefix(call)?.strip_prefix('(')) {
            let paths = subjects(arguments, !["read", "write", "sendto", "recvfrom"].contains(&call));
            let names = paths.iter().map(|path| numberless(path.strip_prefix(root).unwrap_or(path)));
            *calls.entry(names.collect()).or_insert(0) += 1;
        }
        calls
    }

    /// Whether an error was returned in a call's stead.
    pub fn has_struck(&self) -> bool {
        fs::read_to_string(&self.file).unwrap_or_default().contains("(INJECTED)")
    }

    /// The call that was tampered with.
    pub fn struck(&self) -> Option<Struck> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().find(|line| line.contains("(INJECTED)")).map(|line| Struck(line.to_string()))
    }
}

/// The paths of the descriptors among a call's arguments, and of the names in them.
fn subjects(arguments: &str, has_names: bool) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut left = arguments.split(") = ").next().unwrap_or_default();
    while let Some((at, opening)) = left.char_indices().find(|(_, letter)| ['<', '"'].contains(letter)) {
        let closing = if opening == '<' { '>' } else { '"' };
        let (inner, rest) = left[at + 1..].split_once(closing).unwrap_or((&left[at + 1..], ""));
        left = rest;
        match (opening, paths.last_mut()) {
            ('"', _) if !has_names || inner.is_empty() => {}
            ('"', Some(directory)) if !inner.starts_with('/') => directory.push(inner),
            _ if inner.starts_with('/') => paths.push(inner.into()),
            _ => {}
        }
    }
    paths
}

fn numberless(path: &Path) -> String {
    let mut text = path.to_string_lossy().replace(|letter: char| letter.is_ascii_digit(), "#");
    while text.contains("##") {
        text = text.replace("##", "#");
    }
    text
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(strace) = &mut self.strace {
            process::signal(strace.id(), Signal::KILL);
            let _ = strace.wait();
        }
    }
}

fn strace(file: &Path, fault: Option<(&Point, Fault)>) -> Command {
    let mut command = Command::new("strace");
    command.args(["-qq", "-y", "-s", "256", "-o"]).arg(file);
    // Without this it would wait for what the agent writes to be looked at by nobody.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    if let Some((point, fault)) = fault {
        // The others are counted in the rehearsal; to decode and write them takes longer than the agent does.
        command.arg("-e").arg(format!("trace={}", point.call)).arg("-e").arg(fault.expression(point));
    }
    command
}

/// Who traces a thread.
fn tracer(tid: u32) -> Option<u32> {
    process::status(tid).map(|status| status.number("TracerPid") as u32).filter(|&pid| pid != 0)
}

/// -D: the agent is our child and strace its grandchild, not the other way round.
fn launched(agent: &Agent, mut strace: Command, args: &[&str]) -> Command {
    let inner = agent.command(args);
    strace.args(["-D", "--"]).arg(inner.get_program()).args(inner.get_args());
    strace.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    strace.current_dir(agent.dir());
    strace
}

fn holding(file: &Path, calls: &str, errno: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["-qq", "-f", "-e"]).arg(format!("trace={calls}")).arg("-e");
    command.arg(format!("inject={calls}:error={errno}")).arg("-o").arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Larger than any file of these tests.
const STRING_LIMIT: &str = "65536";

fn all(file: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-qq", "-f", "-y", "-s", STRING_LIMIT, "-e", "trace=%file,%desc", "-o"]).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn trace_file(agent: &Agent) -> PathBuf {
    agent.dir().join("strace")
}

#[track_caller]
fn thread_named(pid: u32, name: &str) -> u32 {
    let found = process::tasks(pid).into_iter().find(|(_, task)| task.field("Name") == name);
    found.unwrap_or_else(|| panic!("no thread {name} in {pid}")).0
}
