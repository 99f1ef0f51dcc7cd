//! System calls that fail, one at a time, in both threads: the agent stays, the collector runs, and all is well in the end.
//!
//! Each fault strikes once, as if it went away by itself. What fails for longer is in `held`. Failing allocations (mmap, brk)
//! are left out: no Rust program survives them, and Linux answers a shortage by killing instead.
//!
//! `KM_LONG=1` tries every error at every point, the quick form one error, in turn, at every fifth. `KM_FAULT='Install Poller fsync 1 EIO'`
//! is for a single one, with `at_one_point`.

use super::scenario::{Scenario, Scene};
use super::strace::{Fault, Point, Thread};
use super::{each, is_long, points};

/// What a call can fail with, of what its manual page lists; nothing for calls that do not fail once they have worked, and for
/// the allocator's.
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
        "setsockopt" | "getsockopt" => &["ENOPROTOOPT", "ENOMEM"],
        "poll" | "ppoll" => &["EINTR", "ENOMEM"],
        "ioctl" => &["EINTR", "ENOMEM"],
        _ => &[],
    }
}

/// So that the quick form takes a minute; prime, since calls come in pairs.
const QUICK_STRIDE: usize = 5;

/// What the agent said and did about one fault.
enum Noticed {
    /// It was over before the fault struck.
    Missed,
    /// A log line of level warn or error.
    Said,
    /// Nothing was wrong for anybody.
    Unharmed,
}

#[track_caller]
fn fail_everywhere(scenario: Scenario) {
    for &thread in scenario.threads() {
        let points = points(scenario, thread, |call| !errors(call).is_empty());
        let cases: Vec<(Point, &str)> = points
            .iter()
            .enumerate()
            .flat_map(|(index, point)| {
                let all = errors(&point.call);
                let taken = match index % QUICK_STRIDE {
                    _ if is_long() => all,
                    0 => &all[index / QUICK_STRIDE % all.len()..][..1],
                    _ => &[],
                };
                taken.iter().map(|errno| (point.clone(), *errno))
            })
            .collect();
        let struck = each(&cases, |(point, errno)| match failed_at(scenario, thread, point, errno) {
            Noticed::Missed => false,
            Noticed::Said | Noticed::Unharmed => true,
        });
        eprintln!("faults: {scenario:?}, {thread:?}: {struck} of {} calls failed", cases.len());
        assert!(struck * 10 >= cases.len() * 8, "only {struck} of {} points were met", cases.len());
    }
}

fn failed_at(scenario: Scenario, thread: Thread, point: &Point, errno: &'static str) -> Noticed {
    let mut scene = Scene::new(scenario);
    let seen = scene.agent.log().len();
    scene.run(thread, Some((point, Fault::Error(errno))));
    let struck = scene.trace().struck();
    if struck.is_empty() {
        scene.assert_converges();
        return Noticed::Missed;
    }
    scene.assert_whole();
    match scene.agent.exit_status() {
        // Before the first supervised start it may refuse, in words and with a status of its own, and the next start works.
        Some(status) if !scene.was_up => {
            // 127 is the dynamic loader's, where the agent under test has one.
            assert!(matches!(status.code(), Some(71 | 73 | 75 | 77 | 78 | 127)), "{struck}: ended with {status}");
            scene.assert_recovers();
            return Noticed::Said;
        }
        Some(status) => panic!("{struck}: the agent ended with {status}"),
        None => scene.assert_converges(),
    }
    let said = scene.agent.log()[seen..].iter().any(|line| matches!(line.level(), "warn" | "error"));
    eprintln!("fault: {scenario:?} {thread:?} {} {errno}: {}", point.number, if said { "said" } else { "quiet" });
    eprintln!("fault:     {struck}");
    if said { Noticed::Said } else { Noticed::Unharmed }
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
    match failed_at(scenario, thread, &point, errno) {
        Noticed::Missed => panic!("it was over before the fault struck"),
        Noticed::Said => eprintln!("fault: it was said"),
        Noticed::Unharmed => eprintln!("fault: nothing was wrong"),
    }
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
fn during_a_fall_back_at_start() {
    fail_everywhere(Scenario::FallBack);
}
