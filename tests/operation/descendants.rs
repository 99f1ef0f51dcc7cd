//! What a collector, or a command of the agent's, starts in the background: whatever it does to get away, it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::{message, named, quick, scripted, settled, wait_running};
use crate::support::agent::{Agent, Builder};
use crate::support::api::Api;
use crate::support::wait::{holds_for, wait_until};
use crate::support::{bin, process};

/// A wrapper of the stand-in that leaves a process behind first, which nothing ties to it: another parent, another
/// session, no environment. Its number is in a file with the name of what the collector was asked for.
fn wrapper(builder: &Builder) -> PathBuf {
    let (wrapper, dir) = (builder.dir().join("wrapper"), builder.dir().display().to_string());
    let fake = bin::fake().display().to_string();
    let script = format!(
        "#!/bin/sh\n\
         case $1 in validate) role=validate;; --version) role=version;; *) role=run;; esac\n\
         left={dir}/$role.$$\n\
         (setsid env -i /bin/sh -c 'echo $$ >$0.new; mv $0.new $0; exec sleep 600' \"$left\" </dev/null >/dev/null 2>&1 &)\n\
         until [ -e \"$left\" ]; do sleep 0.01; done\n\
         exec {fake} \"$@\"\n"
    );
    bin::write_program(&wrapper, &script);
    wrapper
}

/// The processes that were left behind, whether they live or not.
fn left(dir: &Path, role: &str) -> Vec<u32> {
    let names = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    let files = names.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(role).is_some_and(|rest| rest.starts_with('.') && !rest.ends_with(".new"))
    });
    files.map(|path| fs::read_to_string(path).unwrap().trim().parse().unwrap()).collect()
}

fn settled_with_wrapper(builder: Builder) -> Agent {
    let wrapper = wrapper(&builder);
    settled(builder.collector(wrapper), &named("a"))
}

#[test]
fn what_a_collector_leaves_ends_before_the_next_one_starts_and_at_a_stop() {
    let agent = settled_with_wrapper(quick());
    let [first] = left(agent.dir(), "run")[..] else { panic!("{:?}", left(agent.dir(), "run")) };
    assert_eq!(process::parent(first), Some(agent.pid()), "it is not orphaned");
    process::signal(agent.wait_collector(), Signal::KILL);
    agent.wait_start(2);
    assert!(!process::alive(first), "it lives beside the next collector");
    agent.wait_log("what was ended", |line| line.msg() == "killed processes that a child left behind");
    let left = left(agent.dir(), "run");
    assert_eq!((left.len(), agent.stop()), (2, 0));
    assert!(!left.into_iter().any(process::alive), "it outlived a stop");
}

#[test]
fn what_a_validation_leaves_ends_with_it_and_what_the_collector_has_started_does_not() {
    let api = Api::plain();
    let agent = settled_with_wrapper(quick().api(&api));
    let own = left(agent.dir(), "run");
    api.answer_config(scripted("b", json!({"validate": "fail"})));
    agent.wait_log("a refusal", |line| line.msg().contains("new config rejected"));
    for role in ["validate", "version"] {
        agent.wait_until("a process that was left", || !left(agent.dir(), role).is_empty());
        agent.wait_until("its end", || !left(agent.dir(), role).into_iter().any(process::alive));
    }
    assert!(own.len() == 1 && own.into_iter().all(process::alive), "the collector's own was ended");
    // A check alone, too.
    assert_eq!(agent.stop(), 0);
    api.answer_config(scripted("c", json!({"validate": "fail"})));
    assert_eq!(agent.run(["--check"]).code, Some(65));
    assert!(left(agent.dir(), "validate").len() >= 2);
    assert!(!left(agent.dir(), "validate").into_iter().any(process::alive));
}

/// Where init has no supervisor it is the collector itself that `on-change` starts.
#[test]
fn what_on_change_starts_stays() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let pid = builder.dir().join("service");
    let service = format!(
        "(setsid env -i sh -c 'echo $$ >{0}; exec sleep 600' >/dev/null 2>&1 &); until [ -s {0} ]; do sleep 0.01; done",
        pid.display()
    );
    let agent = builder.setting("on-change", service).config(super::yaml(&named("a"))).build();
    api.answer_config(named("b"));
    assert_eq!(agent.run(["--check"]).code, Some(0));
    let service: u32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    assert!(process::alive(service));
    process::signal(service, Signal::KILL);
}

/// Nothing wakes the agent for it but its end.
#[test]
fn what_was_adopted_and_ends_leaves_no_zombie() {
    let agent = settled_with_wrapper(quick());
    let left = left(agent.dir(), "run");
    assert_eq!(left.len(), 1);
    holds_for("a quiet agent", Duration::from_millis(500), || process::status(left[0]).is_some());
    process::signal(left[0], Signal::KILL);
    wait_until("its reaping", || process::status(left[0]).is_none());
    // The collector's own end is still known.
    process::signal(agent.wait_collector(), Signal::ABORT);
    let crash = agent.wait_log("the crash", |line| line.msg() == "collector exited unexpectedly");
    assert_eq!(crash.field("status"), "was killed by SIGABRT");
    let log = agent.log().len();
    wait_running(&agent, log);
}

/// As the leader of its group setsid(1) forks, and its parent ends at once.
#[test]
fn a_script_that_puts_the_collector_in_the_background_is_told_so() {
    let api = Api::plain();
    let builder = quick().api(&api);
    let (wrapper, fake) = (builder.dir().join("wrapper"), bin::fake().display().to_string());
    let script = |run: &str| format!("#!/bin/sh\n[ \"$1\" = --config ] || exec {fake} \"$@\"\n{run} {fake} \"$@\"\n");
    bin::write_program(&wrapper, &script("exec setsid"));
    let agent = builder.collector(&wrapper).config("name: a").spawn();
    let remedy = "must run it by exec, or wait for it (setsid --wait, no &)";
    let line = agent.wait_log("the exit", |line| line.msg() == "collector exited unexpectedly");
    assert_eq!(line.field("status"), "exited with status 0");
    assert!(line.field("remedy").ends_with(remedy), "{line:?}");
    let status = agent.wait_status("backoff", |status| status["collector"]["state"] == "backoff");
    assert!(status["last_error_message"].as_str().unwrap().contains(remedy), "{status}");
    api.wait_for_request("the remedy", |request| message(request).contains(remedy));
    // What it says helps.
    let seen = agent.log().len();
    bin::write_program(&wrapper, &script("exec setsid --wait"));
    wait_running(&agent, seen);
    assert_eq!((agent.stop(), agent.processes()), (0, vec![]));
}
