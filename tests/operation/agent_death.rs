//! An agent that is killed leaves no orphan, and the next one finds its feet.

use std::fs;
use std::os::unix::process::CommandExt;

use rustix::process::Signal;
use serde_json::json;

use super::{named, quick, scripted, settled, strays, through_shell, wait_running};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::wait::holds_for;
use crate::support::{bin, machine, needs, process};

#[test]
fn the_collector_ends_with_its_agent_and_the_next_start_works() {
    let port = process::free_port();
    let config = scripted("a", json!({"health": {"port": port}}));
    let agent = settled(quick(), &config);
    assert!(process::port_answers(port));
    agent.signal(Signal::KILL);
    assert_eq!(agent.wait_exit(), -9);
    agent.wait_until("no orphan", || agent.processes().is_empty());
    // A process that ends gives up its memory, by which it is known, before its sockets.
    agent.wait_until("a free port", || !process::port_answers(port));
    assert!(agent.socket().exists(), "a killed agent cannot have removed its socket");
    assert_eq!(agent.run(["status"]).code, Some(69));

    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    assert!(process::port_answers(port));
    assert_eq!((agent.starts(), agent.run(["status"]).code), (2, Some(0)));
    assert_eq!(agent.stop(), 0);
}

/// One whose collector, and what that has started in a session of its own, ignore SIGTERM.
fn killed() -> (Agent, Vec<u32>) {
    let stubborn = scripted("a", json!({"ignore_sigterm": true, "fork": "session"}));
    let agent = settled(quick().setting("stop-timeout", "300ms"), &stubborn);
    agent.wait_until("a grandchild", || !agent.records_of("grandchild").is_empty());
    agent.signal(Signal::KILL);
    agent.wait_exit();
    let left = agent.processes();
    (agent, left)
}

#[test]
fn what_outlives_a_killed_agent_is_ended_by_the_next() {
    let (agent, left) = killed();
    assert_eq!(left.len(), 2, "the collector and its child were to outlive the agent");
    fs::write(agent.config_file(), super::yaml(&named("b"))).unwrap();
    let log = agent.log().len();
    agent.spawn();
    let said = agent
        .wait_log_after(log, "what was left behind", |line| line.msg().contains("that a killed agent left behind"));
    wait_running(&agent, log);
    let pids = said.json["pids"].to_string();
    for pid in left {
        assert!(pids.contains(&pid.to_string()) && !process::alive(pid), "{pid} is not in {pids}, or lives");
    }
    assert_eq!(agent.stop(), 0);
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    assert_eq!(
        agent.count_log(|line| line.msg().contains("that a killed agent left behind")),
        1,
        "nothing was left this time"
    );
}

/// What is no collector's and only says so: an operator's shell, say, which has copied the environment, and an agent
/// that was started there.
#[test]
fn a_process_that_only_has_the_variables_of_a_collector_is_left_alone() {
    let agent = settled(quick(), &named("a"));
    let record = agent.records_of("run")[0].clone();
    let bystander = |program: &str, instance: &str| {
        let mut command = std::process::Command::new(program);
        command.env("KM_AGENT_RUN_DIR", agent.run_dir()).env("KM_AGENT_INSTANCE", instance);
        command
    };
    let instance = record["env"]["KM_AGENT_INSTANCE"].as_str().unwrap_or_default();
    let mut bystanders = ["another", instance].map(|it| bystander("sleep", it).arg("600").spawn().unwrap());
    // In a session of its own, as a program that a shell without these variables has started.
    let far = agent.dir().join("far");
    let mut shell = std::process::Command::new("sh");
    let line = "env KM_AGENT_RUN_DIR=\"$1\" KM_AGENT_INSTANCE=\"$2\" setsid sh -c 'echo $$ >\"$0.new\"; \
                mv \"$0.new\" \"$0\"; exec sleep 600' \"$3\" & wait";
    shell.args(["-c", line, "shell"]).arg(agent.run_dir()).arg(instance).arg(&far);
    let mut shell = shell.spawn().unwrap();
    let far = agent.wait_for("a program", || fs::read_to_string(&far).ok()?.trim().parse::<u32>().ok());
    let other = quick().config(super::yaml(&named("other"))).build();
    let mut start = super::through_shell(&other, "exec setsid \"$0\" \"$@\"");
    other.spawn_command({
        start.env("KM_AGENT_INSTANCE", instance);
        start
    });
    wait_running(&other, 0);
    let others = other.wait_collector();
    // As a terminal multiplexer that such a shell has started; and the control, which has a collector's rank among what
    // the kernel kills without memory. Both have left their parent, their group and their session.
    let orphan = |name: &str, rank: &str| {
        let file = agent.dir().join(name);
        let script = format!(
            "(setsid sh -c 'echo {rank} >/proc/self/oom_score_adj; echo $$ >{0}.new; mv {0}.new {0}; exec sleep 600' &)",
            file.display()
        );
        assert!(bystander("sh", instance).args(["-c", &script]).status().unwrap().success());
        agent.wait_for("an orphan", || fs::read_to_string(&file).ok()?.trim().parse::<u32>().ok())
    };
    let (daemon, orphan) = (orphan("daemon", "0"), orphan("orphan", "300"));
    agent.signal(Signal::KILL);
    agent.wait_exit();
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    agent.wait_until("the end of what is an orphan's", || !process::alive(orphan));
    assert_eq!((other.exit_status(), other.wait_collector()), (None, others), "a living agent was ended");
    for pid in [far, daemon] {
        assert!(process::alive(pid), "{pid} was ended");
        process::signal(pid, Signal::KILL);
    }
    shell.wait().unwrap();
    for bystander in &mut bystanders {
        assert!(bystander.try_wait().unwrap().is_none(), "it was ended");
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}

/// The kernel forgets that it is to end with its agent, and lets nobody of its user see its environment.
#[test]
fn a_collector_with_capabilities_outlives_a_killed_agent_until_the_next_and_the_status_says_so() {
    if !needs::root() {
        return;
    }
    let builder = quick();
    let (program, collector) = (builder.dir().join("kmagent"), builder.dir().join("collector"));
    bin::copy_kmagent(&program);
    bin::copy_program(&bin::fake(), &collector);
    // cap_net_bind_service, permitted and effective: `struct vfs_cap_data` of linux/capability.h.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&collector, "security.capability", &capability, flags).unwrap();
    let agent = builder.collector(collector).config(super::yaml(&named("a"))).build();
    let owned = std::process::Command::new("chown").arg("-R").arg("65534:65534").arg(agent.dir()).status().unwrap();
    assert!(owned.success());
    // Which has taken them away.
    rustix::fs::setxattr(agent.dir().join("collector"), "security.capability", &capability, flags).unwrap();
    let start = || {
        let log = agent.log().len();
        let command = agent.command(["start"]);
        let mut nobody = std::process::Command::new(&program);
        nobody.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        nobody.args(command.get_args()).current_dir(agent.dir()).uid(65534).gid(65534);
        agent.spawn_command(nobody);
        wait_running(&agent, log);
    };
    start();
    let collector = agent.wait_collector();
    let status = agent.wait_status("its way", |status| status["collector"]["outlives_agent"] == true);
    assert_eq!(status["collector"]["pid"], collector);
    assert!(agent.run(["status"]).stdout.contains("outlives a killed agent"));
    agent.signal(Signal::KILL);
    assert_eq!(agent.wait_exit(), -9);
    holds_for("a collector without an agent", std::time::Duration::from_millis(500), || process::alive(collector));
    start();
    assert!(!process::alive(collector), "two collectors run");
    assert_eq!(agent.collectors().len(), 1);
    assert_eq!(agent.stop(), 0);
}

/// As root's agent with a script that gives its rights away.
#[test]
fn a_collector_that_does_not_hear_of_the_agents_end_is_said_to_outlive_it() {
    let builder = quick();
    let (wrapper, fake) = (builder.dir().join("wrapper"), bin::fake().display().to_string());
    let deaf = "trap '' TERM; echo 'info\tx\tEverything is ready.' >&2; exec sleep 600";
    bin::write_program(&wrapper, &format!("#!/bin/sh\n[ \"$1\" = --config ] || exec {fake} \"$@\"\n{deaf}\n"));
    let agent = settled(builder.setting("stop-timeout", "100ms").collector(&wrapper), &named("a"));
    assert_eq!(agent.status().unwrap()["collector"]["outlives_agent"], true);
    drop(agent);
    if !needs::root() {
        return;
    }
    let builder = quick();
    let wrapper = builder.dir().join("wrapper");
    let setpriv = "exec setpriv --reuid=65534 --clear-groups";
    bin::write_program(&wrapper, &format!("#!/bin/sh\nunset FAKE_LOG\n{setpriv} {fake} \"$@\"\n"));
    let agent = builder.collector(&wrapper).config(super::yaml(&named("a"))).build();
    let open = std::process::Command::new("chmod").arg("-R").arg("a+rX").arg(agent.dir()).status().unwrap();
    assert!(open.success());
    agent.spawn();
    wait_running(&agent, 0);
    assert_eq!(agent.status().unwrap()["collector"]["outlives_agent"], true);
}

/// Its record goes with the run directory, as at the logout of a user whose agent was killed.
#[test]
fn what_was_left_behind_is_ended_without_a_record_too() {
    let (agent, left) = killed();
    fs::remove_dir_all(agent.run_dir()).unwrap();
    fs::write(agent.config_file(), super::yaml(&named("b"))).unwrap();
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    assert_eq!((left.len(), left.into_iter().filter(|pid| process::alive(*pid)).count()), (2, 0));
}

/// Nobody waits for them then; before, such a signal ended the agent, and they lived on.
#[test]
fn a_stop_while_they_are_ended_kills_them() {
    let stubborn = scripted("a", json!({"ignore_sigterm": true}));
    let agent = settled(quick().setting("stop-timeout", "1h"), &stubborn);
    agent.signal(Signal::KILL);
    agent.wait_exit();
    let left = agent.processes();
    let log = agent.log().len();
    agent.spawn();
    agent.wait_log_after(log, "the leftover", |line| line.msg().contains("that a killed agent left behind"));
    agent.run(["status"]).fails(75, &format!("the agent (pid {}) cannot be reached", agent.pid()));
    agent.signal(Signal::USR1);
    agent.wait_log_after(log, "the signal", |line| line.msg() == "signal ignored");
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait_exit(), 0);
    assert_eq!((left.len(), left.into_iter().filter(|pid| process::alive(*pid)).count()), (1, 0));
    assert_eq!(agent.starts(), 1);
}

/// The kernel ends the script, and not what it waits for.
#[test]
fn a_collector_behind_a_script_outlives_a_killed_agent_and_the_status_says_so() {
    let builder = quick();
    let (wrapper, fake) = (builder.dir().join("wrapper"), bin::fake().display().to_string());
    let lock = builder.dir().join("lock").display().to_string();
    for (start, outlives) in [
        ("exec ".to_string(), false),
        (String::new(), true),
        ("env -i FAKE_LOG=\"$FAKE_LOG\" ".to_string(), true),
        // Which the collector has open, too.
        (format!("exec 9>{lock}; flock 9\n"), true),
    ] {
        bin::write_program(&wrapper, &format!("#!/bin/sh\n{start}{fake} \"$@\"\n"));
        let agent = settled(quick().collector(&wrapper), &named("a"));
        assert_eq!(agent.status().unwrap()["collector"]["outlives_agent"], outlives);
        assert_eq!(agent.run(["status"]).says().contains("outlives a killed agent"), outlives);
        agent.signal(Signal::KILL);
        agent.wait_exit();
        if outlives {
            agent.wait_until("the script's end", || agent.processes().len() == 1);
            holds_for("a collector without an agent", std::time::Duration::from_millis(500), || {
                agent.processes().len() == 1
            });
        } else {
            agent.wait_until("no orphan", || agent.processes().is_empty());
        }
        let log = agent.log().len();
        agent.spawn();
        wait_running(&agent, log);
        assert_eq!(agent.count_log(|line| line.msg().contains("that a killed agent left behind")), outlives as usize);
        assert_eq!((agent.stop(), agent.processes()), (0, vec![]));
    }
}

/// As if its locks had been removed, and another agent had taken the new ones.
#[test]
fn the_collector_of_an_agent_that_lives_is_no_orphan() {
    if !needs::that(machine::emulator().is_none(), "an emulator does not show processes as the kernel does") {
        return;
    }
    let agent = settled(quick(), &named("a"));
    let collector = agent.wait_collector();
    fs::remove_file(agent.run_dir().join("lock")).unwrap();
    fs::remove_file(agent.state_dir().join("lock")).unwrap();
    let mut second = agent.command(["start"]);
    let config = agent.dir().join("second.yaml");
    fs::write(&config, super::yaml(&named("b"))).unwrap();
    let mut second = second.args(["--config"]).arg(&config).stderr(std::process::Stdio::null()).spawn().unwrap();
    agent.wait_start(2);
    assert!(process::alive(collector), "a living agent's collector was ended");
    second.kill().unwrap();
    second.wait().unwrap();
}

/// As some init programs and scripts leave them to what they start.
#[test]
fn signals_that_were_ignored_or_blocked_for_the_agent_work_again() {
    let agent = quick().config(super::yaml(&named("a"))).build();
    let mut command = std::process::Command::new("python3");
    let script = "import os, signal, sys\n\
        for ignored in signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1:\n\
        \x20   signal.signal(ignored, signal.SIG_IGN)\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])\n\
        os.execv(sys.argv[1], sys.argv[1:])";
    let inner = agent.command(["start"]);
    command.args(["-c", script]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    agent.spawn_command(command);
    wait_running(&agent, 0);
    let pid = agent.wait_start(1);
    process::signal(pid, Signal::ABORT);
    let crash = agent.wait_log("the crash", |line| line.msg() == "collector exited unexpectedly");
    assert_eq!(crash.field("status"), "was killed by SIGABRT");
    let status = process::status(agent.wait_start(2)).unwrap();
    let set = |field: &str| u64::from_str_radix(status.field(field), 16).unwrap();
    assert_eq!(set("SigBlk"), 0, "the collector has signals blocked");
    // The stand-in's own library ignores SIGPIPE; the C library has 32 and 33, and lets nobody change them.
    assert_eq!(set("SigIgn") & !(1 << 12 | 1 << 31 | 1 << 32), 0, "the collector ignores signals");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn candidates_of_a_killed_agent_are_swept() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &named("a"));
    let theirs = agent.dir().join("etc/.another-program");
    fs::write(&theirs, "not ours").unwrap();
    api.answer_config(scripted("b", json!({"validate": "hang"})));
    agent.wait_until("a validation", || !agent.records_of("validate").is_empty());
    agent.signal(Signal::KILL);
    agent.wait_exit();
    agent.wait_until("neither collector nor validation", || agent.processes().is_empty());
    assert_eq!(strays(&agent).len(), 2, "no candidate was left: {:?}", strays(&agent));
    api.answer(json!({}));
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    assert_eq!(strays(&agent), [".another-program"]);
    assert_eq!(agent.config(), named("a"));
}

#[test]
fn an_agent_killed_between_stop_and_start_starts_the_new_config() {
    let api = Api::plain();
    let agent = settled(quick().api(&api), &scripted("a", json!({"drain_ms": 800})));
    api.answer_config(named("b"));
    agent.wait_log("the install", |line| line.msg() == "config installed");
    agent.signal(Signal::KILL);
    agent.wait_exit();
    let log = agent.log().len();
    agent.spawn();
    wait_running(&agent, log);
    assert_eq!(agent.config(), named("b"));
    agent.wait_until("a single collector", || agent.collectors().len() == 1);
}

#[test]
fn a_second_agent_on_the_same_run_directory_is_refused() {
    let agent = settled(quick(), &named("a"));
    let second = agent.run(["start"]);
    assert_eq!(second.code, Some(75), "{second:?}");
    assert!(second.stderr.contains("kmagent stop"), "no remedy: {}", second.stderr);
    assert_eq!((agent.starts(), agent.run(["status"]).code), (1, Some(0)));
    assert_eq!(agent.stop(), 0);
    // The control: the lock is free now.
    agent.spawn();
    agent.wait_start(2);
}

#[test]
fn without_pidfds_an_exit_is_noticed_all_the_same() {
    // pidfd_open(2) as an old kernel has it.
    let strace = "/usr/bin/strace";
    if !needs::that(std::path::Path::new(strace).exists(), "strace is missing, which makes an old kernel of this one") {
        return;
    }
    let run = |script: serde_json::Value| {
        let agent = quick().config(super::yaml(&scripted("a", script))).build();
        let trace = agent.dir().join("strace");
        let script =
            "exec strace -f -qq -e trace=pidfd_open -e inject=pidfd_open:error=ENOSYS -o \"$TRACE\" \"$0\" \"$@\"";
        let mut command = through_shell(&agent, script);
        command.env("TRACE", &trace);
        agent.spawn_command(command);
        wait_running(&agent, 0);
        process::signal(agent.wait_collector(), Signal::KILL);
        agent.wait_start(2);
        assert!(fs::read_to_string(&trace).unwrap().contains("ENOSYS"), "the system call was not refused");
        let status = agent.wait_status("its pid", |status| status["pid"].is_u64());
        process::signal(status["pid"].as_u64().unwrap() as u32, Signal::TERM);
        assert_eq!(agent.wait_exit(), 0);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(json!({})));
        // Then the end of the output tells nothing either.
        scope.spawn(|| run(json!({"close_outputs": true})));
    });
}
