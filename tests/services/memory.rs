//! Whom the kernel takes first when memory runs out.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::operation::{message, wait_running};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::process;
use crate::support::wait::{DEADLINE, poll_for};
use crate::support::{bin, needs};

fn rank(pid: u32) -> i32 {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
}

/// An agent that starts with this rank, which is at least the test's own.
#[track_caller]
fn spawn_ranked(agent: &Agent, rank: i32) -> u32 {
    spawn_in(agent, rank, Path::new("/dev/null"))
}

/// The same in a control group, named by its file for processes.
#[track_caller]
fn spawn_in(agent: &Agent, rank: i32, group: &Path) -> u32 {
    let inner = agent.command(["start"]);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"echo $$ >"$0" && echo "$1" >/proc/self/oom_score_adj && shift && exec "$@""#]);
    command.arg(group).arg(rank.to_string());
    command.arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.process_group(0);
    agent.spawn_command(command)
}

#[test]
fn the_collector_goes_before_the_agent() {
    let agent = Agent::builder().config("name: first").build();
    let own = spawn_ranked(&agent, 200);
    let collector = agent.wait_start(1);
    assert_eq!((rank(own), rank(collector)), (200, 300));
    process::signal(collector, rustix::process::Signal::KILL);
    assert_eq!(rank(agent.wait_start(2)), 300, "another one after a restart");
}

#[test]
fn a_rank_that_is_higher_already_stays() {
    let agent = Agent::builder().config("name: first").build();
    spawn_ranked(&agent, 400);
    assert_eq!(rank(agent.wait_collector()), 400);
}

/// `on-change` may start what is not ours to rank.
#[test]
fn what_a_check_runs_keeps_its_rank() {
    let own = rank(std::process::id());
    let api = crate::support::api::Api::plain();
    api.answer_config(serde_json::json!({"name": "new"}));
    let builder = Agent::builder().api(&api);
    let out = builder.dir().join("rank").display().to_string();
    let agent = builder.setting("on-change", format!("cat /proc/self/oom_score_adj >{out}")).build();
    let output: bin::Output = agent.run(["--check"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(fs::read_to_string(out).unwrap().trim(), own.to_string());
}

/// So small that a rank of 300 counts for 10 MiB, more than agent and stand-in collector differ by.
const LIMIT: usize = 32 << 20;

/// A control group of that much memory, of either version; gone when dropped.
struct Group(PathBuf);

impl Group {
    /// `None`, and said so, where none can be made.
    fn new() -> Option<Group> {
        if !needs::root() {
            return None;
        }
        for (hierarchy, limit) in [("memory/", "memory.limit_in_bytes"), ("", "memory.max")] {
            let name = format!("km-memory-{}-{:?}", std::process::id(), std::thread::current().id());
            let path = Path::new("/sys/fs/cgroup").join(hierarchy).join(name);
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Group(path);
            if group.file("cgroup.procs").exists() && fs::write(group.file(limit), LIMIT.to_string()).is_ok() {
                // Each version has its own, and only a kernel that swaps has any.
                let _ = fs::write(group.file("memory.swappiness"), "0");
                let _ = fs::write(group.file("memory.swap.max"), "0");
                return Some(group);
            }
        }
        needs::that(false, "no control group with a limit on memory can be made here");
        None
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was killed in there takes its time to go.
        poll_for(DEADLINE, || fs::remove_dir(&self.0).ok());
    }
}

/// An agent of this rank in such a group, whose second collector fills it; the sizes, in KiB, that the kernel compares.
#[track_caller]
fn run_out_of_memory(group: &Group, rank: i32) -> (Agent, [u64; 2]) {
    let agent = Agent::builder().config("fake: {fill_memory_at: 2}").build();
    spawn_in(&agent, rank, &group.file("cgroup.procs"));
    let collector = agent.wait_start(1);
    agent.wait_log("a collector that is ready", |line| line.msg().contains("Everything is ready"));
    let sizes = [agent.pid(), collector].map(|pid| process::status(pid).unwrap().number("VmRSS"));
    process::signal(collector, rustix::process::Signal::TERM);
    (agent, sizes)
}

#[test]
fn when_memory_runs_out_the_kernel_takes_the_collector_and_the_agent_starts_it_again() {
    let Some(group) = Group::new() else { return };
    let (agent, _) = run_out_of_memory(&group, 0);
    agent
        .wait_log("the collector's end", |line| line.field("status") == "was killed by SIGKILL because memory ran out");
    agent.wait_start(3);
    assert_eq!(agent.exit_status(), None);
}

/// It passes its probation each time, and takes all there is then.
#[test]
fn a_config_that_runs_out_of_memory_before_it_is_confirmed_is_rolled_back() {
    let Some(group) = Group::new() else { return };
    let api = Api::plain();
    let builder = Agent::builder().api(&api).setting("min-uptime", "500ms").setting("restart-mode", "restart");
    let agent = builder.config("name: good").build();
    spawn_in(&agent, 0, &group.file("cgroup.procs"));
    wait_running(&agent, 0);
    api.answer_config(json!({"name": "greedy", "fake": {"fill_memory_after_ms": 1500}}));
    let line = agent.wait_log("a roll back", |line| line.msg() == "config rolled back");
    for words in ["3 times within confirm-time", "was killed by SIGKILL because memory ran out"] {
        assert!(line.field("problem").contains(words), "{line:?}");
        api.wait_for_request("the reason", |request| message(request).contains(words));
    }
    agent.wait_until("the good config", || agent.config() == json!({"name": "good"}));
    assert_eq!((agent.exit_status(), agent.count_log(|line| line.msg() == "config promoted")), (None, 2));
}

/// The negative control: it is the rank that decides. A debug build is larger than the stand-in.
#[test]
fn when_memory_runs_out_and_both_rank_alike_the_larger_agent_goes() {
    let Some(group) = Group::new() else { return };
    let (agent, [own, collector]) = run_out_of_memory(&group, 1000);
    if !needs::that(own >= collector, "this agent is so small that its collector goes first whatever the rank") {
        return;
    }
    assert_eq!(agent.wait_exit(), -9);
}
