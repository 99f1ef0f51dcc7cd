//! Whom the kernel takes first when memory runs out.

use std::fs;
use std::os::unix::process::CommandExt;

use crate::support::agent::Agent;
use crate::support::bin;
use crate::support::process;

fn rank(pid: u32) -> i32 {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
}

/// An agent that starts with this rank, which is at least the test's own.
#[track_caller]
fn spawn_ranked(agent: &Agent, rank: i32) -> u32 {
    let inner = agent.command(["start"]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", r#"echo "$0" >/proc/self/oom_score_adj && exec "$@""#]).arg(rank.to_string());
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
