//! The API key is in the agent's memory: nothing of that reaches a file when the agent is killed, and nobody else can
//! read it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::KEY;
use crate::support::agent::Agent;
use crate::support::{needs, process};

/// A command line with unlimited core dumps, in the agent's directory.
fn dumping(agent: &Agent, args: &[&str]) -> Command {
    let inner = agent.command(args);
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg("ulimit -c unlimited || exit 99; exec \"$0\" \"$@\"")
        .arg(inner.get_program())
        .args(inner.get_args());
    shell.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell.stdin(Stdio::null()).current_dir(agent.dir());
    shell
}

/// Whether a process that may be dumped is, on this host: by a file or by a program that the kernel starts.
fn dumps_happen(agent: &Agent) -> bool {
    let mut control = Command::new("/bin/sh");
    control.args(["-c", "ulimit -c unlimited || exit 99; kill -ABRT $$"]).current_dir(agent.dir());
    control.status().unwrap().core_dumped()
}

fn holds_the_key(agent: &Agent) -> bool {
    let files = fs::read_dir(agent.dir()).unwrap().flatten().filter(|entry| entry.path().is_file());
    let texts = files.filter(|entry| entry.file_name() != "fake.log").map(|entry| fs::read(entry.path()).unwrap());
    texts.into_iter().any(|bytes| bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()))
}

#[test]
fn an_agent_that_is_killed_leaves_no_core() {
    let agent = Agent::builder().env("KM_API_KEY", KEY).setting("update-endpoint", "http://127.0.0.1:1/");
    let agent = agent.config("fake: {}").build();
    if !needs::that(dumps_happen(&agent), "this host makes no core dumps") {
        return;
    }
    for signal in [Signal::ABORT, Signal::SEGV, Signal::QUIT, Signal::BUS, Signal::ILL] {
        let starts = agent.starts();
        agent.spawn_command(dumping(&agent, &["start"]));
        agent.wait_start(starts + 1);
        // Rust's own handler for two of them survives the first one.
        agent.wait_until("the agent's end", || {
            process::signal(agent.pid(), signal);
            agent.exit_status().is_some()
        });
        let status = agent.exit_status().unwrap();
        assert!(status.signal() == Some(signal.as_raw()) && !status.core_dumped(), "{status:?}");
        agent.wait_until("the collector's end", || agent.collectors().is_empty());
    }
    assert!(!holds_the_key(&agent));
}

/// The collector is a program of its own: it gets the limits that the agent was started with, and may be dumped.
#[test]
fn a_collector_keeps_its_limits_and_its_dumps() {
    let agent = Agent::builder().config("fake: {start: {signal: ABRT, after_ms: 300}}").build();
    if !dumps_happen(&agent) {
        return;
    }
    agent.spawn_command(dumping(&agent, &["start"]));
    let pid = agent.wait_start(1);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    assert!(limits.is_empty() || core.matches("unlimited").count() == 2, "{core}");
    let cores = || {
        fs::read_dir(agent.dir())
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("core"))
    };
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.trim() == "core" {
        agent.wait_until("the collector's core", cores);
    }
}

/// Another user reads neither the memory nor the environment, where the key may stand.
#[test]
fn other_users_cannot_look_into_it() {
    if !needs::root() {
        return;
    }
    let agent = Agent::builder().env("KM_API_KEY", KEY).config("fake: {}").spawn();
    agent.wait_start(1);
    // Even one and the same user: so it is root here who asks as nobody, for an agent of nobody's.
    let nobody = Agent::builder().env("KM_API_KEY", KEY).build();
    let reader = |pid: u32, file: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "head", "-c", "1"]);
        command.arg(format!("/proc/{pid}/{file}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    };
    for file in ["environ", "mem", "maps", "auxv", "fd/2", "cwd", "exe"] {
        assert!(!reader(agent.pid(), file), "{file} of root's agent");
    }
    // The control: what everybody may read can be read.
    assert!(reader(agent.pid(), "status") && reader(agent.pid(), "cmdline"));
    let mut own = Command::new("setpriv");
    let inner = nobody.command(["--check", "--splay", "60s"]);
    own.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    own.arg(reachable(&nobody)).args(["--splay", "60s", "--check"]).args(["--api-key-file", "/dev/null"]);
    own.env_clear()
        .envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .env("KM_UPDATE_ENDPOINT", "http://127.0.0.1:1/");
    let mut child = own.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    nobody.wait_until("nobody's agent", || process::command_line(child.id()).iter().any(|word| word == "--splay"));
    nobody.wait_until("its own precautions", || !reader(child.id(), "environ"));
    assert!(!reader(child.id(), "mem") && !reader(child.id(), "maps"), "the agent's own user");
    let _ = child.kill();
    let _ = child.wait();
}

/// A copy of the program where everybody can execute it.
fn reachable(agent: &Agent) -> std::path::PathBuf {
    let copy = agent.dir().join("kmagent");
    crate::support::bin::copy_program(&crate::support::bin::kmagent(), &copy);
    copy
}
