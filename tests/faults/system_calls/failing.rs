//! System calls that fail, one at a time, in both threads: the agent stays, the collector runs, and all is well in the
//! end.
//!
//! Each fault strikes once, as if it went away by itself. What fails for longer is in `held`. Failing allocations
//! (mmap, brk) are left out: no Rust program survives them, and Linux answers a shortage by killing instead.
//!
//! close(2) is left out too: Linux closes the descriptor whatever it returns, and strace does not.
//!
//! `KM_LONG=1` tries every error at every point, the quick form one error, in turn, at every seventh.
//! `KM_FAULT='Install Poller fsync 1 EIO'` is for a single one, with `at_one_point`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::scenario::{Scenario, Scene};
use super::strace::{Fault, Point, Thread};
use super::{Table, assert_may_miss, each, is_long, rehearse};
use crate::support::agent::Line;

/// What a call can fail with, of what its manual page lists; nothing for calls that do not fail once they have worked,
/// and for the allocator's.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "open" | "openat" => &["ENOSPC", "EIO", "EROFS", "EACCES", "EMFILE", "ENOMEM", "EINTR"],
        "read" | "pread64" | "readv" => &["EIO", "EINTR"],
        "write" | "writev" | "pwrite64" => &["ENOSPC", "EIO", "EINTR"],
        "fsync" | "fdatasync" => &["EIO", "ENOSPC"],
        "rename" | "renameat" | "renameat2" => &["EXDEV", "EBUSY", "EIO", "EROFS", "ENOSPC", "EACCES"],
        "link" | "linkat" => &["EPERM", "EIO", "EXDEV", "EMLINK"],
        "unlink" | "unlinkat" => &["EROFS", "EIO", "EBUSY", "EACCES"],
        "mkdir" | "mkdirat" => &["EROFS", "ENOSPC", "EACCES", "EIO"],
        "chmod" | "fchmod" | "fchmodat" | "chown" | "fchown" => &["EPERM", "EROFS", "EIO"],
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" => &["EIO", "EACCES"],
        "access" | "faccessat" | "faccessat2" => &["EIO", "EACCES"],
        "fcntl" => &["EMFILE", "EINTR"],
        "kill" => &["EPERM"],
        "getdents64" | "readlink" | "readlinkat" | "getcwd" => &["EIO"],
        "flock" => &["EINTR", "ENOLCK"],
        "fork" | "vfork" | "clone" | "clone3" => &["EAGAIN", "ENOMEM"],
        "pipe" | "pipe2" | "eventfd2" | "pidfd_open" | "socketpair" => &["EMFILE", "ENFILE", "ENOMEM"],
        "pidfd_getfd" => &["EPERM", "EMFILE"],
        "waitid" | "wait4" => &["EINTR"],
        "socket" => &["EMFILE", "ENOBUFS", "EACCES"],
        "bind" | "listen" => &["EADDRINUSE", "EACCES"],
        "accept" | "accept4" => &["EMFILE", "ECONNABORTED", "EINTR", "ENOMEM"],
        "connect" => &["ECONNREFUSED", "EINTR", "ENETUNREACH", "EACCES"],
        "sendto" | "sendmsg" => &["ECONNRESET", "EPIPE", "EINTR", "ENOBUFS"],
        // The supervisor's are between the standard library and the child that it forks, where nothing else can happen.
        "recvfrom" | "recvmsg" => &["EINTR"],
        "setsockopt" | "getsockopt" | "getsockname" | "getpeername" => &["ENOPROTOOPT", "ENOMEM"],
        "poll" | "ppoll" => &["EINTR", "ENOMEM"],
        "ioctl" => &["EINTR", "ENOMEM"],
        _ => &[],
    }
}

/// So that the quick form takes a minute; prime, since calls come in pairs.
const QUICK_STRIDE: usize = 7;

/// Of an agent that a fault ends before anything is up: words, and a status of its own. 127 is the dynamic loader's,
/// where the agent under test has one.
const REFUSALS: [i32; 6] = [71, 73, 75, 77, 78, 127];

/// What a change is made of, by the lines that tell of it.
const STEPS: [&str; 3] = ["new config is valid", "config installed", "collector started"];

/// Errors that the agent itself sets right within a second or two, before the next check could report them; `held` has
/// them last. And what a newer problem, that of the scene itself, is reported instead of.
const SOON: [&str; 6] = [
    "collector not started",
    "cannot roll back",
    "cannot wait for events",
    "cannot write state",
    "cannot restore the run directory",
    "settings are invalid; using the last good",
];

/// What the agent said and did about one fault.
#[derive(Debug)]
enum Noticed {
    /// It was over before the fault struck.
    Missed,
    /// The log tells of it.
    Said,
    /// Nothing had to be done again.
    Unharmed,
}

/// A scenario as it goes without a fault: how often each line is logged, and how a change takes effect.
struct Usual(BTreeMap<String, usize>);

impl Usual {
    fn of(scene: &Scene) -> Usual {
        let mut usual = BTreeMap::new();
        for line in scene.lines().iter().filter(|line| !line.is_collector()) {
            *usual.entry(kind(line)).or_default() += 1;
        }
        Usual(usual)
    }

    /// The lines beyond that.
    fn unusual(&self, lines: Vec<Line>) -> Vec<Line> {
        let mut left = self.0.clone();
        let is_unusual = |line: &Line| match left.get_mut(&kind(line)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => !line.is_collector(),
        };
        lines.into_iter().filter(is_unusual).collect()
    }
}

fn kind(line: &Line) -> String {
    format!("{} {:.7}", line.msg(), line.field("method"))
}

#[track_caller]
fn fail_everywhere(scenario: Scenario) {
    let mut table = Table::new(&format!("failing system calls: {scenario:?}"));
    for &thread in scenario.threads() {
        let rehearsal = rehearse(scenario, thread, |call| !errors(call).is_empty());
        let usual = Usual::of(&rehearsal.scene);
        let cases = rehearsal.points.iter().enumerate().flat_map(|(index, point)| {
            let all = errors(&point.call);
            let taken = match index % QUICK_STRIDE {
                _ if is_long() => all,
                0 => &all[index / QUICK_STRIDE % all.len()..][..1],
                _ => &[],
            };
            taken.iter().map(|errno| (point.clone(), *errno))
        });
        let cases: Vec<(Point, &str)> = cases.collect();
        let said = AtomicUsize::new(0);
        let struck = each(&cases, |(point, errno)| {
            let noticed = failed_at(scenario, thread, &rehearsal.scene, &usual, point, errno);
            said.fetch_add(matches!(noticed, Noticed::Said).into(), Ordering::Relaxed);
            !matches!(noticed, Noticed::Missed)
        });
        table.row(&format!("{thread:?}: {struck} of {} calls failed, {said:?} were reported", cases.len()));
    }
}

fn failed_at(
    scenario: Scenario,
    thread: Thread,
    rehearsed: &Scene,
    usual: &Usual,
    point: &Point,
    errno: &'static str,
) -> Noticed {
    let mut scene = Scene::new(scenario);
    scene.run(thread, Some((point, Fault::Error(errno))));
    let Some(struck) = scene.trace().struck() else {
        assert_may_miss(rehearsed, &scene, point);
        scene.assert_converges();
        return Noticed::Missed;
    };
    scene.assert_whole();
    // The directory itself is everybody's current one.
    let root = scene.agent.dir();
    let paths: Vec<&Path> = struck.paths().filter(|path| path.starts_with(root) && *path != root).collect();
    let is_named = |text: &str| paths.is_empty() || paths.iter().any(|path| names(text, path, root));
    if scenario.is_check() {
        let code = scene.agent.wait_exit();
        let is_reported = scene.lines().iter().any(|line| is_named(&line.text));
        scene.assert_no_strays();
        let is_over = scene.is_over();
        assert!(is_over || REFUSALS.contains(&code) || matches!(code, 65 | 69), "{struck}: ended with {code}");
        assert!(is_over || is_reported, "{struck}: the error does not name the file");
        scene.assert_converges();
        return if is_over && !is_reported { Noticed::Unharmed } else { Noticed::Said };
    }
    scene.assert_undisturbed();
    scene.agent.wait_until("the outcome, or an end", || scene.agent.exit_status().is_some() || scene.is_over());
    if let Some(status) = scene.agent.exit_status() {
        scene.agent.wait_exit();
        let lines = scene.lines();
        let was_up = scene.old.is_some() || lines.iter().any(|line| line.msg() == "agent started");
        assert!(!was_up, "{struck}: the agent ended with {status}");
        assert!(status.code().is_some_and(|code| REFUSALS.contains(&code)), "{struck}: ended with {status}");
        let last = lines.last().map(|line| line.text.as_str()).unwrap_or_default();
        assert!(!last.is_empty() && is_named(last), "{struck}: the last word does not name the file: {last}");
        scene.assert_recovers();
        return Noticed::Said;
    }
    let unusual = usual.unusual(scene.lines());
    // A plain restart in a hand-over's place is logged with its reason.
    let is_unusual = |line: &&Line| matches!(line.level(), "warn" | "error") || line.field("method") == "restart";
    // Here an operator has changed the config, which is noticed once more when it could not be looked at.
    let is_noticed =
        |line: &&Line| scenario == Scenario::FallBack && line.msg().starts_with("config was changed by hand");
    let is_said = |line: &&Line| is_unusual(line) && !is_noticed(line);
    let said: Vec<&Line> = unusual.iter().filter(is_said).collect();
    if said.is_empty() {
        // A check that is under way when a config is rolled back may find it valid once more; then it is discarded.
        let is_checked = |line: &&Line| scenario == Scenario::LateRollBack && line.msg() == STEPS[0];
        let is_step = |line: &&Line| STEPS.contains(&line.msg()) && !is_checked(line);
        let again: Vec<&str> = unusual.iter().filter(is_step).map(|line| line.text.as_str()).collect();
        assert!(again.is_empty(), "{struck}: something was done again without a log line: {again:?}");
        scene.assert_clean();
        return Noticed::Unharmed;
    }
    assert!(said.iter().any(|line| is_named(&line.text)), "{struck}: the error does not name the file: {said:?}");
    if said.iter().any(|line| line.level() == "error" && !SOON.iter().any(|soon| line.msg().starts_with(soon))) {
        // What a check has said of the new config is over when that is rolled back, maybe before the next report.
        let is_over = |message: &str| scenario == Scenario::LateRollBack && message.contains("was rolled back");
        scene.wait_reported(&format!("{struck}: {said:?} is not reported to the API"), |message| {
            !message.is_empty() && is_named(message) || is_over(message)
        });
    }
    scene.assert_clean();
    Noticed::Said
}

/// Whether a text says where to look: it names the file, or the directory that it is in.
fn names(text: &str, path: &Path, root: &Path) -> bool {
    let directory = path.parent().filter(|parent| *parent != root).unwrap_or(path);
    text.contains(&*directory.to_string_lossy())
}

#[test]
fn at_one_point() {
    let Ok(words) = std::env::var("KM_FAULT") else { return };
    let words: Vec<&str> = words.split_whitespace().collect();
    let scenario =
        Scenario::ALL.into_iter().find(|scenario| format!("{scenario:?}") == words[0]).expect("no such scenario");
    let thread = if words[1] == "Poller" { Thread::Poller } else { Thread::Supervisor };
    let point = Point { call: words[2].to_string(), number: words[3].parse().unwrap() };
    let errno = errors(&point.call).iter().find(|errno| **errno == words[4]).expect("no such error of that call");
    let rehearsed = rehearse(scenario, thread, |_| true).scene;
    let noticed = failed_at(scenario, thread, &rehearsed, &Usual::of(&rehearsed), &point, errno);
    Table::new("a single system call").row(&format!("{scenario:?}, {thread:?}, {point:?}, {errno}: {noticed:?}"));
}

#[test]
fn during_a_bootstrap() {
    fail_everywhere(Scenario::Bootstrap);
}

#[test]
fn during_a_first_install() {
    fail_everywhere(Scenario::First);
}

#[test]
fn during_an_install() {
    fail_everywhere(Scenario::Install);
}

#[test]
fn during_a_hand_over() {
    fail_everywhere(Scenario::HandOver);
}

#[test]
fn during_a_roll_back() {
    fail_everywhere(Scenario::RollBack);
}

#[test]
fn during_a_confirmation() {
    fail_everywhere(Scenario::Confirmation);
}

#[test]
fn during_a_late_roll_back() {
    fail_everywhere(Scenario::LateRollBack);
}

#[test]
fn during_a_fall_back_at_start() {
    fail_everywhere(Scenario::FallBack);
}

#[test]
fn during_a_check_without_an_agent() {
    fail_everywhere(Scenario::Check);
}

#[test]
fn during_a_roll_back_without_an_agent() {
    fail_everywhere(Scenario::CheckRollBack);
}

/// The host's shortage says nothing about a config.
#[test]
fn an_on_change_that_cannot_be_run_is_not_held_against_the_config() {
    let forks = |call: &str| matches!(call, "fork" | "vfork" | "clone" | "clone3");
    let rehearsal = rehearse(Scenario::Check, Thread::Supervisor, forks);
    let (rehearsed, last) = (&rehearsal.scene, rehearsal.points.last().unwrap());
    let usual = Usual::of(rehearsed);
    let noticed = failed_at(Scenario::Check, Thread::Supervisor, rehearsed, &usual, last, "EAGAIN");
    assert!(matches!(noticed, Noticed::Said), "{noticed:?}");
}
