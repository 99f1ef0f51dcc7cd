//! Faults that last, until they are lifted: the collector keeps running, the error names its remedy and reaches the API
//! where that can be asked at all, a crash amid it is repaired at the latest when it is over, and then all heals by
//! itself.
//!
//! Disks that are really full or read-only are in `operation::disk`.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::{Value, json};

use super::scenario::{better, dying, good, read};
use super::strace::{Thread, Trace};
use crate::operation::{message, settled, yaml};
use crate::support::agent::Agent;
use crate::support::api::Api;
use crate::support::generations::{list, standing};
use crate::support::process;
use crate::support::wait::holds_for;

/// An agent whose collector has proved itself.
fn settle(api: &Api, mode: &str) -> Agent {
    let builder = Agent::builder().api(api).setting("min-uptime", "300ms").setting("log-level", "info");
    settled(builder.setting("restart-mode", mode), &good())
}

fn is_active(agent: &Agent, config: &Value) -> bool {
    read(&agent.config_file()).as_ref() == Some(config) && agent.proved_config() == *config
}

/// The fault is over: the new config becomes active, a collector runs it, and no problem is reported.
#[track_caller]
fn assert_heals(agent: &Agent, api: &Api) {
    agent.wait_until("the new config", || is_active(agent, &better()));
    agent.wait_status("all well", |status| {
        status["collector"]["state"] == "running" && status["last_error_message"] == ""
    });
    let seen = api.requests().len();
    api.wait_for_request_after(seen, "no problem", |request| message(request).is_empty());
    agent.wait_collector();
    assert_eq!(agent.stop(), 0);
}

/// The time that the agent has computed, in hundredths of a second (proc_pid_stat(5): utime and stime).
fn computed(agent: &Agent) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Asserts that the agent sleeps most of the time, and the collector runs meanwhile.
#[track_caller]
fn assert_idle(agent: &Agent) {
    let (before, collector) = (computed(agent), agent.wait_collector());
    holds_for("the collector runs", Duration::from_secs(2), || process::alive(collector));
    let ticks = computed(agent) - before;
    assert!(ticks < 50, "it computed for {ticks} hundredths of 2 s");
}

fn crash(agent: &Agent) {
    process::signal(agent.wait_collector(), Signal::KILL);
}

/// Sets the limit on open files; returns the former one.
fn limit_files(agent: &Agent, limit: Rlimit) -> Rlimit {
    rustix::process::prlimit(Pid::from_raw(agent.pid() as i32), Resource::Nofile, limit).unwrap()
}

/// The lowest descriptor that is not open, which is the next one that the system would give; `None` for who may not
/// look.
fn next_descriptor(agent: &Agent) -> Option<u64> {
    let open = |number: &u64| fs::symlink_metadata(format!("/proc/{}/fd/{number}", agent.pid())).is_ok();
    process::descriptors(agent.pid())?;
    (0..).find(|number| !open(number))
}

#[test]
fn without_descriptors_nothing_spins_and_all_heals() {
    let api = Api::plain();
    let agent = settle(&api, "restart");
    // The poller answers when it has closed what it has written.
    assert_eq!(agent.run(["--check"]).code, Some(0));
    agent.status();
    let Some(next) = next_descriptor(&agent) else { return };
    let former = limit_files(&agent, Rlimit { current: Some(next), ..rustix::process::getrlimit(Resource::Nofile) });
    api.answer_config(better());
    // It waits to be accepted, which poll(2) tells again and again.
    let client = UnixStream::connect(agent.socket()).unwrap();
    let says = |words: &'static str| agent.wait_log(words, move |line| line.text.contains(words));
    says("cannot accept a control connection (raise the limit on open files)");
    assert_idle(&agent);
    assert_eq!((agent.starts(), read(&agent.config_file())), (1, Some(good())));
    says("config check failed");
    crash(&agent);
    let report = agent.wait_log("the crash's remedy", |line| line.msg() == "collector not started");
    assert!(report.field("problem").contains("(raise the limit on open files)"), "{report:?}");
    assert_eq!(agent.exit_status(), None);

    limit_files(&agent, former);
    drop(client);
    assert_heals(&agent, &api);
}

/// The lock is held and the socket is answered all the same: nothing is made anew that is only not seen.
#[test]
fn a_run_directory_that_cannot_be_looked_at_is_reported_and_stays_as_it_is() {
    let api = Api::plain();
    let agent = settle(&api, "restart");
    let held = Trace::hold(&agent, "lstat,newfstatat", "EIO", Some(&agent.run_dir().join("lock")));
    let report = api.wait_for_request("the problem", |request| message(request).contains("lock in the run directory"));
    assert_eq!(report.json()["collector_status"], "Running");
    assert!(!message(&report).contains("another kmagent"), "{report:?}");
    assert_eq!(agent.status().unwrap()["pid"], agent.pid());
    drop(held);
    api.answer_config(better());
    assert_heals(&agent, &api);
    assert_eq!(agent.count_log(|line| line.msg().starts_with("run directory was cleaned")), 0);
}

#[test]
fn without_processes() {
    let api = Api::plain();
    let agent = settle(&api, "restart");
    let pid = agent.wait_collector();
    let held = Trace::hold(&agent, "clone,clone3,fork,vfork", "EAGAIN", None);
    api.answer_config(better());
    let report =
        api.wait_for_request("the problem", |request| message(request).contains("raise the limit on processes"));
    assert_eq!(report.json()["collector_status"], "Running");
    assert_eq!((agent.wait_collector(), agent.starts()), (pid, 1));
    let seen = api.requests().len();
    crash(&agent);
    api.wait_for_request_after(seen, "the crash", |request| {
        request.json()["collector_status"] == "Stopped" && message(request).contains("raise the limit on processes")
    });
    drop(held);
    assert_heals(&agent, &api);
}

/// The candidate cannot be synced, or not be put in place; a crash amid it needs no disk.
#[test]
fn with_a_disk_that_fails() {
    for (calls, errno, remedy) in [
        ("fsync,fdatasync", "EIO", "(os error 5)"),
        ("fsync,fdatasync", "ENOSPC", "free some space"),
        ("rename,renameat,renameat2", "EIO", "(os error 5)"),
        ("rename,renameat,renameat2", "EROFS", "remount the file system read-write"),
    ] {
        let api = Api::plain();
        let agent = settle(&api, "restart");
        let held = Trace::hold(&agent, calls, errno, None);
        api.answer_config(better());
        // With its path; the agent's state, which cannot be written either, may be reported before.
        api.wait_for_request(errno, |request| message(request).contains(remedy) && message(request).contains("/etc/"));
        assert_eq!((agent.starts(), is_active(&agent, &good())), (1, true), "{calls}: {errno}");
        crash(&agent);
        agent.wait_start(2);
        agent.wait_collector();
        assert!(is_active(&agent, &good()), "{calls}: {errno}");
        drop(held);
        assert_heals(&agent, &api);
    }
}

/// ppoll(2) is what waits for processes and people; a connection to the API is waited for with poll(2). No log line
/// comes out either, since nobody tells whether it can be written.
#[test]
fn with_a_poll_that_has_no_memory_everything_is_looked_at_all_the_same() {
    let api = Api::plain();
    let agent = settle(&api, "restart");
    let held = Trace::hold(&agent, "ppoll", "ENOMEM", None);
    assert!(agent.status().is_some());
    assert_idle(&agent);
    crash(&agent);
    agent.wait_start(2);
    api.answer_config(better());
    agent.wait_until("the new config", || is_active(&agent, &better()));
    assert!(held.has_struck());
    drop(held);
    assert_heals(&agent, &api);
}

/// A command that is run to its end is not killed because nobody tells of that.
#[test]
fn a_check_whose_poll_has_no_memory_installs() {
    let api = Api::plain();
    api.answer_config(better());
    let builder = Agent::builder().api(&api).config(yaml(&good()));
    let agent = builder.setting("on-change", "sleep 0.3").build();
    let output = Trace::held_command(&agent, &["--check"], "ppoll", "ENOMEM").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read(&agent.config_file()), Some(better()));
}

/// The config that was replaced has another name beside it until the new one has proved itself, so nothing is read.
#[test]
fn with_a_generation_that_cannot_be_read_what_was_replaced_is_restored_all_the_same() {
    let api = Api::plain();
    let agent = settle(&api, "restart");
    agent.wait_until("a config to go back to", || is_active(&agent, &good()));
    let kept = agent.state_dir().join("generations/1.yaml");
    let held = Trace::hold(&agent, "open,openat", "EIO", Some(&kept));
    api.answer_config(dying());
    agent.wait_log("the roll back", |line| line.msg().starts_with("config rolled back"));
    agent.wait_until("the former config", || read(&agent.config_file()) == Some(good()));
    drop(held);
    agent.wait_status("a collector", |status| status["collector"]["state"] == "running");
    api.wait_for_request("the reason", |request| {
        message(request).contains("rejected: the collector exited with status 3")
    });
    assert!(is_active(&agent, &good()));
    assert_eq!(agent.stop(), 0);
}

/// The only config that a late roll back could go to cannot be read.
#[test]
fn with_a_generation_that_cannot_be_read_a_late_roll_back_waits() {
    let api = Api::plain();
    let agent = settle(&api, "restart");
    agent.wait_until("a config to go back to", || is_active(&agent, &good()));
    let late = json!({"fake": {"start": {"exit": 4, "after_ms": 900}}});
    let kept = agent.state_dir().join("generations/1.yaml");
    api.answer_config(late.clone());
    agent.wait_until("a config that has passed its probation", || is_active(&agent, &late));
    let held = Trace::hold(&agent, "open,openat", "EIO", Some(&kept));
    let report = api.wait_for_request("the problem", |request| message(request).contains("cannot restore"));
    assert!(message(&report).contains("/state/generations/1.yaml"), "no path: {}", message(&report));
    assert_eq!((agent.exit_status(), read(&agent.config_file())), (None, Some(late)));
    drop(held);
    agent.wait_until("the roll back", || read(&agent.config_file()) == Some(good()));
    agent.wait_status("a collector", |status| status["collector"]["state"] == "running");
    api.wait_for_request("the reason", |request| message(request).contains("exited with status 4"));
    assert_eq!(agent.stop(), 0);
}

/// The new config is there, whatever became of the sync.
#[test]
fn a_directory_that_cannot_be_synced_after_the_rename_is_no_failed_install() {
    let api = Api::plain();
    let agent = settle(&api, "restart");
    let etc = agent.config_file().parent().map(Path::to_path_buf);
    let held = Trace::hold(&agent, "fsync", "EIO", etc.as_deref());
    api.answer_config(better());
    agent.wait_until("the new config", || is_active(&agent, &better()));
    let said = agent.wait_log("the warning", |line| line.msg().starts_with("file replaced but not synced"));
    assert!(said.text.contains("/etc/config.yaml"), "{said:?}");
    assert_eq!(agent.count_log(|line| line.msg() == "config installed"), 1);
    agent.wait_status("all well", |status| {
        status["last_error_message"] == "" && status["collector"]["state"] == "running"
    });
    assert_eq!(agent.starts(), 2);
    drop(held);
    assert_heals(&agent, &api);
}

/// A disk that stalls must not keep a collector waiting: what is decided while one lives is written by the poller.
#[test]
fn the_supervisor_waits_for_no_disk_while_a_collector_lives() {
    for config in [better(), dying()] {
        let api = Api::plain();
        let agent = settle(&api, "handover");
        agent.wait_until("a config to go back to", || is_active(&agent, &good()));
        let trace = Trace::attach(&agent, Thread::Supervisor, None);
        let seen = agent.log().len();
        api.answer_config(config.clone());
        let verdict = if config == better() { "config promoted" } else { "config rolled back" };
        agent.wait_log_after(seen, verdict, |line| line.msg() == verdict);
        api.wait_for_request_after(api.requests().len(), "a poll", |_| true);
        let synced: Vec<_> = trace.points().into_iter().filter(|point| point.call.contains("sync")).collect();
        let is_by_hand_over = agent.log()[seen..].iter().any(|line| line.field("method") == "hand-over");
        // Where there is no hand-over the roll back comes when the collector has exited.
        assert!(synced.is_empty() || !is_by_hand_over, "{synced:?}");
        assert!(trace.points().iter().any(|point| point.call.starts_with("rename")), "nothing was seen");
        let kept = || list(&agent.state_dir()).iter().any(|it| standing(it) == "rolled-back");
        agent.wait_until("the verdict on disk", || agent.proved_config() == config || kept());
        drop(trace);
        assert_eq!(agent.stop(), 0);
    }
}

/// The standard library panics there.
#[test]
fn a_directory_that_cannot_be_closed_is_no_end() {
    let api = Api::plain();
    let agent = settle(&api, "restart");
    for dir in [agent.dir().join("etc"), agent.state_dir()] {
        let held = Trace::hold(&agent, "close", "EIO", Some(&dir));
        assert_eq!(agent.stop(), 0, "{}", dir.display());
        assert!(held.has_struck());
        drop(held);
        agent.spawn();
        agent.wait_until("the control socket", || agent.socket().exists());
    }
}

#[test]
fn a_second_collector_that_cannot_be_watched_is_not_held_against_its_config() {
    let api = Api::plain();
    let agent = settle(&api, "handover");
    let held = Trace::hold(&agent, "recvmsg", "EMFILE", None);
    let seen = api.requests().len();
    api.answer_config(better());
    api.wait_for_request_after(seen, "why there is no hand-over", |request| {
        message(request).contains("hand-over failed")
    });
    drop(held);
    assert_heals(&agent, &api);
    assert!(!agent.state_dir().join("rejected.json").exists());
}
