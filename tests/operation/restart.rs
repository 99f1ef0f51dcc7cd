//! `restart`: the collector is replaced without a new config, and the verdict is told.

use std::fs;
use std::thread;

use rustix::process::Signal;
use serde_json::json;

use super::{identity, named, quick, scripted, settled, wait_running, yaml};
use crate::support::bin;
use crate::support::process;

#[test]
fn the_collector_is_replaced_and_the_verdict_is_told() {
    let agent = settled(quick(), &named("a"));
    let (old, file) = (agent.wait_collector(), identity(&agent.config_file()));
    let output = agent.run(["restart"]);
    assert!(output.says().starts_with("collector restarted, by "), "{output:?}");
    let new = agent.wait_start(2);
    agent.wait_until("the new one alone", || agent.collectors() == [new]);
    assert!(!process::alive(old));
    // It was not told before the probation.
    wait_running(&agent, 0);
    let status = agent.status().unwrap();
    assert_eq!((status["collector"]["restarts"].as_u64(), identity(&agent.config_file())), (Some(1), file));
    assert_eq!(status["config"]["changed_by"], json!(null));
}

/// Its program is looked at first, and asked; what runs stays.
#[test]
fn a_collector_that_would_not_start_is_not_waited_for() {
    let builder = quick();
    let program = builder.dir().join("otelcol");
    bin::copy_program(&bin::fake(), &program);
    let agent = settled(builder.collector(&program), &named("a"));
    let running = agent.wait_collector();
    fs::remove_file(&program).unwrap();
    agent.run(["restart"]).fails(69, "does not exist");
    bin::write_program(&program, "#!/bin/sh\necho 'Error: invalid configuration' >&2; exit 1\n");
    agent.run(["restart"]).fails(65, "the collector rejects the active config");
    assert_eq!((agent.wait_collector(), agent.starts()), (running, 1));
    // A new one that does is taken up.
    fs::remove_file(&program).unwrap();
    bin::copy_program(&bin::fake(), &program);
    agent.run(["restart"]).says();
    assert_eq!(agent.starts(), 2);
}

/// The config is as good as before, so it stays, and is no rejected one.
#[test]
fn a_new_program_that_fails_is_told_and_rolls_nothing_back() {
    let builder = quick();
    let program = builder.dir().join("otelcol");
    bin::copy_program(&bin::fake(), &program);
    let agent = settled(builder.collector(&program), &named("a"));
    fs::remove_file(&program).unwrap();
    bin::write_program(&program, "#!/bin/sh\n[ \"$1\" = validate ] && exit 0; echo a new bug >&2; exit 3\n");
    agent.run(["restart"]).fails(69, "a new bug");
    let status = agent.status().unwrap();
    assert_eq!((&agent.config(), &status["config"]["rejected_revision"]), (&named("a"), &json!(null)));
    fs::remove_file(&program).unwrap();
    bin::copy_program(&bin::fake(), &program);
    agent.run(["restart"]).says();
}

#[test]
fn without_a_config_there_is_nothing_to_restart() {
    let agent = quick().spawn();
    agent.wait_status("no collector", |status| status["collector"]["state"] == "stopped");
    agent.run(["restart"]).fails(69, "there is no collector config");
    // One that waits for its next start is started at once.
    let agent = quick().config(yaml(&scripted("a", json!({"start": {"exit": 1, "times": 4}})))).spawn();
    agent.wait_start(4);
    agent.wait_status("backoff", |status| status["collector"]["state"] == "backoff");
    assert_eq!(agent.run(["restart"]).says(), "collector restarted, by start\n");
}

/// On probation it is not cut short, or its verdict would be lost.
#[test]
fn several_at_once_and_one_on_probation_are_waited_for() {
    let agent = quick().config(yaml(&named("a"))).spawn();
    agent.wait_start(1);
    thread::scope(|scope| {
        let restarts: Vec<_> = (0..4).map(|_| scope.spawn(|| agent.run(["restart"]))).collect();
        for restart in restarts {
            assert!(restart.join().unwrap().says().starts_with("collector restarted, by "));
        }
    });
    assert!((2..=5).contains(&agent.starts()), "{}", agent.starts());
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit(), 0);
}

/// Who waits learns that there will be no verdict.
#[test]
fn an_agent_that_ends_meanwhile_is_told() {
    let agent = settled(quick(), &named("a"));
    let settings = fs::read_to_string(agent.settings_file()).unwrap();
    fs::write(agent.settings_file(), settings.replace("min-uptime: 500ms", "min-uptime: 1m")).unwrap();
    agent.run(["reload"]).says();
    let output = thread::scope(|scope| {
        let restart = scope.spawn(|| agent.run(["restart"]));
        agent.wait_start(2);
        assert_eq!(agent.stop(), 0);
        restart.join().unwrap()
    });
    output.fails(69, "the agent ended just now");
}
